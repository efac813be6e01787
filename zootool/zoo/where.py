"""Conditions in text: `psnr > 40 and split == 'test'`, or the short form `split=test,label=3|5`.

Python's own parser reads the long form; nothing of it is ever run. What it may hold is listed here, anything else is
refused: comparisons, ranges, `in`, `is null`, `and`, `or`, `not`.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from zootool.columns.values import is_bytes
from zootool.errors import UsageError, did_you_mean, printable
from zootool.zoo.conditions import Conditions, joined, negated

if TYPE_CHECKING:
    from zootool.zoo.zoo import Zoo

_MAX_CHARACTERS = 20_000
_MAX_DEPTH = 50
_LAST = "last"
_BOOLEANS = {"true": True, "false": False}
_NULLS = ("null", "none")
_SHORT = re.compile(r"[^=<>!'\"()\[\]`]*[^\s=<>!'\"()\[\]`]\s*=(?!=)")
_LONG_SIGNS = re.compile(r"\s(and|or|in|is|not)\s|[=<>'\"]")
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`([^`]+)`")
_SIGNS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_EXAMPLE = "write it like psnr > 40 and split == 'test', or short: split=test,label=3|5"
_ALIKE = ((r"&&?", "and"), (r"\|\|?", "or"), (r"\bAND\b", "and"), (r"\bOR\b", "or"), (r"\bNOT\b", "not"),
          (r"<>|≠|=!", "!="), (r"!(?!=)", "not"), (r"\bIS\b", "is"), (r"\bIN\b", "in"), (r"≥|=>", ">="),
          (r"≤|=<", "<="), (r"===", "=="), ("[\u2018\u2019\u201c\u201d]", "'"),
          (r"(?<![=<>!])=(?![=<>!])", "=="))  # fmt: skip


def where(zoo: "Zoo", text: str) -> tuple[pa.Array, bool, list[str]]:
    """Which selected networks meet the conditions, whether each run's last is meant, and remarks on absent values.

    Where the first sign of comparison is a single `=`, the text is of the short form: `column=value|value`, separated
    by commas, an empty value for missing. `last=true`, or `last` joined by `and`, asks for each run's last checkpoint
    of those that are left. Raises UsageError for what can't be read or never be true.
    """
    if not isinstance(text, str):
        raise UsageError(f"where is a text, got {type(text).__name__}", hint=_EXAMPLE)
    if not text.strip() or len(text) > _MAX_CHARACTERS:
        raise UsageError(f"where has {len(text):,} characters, wanted is a condition", hint=_EXAMPLE)
    conditions = Conditions(zoo, is_strict=True)
    found, last = (_read_short if _SHORT.match(text) else _read_long)(conditions, text)
    keep = joined("and", found) if found else pa.array([True] * len(zoo), pa.bool_())
    return keep, last, conditions.remarks


def _read_short(conditions: Conditions, text: str) -> tuple[list[pa.Array], bool]:
    found: dict[str, pa.Array] = {}
    last = False
    for word in text.split(","):
        name, equals, values = (part.strip() for part in word.partition("="))
        if not equals or not name or name in found:
            raise UsageError(f"can't read the condition {printable(word.strip(), 60)!r}", hint=_EXAMPLE)
        if name == _LAST and _LAST not in conditions.names:
            if values.lower() not in _BOOLEANS:
                raise UsageError(f"last={printable(values, 60)} is neither true nor false", hint="write last=true")
            last = _BOOLEANS[values.lower()]
            continue
        if name not in conditions.names:
            raise _no_column(conditions, name)
        try:
            if values == "":
                found[name] = conditions.missing(name)
            else:
                read = [_short_value(conditions, name, value) for value in values.split("|")]
                found[name] = conditions.member(name, read)
        except UsageError as error:
            if re.fullmatch(r"'[^']*'|\"[^\"]*\"", values):
                hint = f"with a single `=` values stand without quotes: {name}={printable(values[1:-1], 60)}"
                raise UsageError(error.message, hint=hint) from error
            if _LONG_SIGNS.search(values):
                hint = "with `=` the condition ends at the comma; for more, compare by == and quote texts: " + _EXAMPLE
                raise UsageError(error.message, hint=hint) from error
            raise
    return list(found.values()), last


def _short_value(conditions: Conditions, name: str, text: str) -> Any:
    """A value as the column's type has it; what isn't of that type stays text, which the column may know as a class."""
    kind = conditions.column(name).type
    try:
        if pa.types.is_integer(kind):
            return int(text)
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return float(text)
        if pa.types.is_boolean(kind):
            return _BOOLEANS[text.lower()]
        if is_bytes(kind):
            return bytes.fromhex(text)
    except (ValueError, KeyError) as error:
        if not (pa.types.is_integer(kind) and conditions.zoo.classes(name)):
            raise UsageError(
                f"{printable(text, 60)!r} is no value of the column {name!r}, which holds {kind}",
                hint=f"give one of its type, or {name}= for those without a value",
            ) from error
    return text


def _read_long(conditions: Conditions, text: str) -> tuple[list[pa.Array], bool]:
    names: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        stand_in = f"column_{len(names)}_"
        names[stand_in] = match[1]
        return stand_in

    source = _QUOTED.sub(plain, text).strip()
    parts = list(_joined(_parsed(source, text, _in_backticks(conditions, text))))
    walk = _Walk(conditions, names, source)
    rest = [part for part in parts if not walk.is_last(part)]
    return [walk.truth(part) for part in rest], len(rest) < len(parts)


def _joined(node: ast.expr) -> Iterator[ast.expr]:
    """What is joined by `and`, at any depth."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        for value in node.values:
            yield from _joined(value)
    else:
        yield node


