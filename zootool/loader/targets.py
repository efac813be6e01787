"""Columns of the table as tensors that travel with the batches."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zootool.errors import UsageError, printable
from zootool.store.reader import Store


def target_columns(store: Store, names: Sequence[str], rows: np.ndarray) -> dict[str, Tensor]:
    """Each column's values at `rows`. Raises UsageError for one that is missing, has gaps there or isn't numeric."""
    return {name: torch.from_numpy(numbers_of(store, name, rows)) for name in names}


def numbers_of(store: Store, name: str, rows: np.ndarray) -> np.ndarray:
    """A numeric column's values at `rows`. Raises UsageError."""
    column = store.nets.read([name])[name]
    if not _is_numeric(column.type):
        raise UsageError(f"the column {printable(name)!r} holds {column.type}, numbers are needed")
    if column.null_count and column.is_null().to_numpy()[rows].any():
        raise UsageError(
            f"the column {printable(name)!r} has gaps, a number is needed for every network",
            hint="choose another column, or select the networks that have it",
        )
    return np.array(column.fill_null(0).to_numpy()[rows])


def default_targets(store: Store) -> tuple[str, ...]:
    """The label, where it is a number and every network has one."""
    if "label" not in store.nets.column_names:
        return ()
    column = store.nets.read(["label"])["label"]
    return ("label",) if _is_numeric(column.type) and not column.null_count else ()


def _is_numeric(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
