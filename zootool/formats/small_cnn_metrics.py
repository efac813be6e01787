"""The Small CNN Zoo's metrics.csv.gz: a row for each network."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.errors import FormatError, printable
from zootool.formats.csv_tables import read_csv_columns
from zootool.formats.plain_values import plain_name

_TEXTS = ("activation", "b_init", "dataset", "dnn_architecture", "optimizer", "w_init")
_NUMBERS = ("dropout", "init_std", "l2reg", "learning_rate", "train_fraction")
_COUNTS = ("epochs", "epochs_between_checkpoints", "num_layers", "num_units", "random_seed")
_ACCURACIES = ("test_accuracy", "train_accuracy")
_LOSSES = ("test_loss", "train_loss")
_MAX_COUNT = 2.0**53


@dataclass(frozen=True)
class Metrics:
    """By row of the matrix: the run, the epoch, the activation, and the columns for the zoo's table."""

    runs: np.ndarray
    steps: np.ndarray
    activations: np.ndarray
    datasets: np.ndarray
    columns: pa.Table


def read_metrics(path: Path, num_networks: int) -> Metrics:
    """The columns by their names: a first one without a name is passed over.

    Raises MissingError, and FormatError for a file that is cut off, has other than `num_networks` rows, or holds
    accuracies outside of [0, 1].
    """
    shown = printable(path)
    numbers = [*_ACCURACIES, *_LOSSES, "step", *(f"config.{name}" for name in (*_NUMBERS, *_COUNTS))]
    kinds = dict.fromkeys(numbers, pa.float64()) | dict.fromkeys(
        ["modeldir", *(f"config.{name}" for name in _TEXTS)], pa.string()
    )
    table = read_csv_columns(path, kinds, ("modeldir", "step", "test_accuracy", "config.activation"))
    if len(table) != num_networks:
        raise FormatError(f"{shown} has {len(table)} rows, weights.npy has {num_networks}", hint="get both files again")
    runs, activations = (_texts(table, name, shown) for name in ("modeldir", "config.activation"))
    has_dataset = "config.dataset" in table.column_names
    datasets = _texts(table, "config.dataset", shown) if has_dataset else np.array([], object)
    return Metrics(runs, _counts(table, "step", shown), activations, datasets, _columns(table, shown))


def _columns(table: pa.Table, shown: str) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for name in (*_ACCURACIES, *_LOSSES):
        if name in table.column_names:
            values = _shares(table, name, shown) if name in _ACCURACIES else _floats(table, name)
            columns[name] = pa.array(values, from_pandas=True)
    for name in (*_TEXTS, *_NUMBERS, *_COUNTS):
        source = f"config.{name}"
        if source in table.column_names:
            is_count = name in _COUNTS
            if name in _TEXTS:
                _check_texts(table, source, shown)
            columns[f"hp_{name}"] = pa.array(_counts(table, source, shown)) if is_count else table[source]
    return pa.table(columns)


def _floats(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy().astype(np.float64)


def _shares(table: pa.Table, name: str, shown: str) -> np.ndarray:
    values = _floats(table, name)
    odd = np.flatnonzero(~np.isnan(values) & ~((values >= 0) & (values <= 1)))
    if len(odd):
        raise FormatError(f"{shown} row {odd[0]}: {name} is {values[odd[0]]:g}, wanted is a share from 0 to 1")
    return values


def _counts(table: pa.Table, name: str, shown: str) -> np.ndarray:
    values = _floats(table, name)
    # NaN fails every comparison, so a missing count is refused too.
    odd = np.flatnonzero(~((values >= 0) & (values < _MAX_COUNT) & (values == np.floor(values))))
    if len(odd):
        raise FormatError(f"{shown} row {odd[0]}: {name} is {values[odd[0]]:g}, wanted is a whole number")
    return values.astype(np.int64)


def _texts(table: pa.Table, name: str, shown: str) -> np.ndarray:
    if table[name].null_count:
        raise FormatError(f"{shown} lacks {name} in {table[name].null_count} rows", hint="get the file again")
    _check_texts(table, name, shown)
    return table[name].to_numpy().astype(object)


def _check_texts(table: pa.Table, name: str, shown: str) -> None:
    for value in table[name].unique().drop_null().to_pylist():
        plain_name(value, f"{shown}: {name}")
