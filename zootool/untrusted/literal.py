"""Python literals in the cells of tables, such as `(3, 3, 1, 16)`: parsed, never evaluated."""

import ast
import warnings
from typing import Any

from zootool.errors import FormatError, quoted

_MAX_CHARS = 10_000
_MAX_DEPTH = 32


def parse_literal(text: str, where: str, *, max_chars: int = _MAX_CHARS) -> Any:
    """The number, text, tuple, list or dict that `text` spells. `where` names the cell in errors.

    Raises FormatError for anything else, such as a formula or a call, and for what is too long or too deep.
    """
    if len(text) > max_chars:
        raise FormatError(f"{where} has {len(text)} characters, at most {max_chars} are read")
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth > _MAX_DEPTH:
            raise FormatError(f"{where} is nested more than {_MAX_DEPTH} deep")
    try:
        with warnings.catch_warnings():
            # An escape that Python doesn't know is the text's own affair.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise FormatError(f"{where} is {quoted(text, 80)}, which is no plain value") from error
