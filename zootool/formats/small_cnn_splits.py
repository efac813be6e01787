"""The Small CNN Zoo's published split protocol, with its slip and without.

The rows are put in the order of a split CSV, and those of the final epoch are kept: their last half is for testing, of
the first half, shuffled by `random.Random(0)`, four fifths are for training. The CSV's first line, "0", is a header,
which the published readers take for an index: network 0 then occurs twice, and every cut comes one row early.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zootool.errors import FormatError, printable
from zootool.untrusted.byte_source import FileSource

FINAL_STEP = 86

_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class PublishedRows:
    """Rows of the matrix in ascending order, and which occurrence of its row each is, counted from 0."""

    rows: np.ndarray
    occurrence: np.ndarray
    split: np.ndarray
    rule: str
    notes: tuple[str, ...]


def published_rows(path: Path, steps: np.ndarray, clean: bool) -> PublishedRows:
    """The final networks with the protocol's splits; `clean` leaves the header out.

    Raises MissingError, and FormatError for a CSV that isn't a list of rows of the matrix.
    """
    order = _read_order(path, len(steps))
    has_header = order[0] == 0 and np.count_nonzero(order == 0) > 1
    if clean and has_header:
        order = order[1:]
    rows = order[steps[order] == FINAL_STEP]
    if not len(rows):
        raise FormatError(f"{printable(path)} lists no network of step {FINAL_STEP}", hint="is it another zoo's?")
    split = _cut(len(rows))
    place = np.argsort(rows, kind="stable")
    rows, split = rows[place], split[place]
    first = np.searchsorted(rows, rows)
    slip = "its header read as index 0, as published" if has_header and not clean else "its header left out"
    rule = f"the published protocol by {path.name}, {slip if has_header else 'which has no header'}"
    return PublishedRows(rows, np.arange(len(rows)) - first, split, rule, _notes(order, rows, steps, path))


def _cut(count: int) -> np.ndarray:
    split = np.full(count, "test", dtype=object)
    half = int(0.5 * count)
    first_half = list(range(half))
    random.Random(0).shuffle(first_half)
    num_training = int(0.8 * half)
    split[first_half[:num_training]] = "train"
    split[first_half[num_training:]] = "validation"
    return split


def _read_order(path: Path, num_rows: int) -> np.ndarray:
    source = FileSource(path)
    if source.size > _MAX_BYTES:
        raise FormatError(f"{source.shown} has {source.size} bytes, at most {_MAX_BYTES} are read")
    lines = bytes(source.read(0, source.size)).split()
    if not lines or len(lines) > 2 * num_rows + 1:
        raise FormatError(f"{source.shown} lists {len(lines)} networks, weights.npy has {num_rows}")
    odd = next((line for line in lines if not (line.isdigit() and len(line) < 16 and int(line) < num_rows)), None)
    if odd is not None:
        shown = printable(odd.decode("utf-8", "replace"), 40)
        raise FormatError(f"{source.shown} lists {shown!r}, wanted are rows 0 to {num_rows - 1} of weights.npy")
    return np.array([int(line) for line in lines], np.int64)


def _notes(order: np.ndarray, rows: np.ndarray, steps: np.ndarray, path: Path) -> tuple[str, ...]:
    listed, counts = np.unique(order, return_counts=True)
    notes = []
    for row in listed[counts > 1].tolist():
        kept = "twice among the final networks" if steps[row] == FINAL_STEP else "not of the final epoch"
        notes.append(f"{path.name} has index {row} more than once: it is {kept}")
    absent = int(np.count_nonzero(steps == FINAL_STEP)) - len(np.unique(rows))
    if absent:
        notes.append(f"{path.name} leaves out {absent:,} networks of step {FINAL_STEP}")
    return tuple(notes[:20])