def narrowed(column: str, value: str, text: str | None) -> str:
    """Conditions in text, and besides them that a column has this value."""
    if text is None:
        return f"{column} == {value!r}"
    return f"{column}={value},{text}" if _SHORT.match(text) else f"{column} == {value!r} and ({text})"


def _in_backticks(conditions: Conditions, text: str) -> str | None:
    """What to write where a column whose name is no plain word stands in a text as it is."""
    bare = _QUOTED.sub(lambda match: "" if match[1] else match[0], text).replace(" ", "")
    odd = [name for name in conditions.names if not name.isidentifier() and name.replace(" ", "") in bare]
    longest = max(odd, key=len, default=None)
    return (
        None if longest is None or longest.isdecimal() else f"write its name in backticks: `{printable(longest, 60)}`"
    )


def _parsed(text: str, original: str, hint: str | None) -> ast.expr:
    if text.count("(") + text.count("[") > _MAX_CHARACTERS // 20:
        raise UsageError("the condition has too many brackets", hint="say it in several steps")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        bare = _QUOTED.sub("''", original)
        wrong = next(((found[0], right) for sign, right in _ALIKE if (found := re.search(sign, bare))), None)
        hint = f"write `{wrong[1]}` instead of `{wrong[0]}`" if wrong else _dates(bare) or hint or _EXAMPLE
        raise UsageError(f"can't read the condition {printable(original, 120)!r}", hint=hint) from error


