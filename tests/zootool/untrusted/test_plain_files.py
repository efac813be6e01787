"""Legitimate arrays, cells, JSON and YAML; their hostile kin stand in hostile/."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zootool.errors import FormatError, MissingError
from zootool.untrusted.bounded_text import parse_json, parse_literal, read_json, read_json_lines, read_untrusted_yaml
from zootool.untrusted.numpy_arrays import open_npy


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "uint8", "int8", "bool"])
@pytest.mark.parametrize("shape", [(5, 7), (3,), (), (0, 4), (2, 3, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_mapped_as_they_were_saved(tmp_path: Path, dtype: str, shape: tuple[int, ...], order: Any) -> None:
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape).astype(dtype), order=order)
    np.save(tmp_path / "w.npy", array)
    found = open_npy(tmp_path / "w.npy")
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    assert found.shape == shape
    assert not found.flags.writeable


def test_an_array_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"w\.npy can't be read"):
        open_npy(tmp_path / "w.npy")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(3, 3, 1, 16)", (3, 3, 1, 16)),
        (" [1, -2.5e3] ", [1, -2500.0]),
        ("{'a': None, 'b': True}", {"a": None, "b": True}),
        (r"'a\d'", r"a\d"),
        ("7", 7),
    ],
)
def test_cells_are_parsed(text: str, value: Any) -> None:
    assert parse_literal(text, "layout.csv row 2") == value


def test_a_cell_is_named_where_it_is_wrong() -> None:
    with pytest.raises(FormatError, match=r"layout\.csv row 2 is 'x\[0\]', which is no plain value"):
        parse_literal("x[0]", "layout.csv row 2")


def test_json_and_its_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": [1, NaN, {"b": "\\u00e4"}]}')
    assert read_json(tmp_path / "a.json")["a"][2] == {"b": "ä"}
    (tmp_path / "b.json").write_bytes(b'{"epoch": 1}\r\n\n{"epoch": 2}')
    assert list(read_json_lines(tmp_path / "b.json")) == [{"epoch": 1}, {"epoch": 2}]
    assert parse_json(b"[" * 64 + b"]" * 64, "x") != []


def test_json_lines_name_the_line_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(b'{"epoch": 1}\n{"epoch":\n')
    with pytest.raises(FormatError, match=r"b\.json line 2 is no readable JSON"):
        list(read_json_lines(tmp_path / "b.json"))


def test_limits_of_json_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"[1, 2, 3]")
    with pytest.raises(FormatError, match="has 9 bytes, at most 8"):
        read_json(tmp_path / "a.json", max_bytes=8)


def test_plain_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("layers: &shared\n  - {kind: linear, sizes: [2, 32]}\nagain: *shared\nnone:\n")
    layers = [{"kind": "linear", "sizes": [2, 32]}]
    assert read_untrusted_yaml(path) == {"layers": layers, "again": layers, "none": None}
    path.write_text("")
    assert read_untrusted_yaml(path) is None
