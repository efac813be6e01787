"""JSON, YAML and literals in the cells of tables, from elsewhere: bounded in size, depth and what they expand to."""

import ast
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from zootool.errors import FormatError, UntrustedError, printable, quoted
from zootool.untrusted.byte_source import FileSource, read_bounded
from zootool.validation import read_yaml, yaml_problem

_MAX_JSON_BYTES = 64 << 20
_MAX_JSON_GROUPS = 500_000
_MAX_LINE_BYTES = 1 << 20
_MAX_YAML_BYTES = 1 << 16
_MAX_YAML_VALUES = 10_000
_MAX_DEPTH = 64
_MAX_LITERAL_CHARS = 10_000
_MAX_LITERAL_DEPTH = 32


def parse_json(content: bytes, where: str, *, max_bytes: int = _MAX_JSON_BYTES, max_depth: int = _MAX_DEPTH) -> Any:
    """The value of a JSON text in UTF-8. Raises FormatError for one that is broken, too large or too deep."""
    if len(content) > max_bytes:
        raise FormatError(f"{where} has {len(content)} bytes, at most {max_bytes} are read")
    # Empty lists take most memory for their bytes. Brackets and commas within texts count too, which does no harm.
    if content.count(b"[") + content.count(b"{") > _MAX_JSON_GROUPS or content.count(b",") > 4 * _MAX_JSON_GROUPS:
        raise FormatError(f"{where} holds too many values")
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise FormatError(f"{where} is no readable JSON: {printable(error)}", hint="get it again") from error
    except RecursionError as error:
        raise FormatError(f"{where} is nested more than {max_depth} deep, so it is no readable JSON") from error
    level = [value]
    for _ in range(max_depth + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return value
        level = [item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer)]
    raise FormatError(f"{where} is nested more than {max_depth} deep")


def read_json(path: Path, *, max_bytes: int = _MAX_JSON_BYTES) -> Any:
    """The value of a JSON file. Raises MissingError and FormatError."""
    return parse_json(*read_bounded(path, max_bytes), max_bytes=max_bytes)


def read_json_lines(path: Path, *, max_line_bytes: int = _MAX_LINE_BYTES) -> Iterator[Any]:
    """The value of each line of a file, empty ones left out. Raises MissingError and FormatError."""
    shown = FileSource(path).shown
    with path.open("rb") as file:
        number = 0
        while line := file.readline(max_line_bytes + 1):
            number += 1
            if line.strip() or len(line) > max_line_bytes:
                yield parse_json(line, f"{shown} line {number}", max_bytes=max_line_bytes)


def read_untrusted_yaml(path: Path) -> Any:
    """The plain values of a YAML file from elsewhere, as `read_yaml` gives them.

    Raises UntrustedError for tags, which name types to make, and FormatError for a broken file, one that is too
    large, and one whose aliases expand to too much.
    """
    content, shown = read_bounded(path, _MAX_YAML_BYTES)
    try:
        text = content.decode("utf-8")
        _check_brackets(text, shown, _MAX_DEPTH, "[{", "]}")
        for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            if number > 2 * _MAX_YAML_VALUES:
                raise FormatError(f"{shown} expands to more than {_MAX_YAML_VALUES} values")
            if getattr(event, "tag", None) is not None:
                raise UntrustedError(f"{shown} has the tag {printable(event.tag, 80)}", hint="write plain values")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _count_values(root, {}, shown, 0)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{shown} is not readable YAML: {yaml_problem(error)}", hint="correct it") from error
    return read_yaml(path)


def parse_literal(text: str, where: str, *, max_chars: int = _MAX_LITERAL_CHARS) -> Any:
    """The number, text, tuple, list or dict that `text` spells, such as `(3, 3, 1, 16)`: parsed, never evaluated.

    `where` names the cell in errors. Raises FormatError for anything else, such as a formula or a call, and for what
    is too long or too deep.
    """
    if len(text) > max_chars:
        raise FormatError(f"{where} has {len(text)} characters, at most {max_chars} are read")
    _check_brackets(text, where, _MAX_LITERAL_DEPTH, "([{", ")]}")
    try:
        with warnings.catch_warnings():
            # An escape that Python doesn't know is the text's own affair.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise FormatError(f"{where} is {quoted(text, 80)}, which is no plain value") from error


def _check_brackets(text: str, where: str, max_depth: int, opening: str, closing: str) -> None:
    """Refuse deep brackets before a parser meets them: YAML's takes quadratic time over them."""
    depth = 0
    for character in text:
        depth = max(depth + (character in opening) - (character in closing), 0)
        if depth > max_depth:
            raise FormatError(f"{where} is nested more than {max_depth} deep")


def _count_values(node: yaml.Node, counts: dict[int, int | None], shown: str, depth: int) -> int:
    """How many values `node` is when every alias is written out."""
    if id(node) in counts:
        known = counts[id(node)]
        if known is None:
            raise FormatError(f"{shown} has a value that holds itself")
        return known
    if depth > _MAX_DEPTH:
        raise FormatError(f"{shown} is nested more than {_MAX_DEPTH} deep")
    counts[id(node)] = None
    children = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
    inner = children if isinstance(node, yaml.CollectionNode) else []
    total = 1 + sum(_count_values(child, counts, shown, depth + 1) for child in inner)
    if total > _MAX_YAML_VALUES:
        raise FormatError(f"{shown} expands to more than {_MAX_YAML_VALUES} values")
    counts[id(node)] = total
    return total
