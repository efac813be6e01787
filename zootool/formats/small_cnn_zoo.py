"""The Small CNN Zoo (Unterthiner et al. 2020): all networks as rows of one matrix, `weights.npy`.

`layout.csv` says which columns are which tensor, in the order and layout of TensorFlow (kernels height, width, sources,
targets), `metrics.csv.gz` has a row per network: its run (`modeldir`), epoch (`step`), accuracies and settings. The
networks are those of `CnnConfig`'s defaults, with the activation of their run.

The published split protocol puts the rows in the order of a split CSV and keeps those of the final epoch: their last
half is for testing, of the first half, shuffled by `random.Random(0)`, four fifths are for training. The CSV's first
line, "0", is a header, which the published readers take for an index: network 0 then occurs twice, and every cut comes
one row early.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, UsageError, printable
from zootool.formats.checked_values import plain_name, wanted_steps, whole_number
from zootool.formats.collection import Collection, usual_images
from zootool.formats.foreign_tables import read_csv_columns, read_csv_rows
from zootool.formats.options import ReadOptions
from zootool.formats.skeleton import NUMBER, TEXT, WHOLE, Reader
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.untrusted.bounded_text import parse_literal
from zootool.untrusted.byte_source import read_bounded
from zootool.untrusted.folder_walk import fingerprint_of_files
from zootool.untrusted.numpy_arrays import open_npy

_FILES = ("weights.npy", "layout.csv", "metrics.csv.gz")
_ACTIVATIONS = {name: name for name in ("relu", "tanh", "sigmoid", "elu", "gelu")} | {"linear": "none"}
_IMAGE_SETS = {"mnist": "mnist", "fashion_mnist": "fashion-mnist", "cifar10": "cifar10", "svhn_cropped": "svhn"}

_LAYOUT_COLUMNS = ("varname", "start_idx", "end_idx", "shape")
_LAYOUT_NAME = re.compile(r"(?:[^/]+/)?(?:conv2d(?:_(\d{1,2}))?|(dense))/(bias|kernel):0")
_MAX_COLUMNS = 1 << 24
_TORCH_ORDER = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}

_SETTINGS = {
    "text": ("activation", "b_init", "dataset", "dnn_architecture", "optimizer", "w_init"),
    "number": ("dropout", "init_std", "l2reg", "learning_rate", "train_fraction"),
    "count": ("epochs", "epochs_between_checkpoints", "num_layers", "num_units", "random_seed"),
}
_KINDS = {
    "test_accuracy": "share", "train_accuracy": "share", "test_loss": "loss", "train_loss": "loss",
    **{f"config.{name}": kind for kind, names in _SETTINGS.items() for name in names},
}  # fmt: skip
"""The columns of metrics.csv.gz that become the table's, and what they hold; config.* become hp_*."""
_OWN_KINDS = {"modeldir": "text", "step": "count"}
_MAX_COUNT = 2.0**53

_FINAL_STEP = 86
_MAX_SPLIT_BYTES = 64 << 20


@dataclass(frozen=True)
class _Chosen:
    """Rows of the matrix in ascending order, which occurrence of its row each is, its split, the rule and notes."""

    rows: np.ndarray
    occurrence: np.ndarray
    split: np.ndarray
    rule: str
    notes: tuple[str, ...]


