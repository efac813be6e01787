from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from zootool.errors import FormatError
from zootool.records import from_plain, parse_json, to_plain


@dataclass(frozen=True)
class Part:
    kind: Literal["a", "b"]
    sizes: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.name == "nobody":
            raise ValueError("nobody has parts")


WHOLE = Whole("x", (Part("a"), Part("b", (2, 3))), {"edges": 4}, {"deep": [1, {"er": None}]}, 0.5)


def test_records_survive_json_and_leave_defaults_out() -> None:
    plain = to_plain(WHOLE)
    assert plain["parts"] == [{"kind": "a"}, {"kind": "b", "sizes": [2, 3]}]
    assert from_plain(Whole, plain | {"later": 1}) == WHOLE
    assert to_plain(Whole("y")) == {"name": "y"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": [{"kind": "a"}, {"kind": "c"}]}, r"w\.parts\[1\]\.kind must be one of 'a', 'b', got c"),
        ({"parts": [{"kind": "a", "sizes": [1, 2.5]}]}, r"w\.parts\[0\]\.sizes\[1\] must be an integer, got 2.5"),
        ({"parts": [{"kind": "a", "sizes": [1]}]}, r"w\.parts\[0\]\.sizes must have 2 items, got 1"),
        ({"parts": [{}]}, r"w\.parts\[0\] lacks the key 'kind'"),
        ({"parts": "ab"}, r"w\.parts must be a list"),
        ({"counts": {"edges": True}}, r"w\.counts\.edges must be an integer, got True"),
        ({"counts": [1]}, r"w\.counts must be an object"),
        ({"rate": "fast"}, r"w\.rate must be a number"),
        ({"rate": float("inf")}, r"w\.rate must be finite"),
        ({"name": "nobody"}, r"w: nobody has parts"),
    ],
)
def test_the_place_of_a_wrong_value_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        from_plain(Whole, to_plain(WHOLE) | change, "w")


@pytest.mark.parametrize("text", [b"{", b'{"a": 1, "a": 2}', b"[NaN]", b"[" * 100_000, b"\xff\xfe{"])
def test_broken_json_is_named(text: bytes) -> None:
    with pytest.raises(FormatError, match="w isn't readable JSON"):
        parse_json(text, "w")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 102 + b"]" * 102, "nested more than 100 levels"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "isn't readable JSON"),
        (b"[" + b"0," * (1 << 24) + b"0]", "holds more than 16777216 values"),
        (b'{"a":1,"a":1}', "occurs twice"),
        (b"[NaN]", "NaN isn't JSON"),
        (b"[" + b"9" * 5000 + b"]", "isn't readable JSON"),
    ],
    ids=["deep", "deeper", "many", "twice", "nan", "digits"],
)
def test_json_beyond_bounds_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_json(content, "x.json")


def test_json_within_bounds_is_read_whatever_its_text_holds() -> None:
    assert parse_json(b"[" * 100 + b"]" * 100, "x")
    assert parse_json(b'["' + b"[{" * 300 + b'"]', "x") == ["[{" * 300]


def test_numbers_too_large_for_floats_are_named() -> None:
    with pytest.raises(FormatError, match=r"x\.rate must be finite, got an integer of 1329 bits"):
        from_plain(Whole, {"name": "a", "rate": 10**400}, "x")
