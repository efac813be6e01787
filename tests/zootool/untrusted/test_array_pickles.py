import codecs
import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zootool.errors import BadDataError, FormatError, UntrustedError
from zootool.untrusted.numpy_arrays import load_plain_pickle


class Runs:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    for hostile in (Runs(os.mkdir, str(marker)), [1, {b"data": Runs(os.mkdir, str(marker))}]):
        with pytest.raises(UntrustedError, match=r"x\.pkl asks for 'posix\.mkdir'"):
            load_plain_pickle(pickle.dumps(hostile, protocol), "x.pkl")
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Runs(eval, "1")),
        pickle.dumps(collections.OrderedDict()),
        pickle.dumps(np.float64(1.0)),
        pickle.dumps(Path("/")),
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nfromfile\n.",
        b"cnumpy.core.multiarray\nfromstring\n.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"P1\n.",
        b"c_codecs\nencode\n(Va\nVrot13\ntR.",
    ],
)
def test_only_the_listed_names_are_known(content: bytes) -> None:
    with pytest.raises(UntrustedError, match=r"x\.pkl asks for"):
        load_plain_pickle(content, "x.pkl")


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "<i8", ">i4", "float32", "float64"])
def test_numeric_arrays_come_back_as_they_were(protocol: int, dtype: str) -> None:
    array = np.arange(12).astype(dtype).reshape(3, 4)
    found = load_plain_pickle(pickle.dumps({b"a": array, b"f": np.asfortranarray(array)}, protocol), "x.pkl")
    assert np.array_equal(found[b"a"], array)
    assert np.array_equal(found[b"f"], array)
    assert found[b"a"].dtype == array.dtype


@pytest.mark.parametrize("array", [np.array([{}, None]), np.array(["a"]), np.zeros(2, "M8[s]"), np.zeros(2, "i4,f4")])
def test_arrays_of_anything_else_are_untrusted(array: np.ndarray) -> None:
    with pytest.raises(UntrustedError, match="isn't of plain numbers"):
        load_plain_pickle(pickle.dumps(array, 2), "x.pkl")


def test_an_array_that_lies_about_its_size_is_a_format_error() -> None:
    content = pickle.dumps(np.zeros((2, 3), np.uint8), 2).replace(b"K\x02K\x03\x86", b"K\x02K\x7f\x86")
    with pytest.raises(FormatError, match=r"\(2, 127\) uint8 with 6 bytes"):
        load_plain_pickle(content, "x.pkl")


def test_a_small_pickle_cannot_ask_for_a_large_memo() -> None:
    with pytest.raises(FormatError, match="numbers an object 4294967295"):
        load_plain_pickle(b"\x80\x02]r\xff\xff\xff\xff.", "x.pkl")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_make_anything_but_a_value_or_bad_data(content: bytes) -> None:
    assert_value_or_bad_data(content)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_batch_makes_a_value_or_bad_data(data: st.DataObject) -> None:
    content = bytearray(pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]}, 2))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert_value_or_bad_data(bytes(content))


def assert_value_or_bad_data(content: bytes) -> None:
    """Plain values alone come out, or an error that names the file; anything else that is raised fails."""
    message = None
    try:
        value = load_plain_pickle(content, "x.pkl")
    except BadDataError as error:
        message, value = error.message, None
    assert is_plain(value)
    assert message is None or "x.pkl" in message


PLAIN = (bool, int, float, complex, str, bytes, bytearray, np.ndarray, np.generic, np.dtype)


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(is_plain, value)) and all(map(is_plain, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(is_plain, value))
    return value is None or isinstance(value, PLAIN)


def doubled(levels: int) -> tuple[Any, ...]:
    """A tuple of 2^levels numbers, of a few bytes."""
    value: tuple[Any, ...] = (1, 1)
    for _ in range(levels):
        value = (value, value)
    return value


@pytest.mark.parametrize("place", ["encoding", "shape", "name", "order"])
def test_endless_values_are_refused_without_being_written_out(place: str) -> None:
    laughs = doubled(60)
    kind = Runs(np.dtype, laughs if place == "name" else "u1", False, True)
    state = (1, laughs if place == "shape" else (4,), kind, False, b"abcd")
    value: Any = Runs(codecs.encode, "a", laughs) if place == "encoding" else WithState(state)
    if place == "order":
        value = WithState((1, (4,), WithState((3, laughs, None, None, None, -1, -1, 0)), False, b"abcd"))
    with pytest.raises(BadDataError, match=r"x\.pkl") as caught:
        load_plain_pickle(pickle.dumps(value, 4), "x.pkl")
    assert len(str(caught.value)) < 500


class WithState:
    """An array's record with any state."""

    def __init__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return np.ndarray.__reduce__(np.zeros(1))[0], (np.ndarray, (0,), b"b"), self.state


def test_one_text_is_not_copied_over_and_over() -> None:
    text = "x" * 100_000
    content = pickle.dumps([Runs(codecs.encode, text, "latin1") for _ in range(1000)], 4)
    assert len(content) < 200_000
    with pytest.raises(FormatError, match="more than 2 times its own bytes"):
        load_plain_pickle(content, "x.pkl")