class SmallCnnZoo(Reader):
    """The networks as rows of a matrix, which is read when they are asked for."""

    NAME = "small-cnn-zoo"
    TITLE = "Small CNN Zoo: weights.npy, layout.csv and metrics.csv.gz"

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether the three files are there."""
        return all((path / name).is_file() for name in _FILES)

    @classmethod
    def read(cls, path: Path, options: ReadOptions) -> Collection:
        """Every network of a zoo, or those of `options.steps`.

        With `options.splits`, the published split CSV, the published protocol: final networks alone, its order, its
        cuts, and its slip of reading the header "0" as an index, unless `options.clean`. Without it splits are drawn by
        run. Raises UsageError for `clean` without the CSV or other steps with it, MissingError and FormatError.
        """
        weights = open_npy(path / "weights.npy")
        layout = _read_layout(path / "layout.csv")
        if weights.ndim != 2 or weights.dtype != np.float32 or weights.shape[1] != layout[-1].end:
            raise FormatError(
                f"{printable(path / 'weights.npy')} is {weights.dtype} {weights.shape}, "
                f"layout.csv says float32 (networks, {layout[-1].end})"
            )
        metrics = _Metrics(path / "metrics.csv.gz", len(weights))
        chosen = _choose(metrics, options)
        architectures, index = _architectures(layout, metrics.activations[chosen.rows])

        def load(rows: np.ndarray) -> dict[str, np.ndarray]:
            rows = chosen.rows[rows]
            # A slice views the mapped file, where an index copies it.
            is_run = len(rows) > 0 and np.all(np.diff(rows) == 1)
            block = weights[rows[0] : rows[-1] + 1] if is_run else weights[rows]
            return {entry.key: entry.tensor(block) for entry in layout}

        # The networks see grey images.
        images = [usual_images(_IMAGE_SETS[name]) for name in metrics.datasets if name in _IMAGE_SETS]
        images = [replace(image_set, shape=(*image_set.shape[:2], 1)) for image_set in images]
        return Collection(
            format=cls.NAME,
            kind="cnn",
            table=_table(metrics, chosen),
            architectures=architectures,
            architecture_index=index,
            load=load,
            fingerprint=fingerprint_of_files([path / name for name in _FILES]),
            image_sets=tuple(images) if len(metrics.datasets) == 1 else (),
            conventions={"images": "one channel, in [0, 1]", "training_step": "epoch", "splits": chosen.rule},
            notes=chosen.notes,
        )


def _table(metrics: "_Metrics", chosen: _Chosen) -> pa.Table:
    again = [f"-again{count}" if count else "" for count in chosen.occurrence.tolist()]
    ids = [f"{row:06d}{suffix}" for row, suffix in zip(chosen.rows.tolist(), again, strict=True)]
    columns = {
        "net_id": pa.array(ids),
        "split": pa.array(chosen.split.tolist(), TEXT),
        "run_id": pa.array(metrics.runs[chosen.rows].tolist(), TEXT),
        "training_step": pa.array(metrics.steps[chosen.rows], WHOLE),
    }
    rest = metrics.columns.take(pa.array(chosen.rows)).combine_chunks()
    return pa.table(columns | {name: rest[name] for name in rest.column_names})


def _architectures(layout: Sequence["_Entry"], activations: np.ndarray) -> tuple[tuple[Architecture, ...], np.ndarray]:
    """An architecture for each activation, and which one each network has."""
    names, index = np.unique(activations, return_inverse=True)
    unknown = sorted(set(names.tolist()) - set(_ACTIVATIONS))
    if unknown:
        known = ", ".join(_ACTIVATIONS)
        raise FormatError(f"metrics.csv.gz has the activation {printable(unknown[0], 40)!r}, known are {known}")
    return tuple(_architecture(layout, _ACTIVATIONS[name]) for name in names.tolist()), index.astype(np.int64)


def _architecture(layout: Sequence["_Entry"], activation: str) -> Architecture:
    shapes = {entry.key: entry.torch_shape for entry in layout}
    convolutions = [shapes[f"layers.{i}.weight"] for i in range(len(shapes) // 2 - 1)]
    count = len(convolutions)
    config = CnnConfig(
        channels=(convolutions[0][1], *(shape[0] for shape in convolutions)),
        kernels=tuple(shape[2] for shape in convolutions),
        strides=(2,) * count,
        paddings=(0,) * count,
        activations=(activation,) * count,
        residuals=(None,) * count,
        num_classes=shapes["fc.weight"][0],
    )
    architecture = cnn_architecture(config)
    if any(slot.shape != shapes.get(slot.key) for slot in architecture.slots):
        raise FormatError("layout.csv describes tensors that don't make one network", hint="get the file again")
    return architecture


@dataclass(frozen=True)
class _Entry:
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


def _read_layout(path: Path) -> list[_Entry]:
    """The entries in the order of the matrix. Raises MissingError, and FormatError for gaps, overlaps and odd names."""
    shown = printable(path)
    rows = read_csv_rows(path, _LAYOUT_COLUMNS, max_bytes=1 << 20)
    entries = sorted((_entry(row, f"{shown} line {n}") for n, row in enumerate(rows, 2)), key=lambda e: e.start)
    for before, entry in pairwise([_Entry("", 0, 0, ()), *entries]):
        if entry.start != before.end:
            raise FormatError(f"{shown}: {entry.key} starts at {entry.start}, what is before it ends at {before.end}")
    keys = [entry.key for entry in entries]
    count = len(keys) // 2 - 1
    wanted = {f"layers.{i}.{part}" for i in range(count) for part in ("weight", "bias")} | {"fc.weight", "fc.bias"}
    if count < 1 or len(set(keys)) != len(keys) or set(keys) != wanted:
        raise FormatError(f"{shown} has {', '.join(keys)[:200]}: wanted are convolutions and one dense layer")
    return entries


def _entry(row: dict[str, str], where: str) -> _Entry:
    match = _LAYOUT_NAME.fullmatch(row["varname"])
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
    return _Entry(f"{layer}.{'bias' if dims == 1 else 'weight'}", start, end, shape)


class _Metrics:
    """metrics.csv.gz by row of the matrix: the run, the epoch, the activation, and the columns for the zoo's table.

    Columns go by their names: a first one without a name is passed over. Raises MissingError, and FormatError for a
    file that is cut off, has other than `num_networks` rows, or holds accuracies outside of [0, 1].
    """

    def __init__(self, path: Path, num_networks: int) -> None:
        self._shown = printable(path)
        kinds = {name: TEXT if kind == "text" else NUMBER for name, kind in (_KINDS | _OWN_KINDS).items()}
        self._table = read_csv_columns(path, kinds, ("modeldir", "step", "test_accuracy", "config.activation"))
        if len(self._table) != num_networks:
            raise FormatError(
                f"{self._shown} has {len(self._table)} rows, weights.npy has {num_networks}",
                hint="get both files again",
            )
        self.runs, self.activations = self._complete_texts("modeldir"), self._complete_texts("config.activation")
        has_datasets = "config.dataset" in self._table.column_names
        self.datasets = set(self._complete_texts("config.dataset")) if has_datasets else set()
        self.steps = self._column("step").to_numpy()
        names = [name for name in _KINDS if name in self._table.column_names]
        self.columns = pa.table({name.replace("config.", "hp_"): self._column(name) for name in names})

    def _complete_texts(self, name: str) -> np.ndarray:
        column = self._column(name)
        if column.null_count:
            raise FormatError(f"{self._shown} lacks {name} in {column.null_count} rows", hint="get the file again")
        return column.to_numpy(zero_copy_only=False).astype(object)

    def _column(self, name: str) -> pa.Array:
        """A column, its values checked."""
        column, kind = self._table[name].combine_chunks(), (_KINDS | _OWN_KINDS)[name]
        if kind == "text":
            for value in column.unique().drop_null().to_pylist():
                plain_name(value, f"{self._shown}: {name}")
        if kind in ("text", "number"):
            return column
        values = column.to_numpy(zero_copy_only=False).astype(np.float64)
        if kind == "share":
            self._check(name, values, np.isnan(values) | ((values >= 0) & (values <= 1)), "a share from 0 to 1")
        if kind != "count":
            return pa.array(values, from_pandas=True)
        # NaN fails every comparison, so a missing count is refused too.
        is_count = (values >= 0) & (values < _MAX_COUNT) & (values == np.floor(values))
        self._check(name, values, is_count, "a whole number")
        return pa.array(values.astype(np.int64))

    def _check(self, name: str, values: np.ndarray, are_fit: np.ndarray, wanted: str) -> None:
        if not are_fit.all():
            row = int(np.argmin(are_fit))
            raise FormatError(f"{self._shown} row {row}: {name} is {values[row]:g}, wanted is {wanted}")


def _choose(metrics: _Metrics, options: ReadOptions) -> _Chosen:
    if options.splits is not None:
        if options.steps not in ((), (_FINAL_STEP,)):
            raise UsageError(
                f"the published protocol takes step {_FINAL_STEP} alone, not {options.steps}",
                hint="leave out the steps, or the splits",
            )
        return _published(options.splits, metrics.steps, options.clean)
    if options.clean:
        raise UsageError("the published protocol needs its split CSV", hint="name it by --splits")
    rows = wanted_steps(metrics.steps.tolist(), options.steps)
    split, rule = seeded_split(metrics.runs[rows].tolist(), seed=options.seed)
    note = "the published splits need their split CSV, which wasn't given: these splits are drawn by run"
    return _Chosen(rows, np.zeros(len(rows), np.int64), split, f"by run: {rule}", (note,))


def _published(path: Path, steps: np.ndarray, clean: bool) -> _Chosen:
    """The final networks with the protocol's splits; `clean` leaves the header out.

    Raises MissingError, and FormatError for a CSV that isn't a list of rows of the matrix.
    """
    order = _read_order(path, len(steps))
    has_header = order[0] == 0 and np.count_nonzero(order == 0) > 1
    if clean and has_header:
        order = order[1:]
    rows = order[steps[order] == _FINAL_STEP]
    if not len(rows):
        raise FormatError(f"{printable(path)} lists no network of step {_FINAL_STEP}", hint="is it another zoo's?")
    split = _cut(len(rows))
    place = np.argsort(rows, kind="stable")
    rows, split = rows[place], split[place]
    occurrence = np.arange(len(rows)) - np.searchsorted(rows, rows)
    slip = "its header read as index 0, as published" if has_header and not clean else "its header left out"
    rule = f"the published protocol by {path.name}, {slip if has_header else 'which has no header'}"
    return _Chosen(rows, occurrence, split, rule, _notes(order, rows, steps, path))


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
    content, shown_path = read_bounded(path, _MAX_SPLIT_BYTES)
    lines = content.split()
    if not lines or len(lines) > 2 * num_rows + 1:
        raise FormatError(f"{shown_path} lists {len(lines)} networks, weights.npy has {num_rows}")
    odd = next((line for line in lines if not (line.isdigit() and len(line) < 16 and int(line) < num_rows)), None)
    if odd is not None:
        shown = printable(odd.decode("utf-8", "replace"), 40)
        raise FormatError(f"{shown_path} lists {shown!r}, wanted are rows 0 to {num_rows - 1} of weights.npy")
    return np.array([int(line) for line in lines], np.int64)


def _notes(order: np.ndarray, rows: np.ndarray, steps: np.ndarray, path: Path) -> tuple[str, ...]:
    listed, counts = np.unique(order, return_counts=True)
    notes = []
    for row in listed[counts > 1].tolist():
        kept = "twice among the final networks" if steps[row] == _FINAL_STEP else "not of the final epoch"
        notes.append(f"{path.name} has index {row} more than once: it is {kept}")
    absent = int(np.count_nonzero(steps == _FINAL_STEP)) - len(np.unique(rows))
    if absent:
        notes.append(f"{path.name} leaves out {absent:,} networks of step {_FINAL_STEP}")
    return tuple(notes[:20])
