"""What is shown of values that nobody has checked is short, whatever they hold, and takes no time to write out."""

import sys
from pathlib import Path
from typing import Any

import pytest

from zootool.errors import UsageError, checked_count, printable, quoted


def laughs(depth: int) -> tuple[Any, ...]:
    """A tuple of 2^depth numbers, of a few bytes."""
    value: tuple[Any, ...] = (1, 1)
    for _ in range(depth):
        value = (value, value)
    return value


def deep(depth: int) -> tuple[Any, ...]:
    value: tuple[Any, ...] = ()
    for _ in range(depth):
        value = (value,)
    return value


def in_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Rude:
    def __str__(self) -> str:
        raise RecursionError


@pytest.mark.parametrize(
    "value",
    [laughs(60), deep(100_000), in_itself(), {laughs(5): deep(50_000)}, "x" * 10_000_000, b"x" * 10_000_000,
     ["x" * 10_000_000] * 1000, KeyError(deep(100_000)), 10**100_000, list(range(1_000_000)), Rude()],
    ids=["laughs", "deep", "in itself", "dict", "text", "bytes", "texts", "KeyError", "integer", "list", "rude"],
)  # fmt: skip
@pytest.mark.parametrize("limit", [20, 200])
def test_endless_values_are_cut_before_they_are_written_out(value: object, limit: int) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        shown = printable(value, limit)
    finally:
        sys.setprofile(None)
    assert 0 < len(shown) <= limit
    assert calls < 100 * limit


@pytest.mark.parametrize(
    "value",
    [(1, "a", 2.5, None), (1,), (), [], {"a": [True]}, {3}, b"a\x00", 17, 1.5, None, Path("a"), ValueError("no")],
)
def test_small_values_are_shown_as_python_has_them(value: object) -> None:
    assert printable(value) == str(value)


def test_what_could_rewrite_a_screen_is_escaped() -> None:
    assert printable("\x1b[2J\u202ex") == "\\x1b[2J\\u202ex"
    assert printable(("\x1b[2J",)) == "('\\x1b[2J',)"
    assert printable("x" * 11, 10) == "xxxxxxx..."


def test_deep_and_endless_values_are_cut() -> None:
    nested: list = []
    for _ in range(20):
        nested = [nested]
    assert printable(nested) == "[" * 9 + "..." + "]" * 9
    assert printable([10**4000]) == f"[an integer of {(10**4000).bit_length()} bits]"


def test_texts_are_quoted_and_endless_values_cut() -> None:
    assert [quoted(value) for value in ("a'b", 3, None, ["x"], 10**5000)] == [
        '"a\'b"', "3", "None", "['x']", "an integer of 16610 bits",
    ]  # fmt: skip
    assert len(quoted("x" * 10_000_000)) == 60
    with pytest.raises(UsageError, match="an integer of 16610 bits"):
        checked_count("epochs", -(10**5000))