class _Walk:
    """From a parsed condition to which networks meet it, over a list of what may occur."""

    def __init__(self, conditions: Conditions, names: dict[str, str], source: str) -> None:
        self._conditions = conditions
        self._names = names
        self._source = source

    def is_last(self, node: ast.expr) -> bool:
        """Whether it is the word `last`, where no column has that name."""
        return isinstance(node, ast.Name) and node.id == _LAST and _LAST not in self._conditions.names

    def truth(self, node: ast.expr, depth: int = 0) -> pa.Array:
        """True, false or null for every network."""
        if depth > _MAX_DEPTH:
            raise UsageError(f"the condition is nested more than {_MAX_DEPTH} deep", hint="say it in several steps")
        if isinstance(node, ast.BoolOp):
            word = "and" if isinstance(node.op, ast.And) else "or"
            return joined(word, (self.truth(value, depth + 1) for value in node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return negated(self.truth(node.operand, depth + 1))
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            pairs = zip(operands, node.ops, operands[1:], strict=False)
            return joined("and", (self._compare(*pair) for pair in pairs))
        if isinstance(node, ast.Name):
            if self.is_last(node):
                raise UsageError("`last` can't be denied or be one of two", hint="join it: split == 'test' and last")
            return self._conditions.true(self._column(node))
        raise self._refusal(node)

    def _compare(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> pa.Array:
        if isinstance(sign, ast.Is | ast.IsNot):
            if not (isinstance(left, ast.Name) and self._is_null(right)):
                raise UsageError(
                    "`is` asks for null alone", hint="write label is null, label is not null, label == 3 or label != 3"
                )
            found = self._conditions.missing(self._column(left))
            return found if isinstance(sign, ast.Is) else negated(found)
        if isinstance(sign, ast.In | ast.NotIn):
            if not isinstance(left, ast.Name) or not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise UsageError("`in` needs a column and a list of values", hint="write label in [3, 5]")
            name = self._column(left)
            values = [None if self._is_null(node) else self._value(node, name) for node in right.elts]
            found = self._conditions.member(name, values)
            return found if isinstance(sign, ast.In) else negated(found)
        operator = _SIGNS[type(sign)]
        if not self._is_column(left):
            if not self._is_column(right):
                raise self._no_side(left, right)
            left, right, operator = right, left, _FLIPPED[operator]
        name = self._column(left)
        if self._is_column(right):
            return self._conditions.compare_columns(name, operator, self._column(right))
        return self._conditions.compare(name, operator, self._value(right, name))

    def _is_column(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and self._names.get(node.id, node.id) in self._conditions.names

    def _is_null(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id.lower() in _NULLS and not self._is_column(node)
        return isinstance(node, ast.Constant) and node.value is None

    def _column(self, node: ast.expr) -> str:
        if not (isinstance(node, ast.Name) and self._is_column(node)):
            raise self._refusal(node)
        return self._names.get(node.id, node.id)

    def _value(self, node: ast.expr, name: str) -> Any:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self._value(node.operand, name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else value
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bytes | None):
            return node.value
        elif isinstance(node, ast.Name):
            word = node.id.lower()
            if word in _BOOLEANS:
                return _BOOLEANS[word]
            if word in ("nan", *_NULLS):
                return None
            if word == "inf":
                return float("inf")
            hint = f"write it in quotes: {name} == '{printable(node.id, 60)}'"
            raise UsageError(f"{printable(node.id, 60)!r} is no column and no value", hint=hint)
        raise self._refusal(node)

    def _refusal(self, node: ast.expr) -> UsageError:
        if isinstance(node, ast.Name):
            return _no_column(self._conditions, self._names.get(node.id, node.id))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            return UsageError("`&` and `|` don't join conditions", hint="write `and`, `or`")
        shown = self._text(node)
        hint = "join conditions by `and`; lists stand in brackets" if isinstance(node, ast.Tuple) else None
        hint = hint or _dates(shown) or _in_backticks(self._conditions, shown) or _EXAMPLE
        return UsageError(f"a condition can't hold {printable(shown, 60)!r}", hint=hint)

    def _no_side(self, left: ast.expr, right: ast.expr) -> UsageError:
        """Of a comparison, neither of whose sides is a column."""
        odd = next((side for side in (left, right) if not isinstance(side, ast.Constant)), None)
        if odd is not None:
            return self._refusal(odd)
        sides = " nor ".join(printable(self._text(side), 60) for side in (left, right))
        return UsageError(
            f"neither {sides} is a column", hint="columns stand without quotes: psnr > 40, `two words` > 40"
        )

    def _text(self, node: ast.expr) -> str:
        """The node as it was written."""
        text = ast.get_source_segment(self._source, node) or type(node).__name__
        for stand_in, name in self._names.items():
            text = text.replace(stand_in, f"`{name}`")
        return text


def _dates(text: str) -> str | None:
    found = re.search(r"\b\d{4}-\d\d?(-\d\d?)?\b", text)
    return None if found is None else f"write dates in quotes: '{found[0]}'"


def _no_column(conditions: Conditions, name: str) -> UsageError:
    return UsageError(f"there is no column {printable(name, 60)!r}", hint=did_you_mean(name, conditions.names))
