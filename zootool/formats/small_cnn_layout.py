"""The Small CNN Zoo's layout.csv: which columns of its matrix are which tensor."""

import re
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np

from zootool.errors import FormatError, printable
from zootool.formats.csv_tables import read_csv_rows
from zootool.formats.plain_values import whole_number
from zootool.untrusted.literal import parse_literal

_COLUMNS = ("varname", "start_idx", "end_idx", "shape")
_NAME = re.compile(r"(?:[^/]+/)?(?:conv2d(?:_(\d{1,2}))?|(dense))/(bias|kernel):0")
_MAX_COLUMNS = 1 << 24
_TORCH_ORDER = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


@dataclass(frozen=True)
class Entry:
    """Columns `start` to `end` of the matrix: a tensor of `shape` as TensorFlow lays it out."""

    key: str
    start: int
    end: int
    shape: tuple[int, ...]

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape in torch's order: targets, sources, height, width."""
        return tuple(self.shape[axis] for axis in _TORCH_ORDER[len(self.shape)])

    def tensor(self, block: np.ndarray) -> np.ndarray:
        """(networks, *torch_shape), a view of the block."""
        part = block[:, self.start : self.end].reshape(len(block), *self.shape)
        return part.transpose(0, *(axis + 1 for axis in _TORCH_ORDER[len(self.shape)]))


def read_layout(path: Path) -> list[Entry]:
    """The entries in the order of the matrix. Raises MissingError, and FormatError for gaps, overlaps and odd names."""
    shown = printable(path)
    rows = read_csv_rows(path, _COLUMNS, max_bytes=1 << 20)
    entries = sorted((_entry(row, f"{shown} line {n}") for n, row in enumerate(rows, 2)), key=lambda e: e.start)
    for before, entry in pairwise([Entry("", 0, 0, ()), *entries]):
        if entry.start != before.end:
            raise FormatError(f"{shown}: {entry.key} starts at {entry.start}, what is before it ends at {before.end}")
    keys = [entry.key for entry in entries]
    count = len(keys) // 2 - 1
    wanted = {f"layers.{i}.{part}" for i in range(count) for part in ("weight", "bias")} | {"fc.weight", "fc.bias"}
    if count < 1 or len(set(keys)) != len(keys) or set(keys) != wanted:
        raise FormatError(f"{shown} has {', '.join(keys)[:200]}: wanted are convolutions and one dense layer")
    return entries


def _entry(row: dict[str, str], where: str) -> Entry:
    match = _NAME.fullmatch(row["varname"])
    if match is None:
        raise FormatError(f"{where} names {printable(row['varname'], 80)!r}, wanted is like sequential/conv2d/bias:0")
    start, end = (whole_number(row[name], f"{where}: {name}", _MAX_COLUMNS) for name in ("start_idx", "end_idx"))
    shape = parse_literal(row["shape"], f"{where}: shape", max_chars=100)
    shape = (shape,) if isinstance(shape, int) else shape
    dims = 1 if match[3] == "bias" else 2 if match[2] else 4
    is_shape = isinstance(shape, tuple) and len(shape) == dims and all(type(n) is int and n > 0 for n in shape)
    if not is_shape or prod(shape) != end - start:
        raise FormatError(f"{where} has the shape {printable(shape, 60)} for columns {start} to {end}")
    if dims == 4 and len(set(shape[:2])) == 2:
        raise FormatError(f"{where} has a kernel of {shape[:2]}, square ones are read")
    layer = "fc" if match[2] else f"layers.{int(match[1] or 0)}"
    return Entry(f"{layer}.{'bias' if dims == 1 else 'weight'}", start, end, shape)
