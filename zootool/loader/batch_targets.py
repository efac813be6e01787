"""Columns of the table as tensors that travel with the batches."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zootool.catalog import load_catalog
from zootool.columns.values import decoded, is_missing, is_text
from zootool.errors import UsageError, printable, quoted
from zootool.store.reader import Store


def target_columns(store: Store, names: Sequence[str] | str | None, rows: np.ndarray) -> dict[str, Tensor]:
    """Each column's values at `rows`; the label's, where the table has one, if None.

    Raises UsageError for what are no names, and for a column that is missing, has gaps there or can't be a target.
    """
    if names is None:
        names = ("label",) if "label" in store.nets.column_names else ()
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"targets are names of columns, got {quoted(names, 60)}", hint='targets=["label"]')
    return {name: torch.from_numpy(numbers_of(store, name, rows)) for name in names}


def numbers_of(store: Store, name: str, rows: np.ndarray, with_classes: bool = True) -> np.ndarray:
    """A column's values at `rows` as numbers: false and true as 0 and 1, texts as their places in `class_names`.

    Raises UsageError for values that are no numbers and no classes, and for gaps at these rows.
    """
    if not isinstance(name, str):
        raise UsageError(f"a column is named by a text, got {quoted(name, 60)}")
    column = decoded(store.nets.read([name])[name])
    kind = column.type
    is_class = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or (with_classes and is_text(kind))
    wanted = "numbers or classes" if with_classes else "numbers"
    if not (is_class or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise UsageError(
            f"the column {printable(name)!r} holds {kind}, {wanted} are needed",
            hint="choose other columns, or none: targets=()",
        )
    gaps = int(is_missing(column)[rows].sum())
    if gaps:
        raise UsageError(
            f"{gaps:,} of {len(rows):,} networks have no value in the column {printable(name)!r}",
            hint=f"leave them out by select(where='{printable(name, 60)} is not null'), or do without: targets=()",
        )
    if is_text(kind):
        return _classes(column, name)[1][rows]
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column = column.cast(pa.float64() if pa.types.is_decimal(kind) else pa.float32())
    elif not pa.types.is_floating(kind):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowException as error:
            raise UsageError(f"the column {printable(name)!r} holds numbers above 2^63 - 1") from error
    return np.array(column.fill_null(0).to_numpy()[rows])


def class_names(store: Store, name: str) -> tuple[str, ...]:
    """What the numbers of a column of classes stand for; empty where nobody knows.

    Texts count in sorted order over the whole store. The catalog names the labels of image sets that it knows.
    """
    if name not in store.nets.column_names:
        return ()
    kind = store.nets.schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if is_text(kind):
        return _classes(decoded(store.nets.read([name])[name]), name)[0]
    if name != "label" or not pa.types.is_integer(kind):
        return ()
    known = load_catalog().image_sets
    found = {known[source.name].classes if source.name in known else () for source in store.info.sources}
    return found.pop() if len(found) == 1 else ()


def _classes(column: pa.ChunkedArray, name: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The texts of a column in order, and each row's place among them, -1 where there is none."""
    encoded = column.combine_chunks().dictionary_encode()
    try:
        texts = encoded.dictionary.to_pylist()
    except UnicodeDecodeError as error:
        raise UsageError(f"the column {printable(name)!r} holds texts that aren't UTF-8") from error
    order = sorted(range(len(texts)), key=texts.__getitem__)
    places = np.empty(len(texts) + 1, dtype=np.int64)
    places[order] = np.arange(len(texts))
    places[-1] = -1
    return tuple(texts[number] for number in order), places[
        encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    ]
