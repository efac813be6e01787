"""A plain folder (or one file) of checkpoints, with a table of labels where there is one.

Architectures are inferred from names and shapes, or declared in YAML. A table (CSV, JSON lines, Parquet) names each
file by its path relative to the table or to the folder, in its first column or one called path, file or name.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.collect.bounded_text import read_untrusted_yaml
from zootool.collect.collection import Collection
from zootool.collect.file_stack import found_in, stack_networks, state_dict_of
from zootool.collect.folder_walk import fingerprint_of_files, walk_files
from zootool.collect.formats.options import ReadOptions
from zootool.collect.label_table import find_table, read_labels
from zootool.collect.safe_load import load_checkpoint
from zootool.collect.split_rules import seeded_split
from zootool.errors import FormatError, MissingError, printable
from zootool.nets.declared import Shapes, declared_architecture
from zootool.nets.infer import infer_architecture

NAME = "folder"
TITLE = "A folder of checkpoints, or a single one"

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin")

_MAX_SCALARS = 1_000

Signature = tuple[tuple[str, tuple[int, ...], str], ...]


def detect(path: Path) -> bool:
    """Whether it is a checkpoint by its name, or a folder that holds one."""
    if path.is_file():
        return path.suffix in SUFFIXES
    return any(file.suffix in SUFFIXES for file in walk_files(path))


def read(path: Path, options: ReadOptions) -> Collection:
    """Every checkpoint, in the order of their paths. `options.architecture` and `options.labels` name files."""
    files = [path] if path.is_file() else [file for file in walk_files(path) if file.suffix in SUFFIXES]
    root = path.parent if path.is_file() else path
    if not files:
        raise MissingError(f"{printable(path)} holds no file with one of {', '.join(SUFFIXES)}")
    found = _Headers(None if options.architecture is None else read_untrusted_yaml(options.architecture), options)
    index = np.array([found.architecture_of(file) for file in files], np.int64)
    table, notes = _table(root, files, found.scalars, options)
    return Collection(
        format=NAME,
        kind=_kind(found.architectures),
        table=table,
        architectures=tuple(found.architectures),
        architecture_index=index,
        load=lambda rows: stack_networks(
            found.architectures[index[rows[0]]],
            [files[row] for row in rows.tolist()],
            partial(state_dict_of, weights=options.weights),
        ),
        fingerprint=f"{fingerprint_of_files(files)} {table.num_columns}",
        conventions={"splits": notes[0]} if notes else {},
        notes=tuple(found.notes),
    )


class _Headers:
    """The architectures of the files that were looked into, each kind of file inferred once."""

    def __init__(self, declaration: Any, options: ReadOptions) -> None:
        self.architectures: list[Architecture] = []
        self.notes: list[str] = []
        self.scalars: list[Mapping[str, Any]] = []
        self._known: dict[Signature, int] = {}
        self._declaration = declaration
        self._weights = options.weights
        self._where = str(options.architecture or "")

    def architecture_of(self, file: Path) -> int:
        """The number of a file's architecture."""
        loaded = load_checkpoint(file)
        found = found_in(loaded, self._weights)
        if found.choice is not None and found.choice not in self.notes:
            self.notes.append(found.choice)
        scalars = _scalars(loaded.value) | _scalars(found.others)
        if len(scalars) > _MAX_SCALARS:
            raise FormatError(
                f"{loaded.shown} holds {len(scalars)} numbers and texts beside its weights, "
                f"at most {_MAX_SCALARS} become columns",
                hint="save the state_dict alone",
            )
        self.scalars.append(scalars)
        signature = tuple((key, tensor.shape, tensor.dtype) for key, tensor in found.tensors.items())
        if signature not in self._known:
            self._known[signature] = len(self.architectures)
            self.architectures.append(self._architecture(file, {key: (s, d) for key, s, d in signature}))
        return self._known[signature]

    def _architecture(self, file: Path, shapes: Shapes) -> Architecture:
        shown = printable(file.name, 80)
        if self._declaration is not None:
            return declared_architecture(self._declaration, shapes, f"{printable(self._where)} for {shown}")
        inferred = infer_architecture(shapes, shown)
        for assumption in inferred.assumptions:
            if assumption not in self.notes:
                self.notes.append(assumption)
        return inferred.architecture


def _scalars(value: Any) -> dict[str, Any]:
    """Plain numbers and short texts beside the weights: epochs, accuracies."""
    if not isinstance(value, dict):
        return {}
    return {
        str(key): item
        for key, item in value.items()
        if isinstance(key, str) and isinstance(item, int | float | str) and len(str(item)) < 100 and key.isidentifier()
    }


def _table(
    root: Path, files: Sequence[Path], scalars: Sequence[Mapping[str, Any]], options: ReadOptions
) -> tuple[pa.Table, list[str]]:
    ids = [file.relative_to(root).as_posix() for file in files]
    columns: dict[str, Any] = {"net_id": [printable(net_id, 500) for net_id in ids]}
    for name in sorted(set().union(*scalars) - {"net_id"}):
        values = [row.get(name) for row in scalars]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, ValueError, OverflowError):
            columns[name] = pa.array([None if value is None else printable(value, 100) for value in values])
    table = pa.table(columns)
    path = options.labels or find_table(root)
    if path is not None:
        table = _with_labels(table, ids, path)
    if "split" in table.column_names:
        return table, []
    runs = table["run_id"].to_pylist() if "run_id" in table.column_names else ids
    split, rule = seeded_split([str(run) for run in runs], seed=options.seed)
    return table.append_column("split", pa.array(split.tolist())), [f"splits are {rule}"]


def _with_labels(table: pa.Table, ids: Sequence[str], path: Path) -> pa.Table:
    labels = read_labels(path)
    places = {name: place for place, name in enumerate(labels.paths)}
    missing = [net_id for net_id in ids if net_id not in places]
    if missing:
        raise FormatError(
            f"{printable(path)} has no row for {printable(missing[0], 200)} and {len(missing) - 1} other files",
            hint="the first column holds paths relative to the folder",
        )
    chosen = pa.array([places[net_id] for net_id in ids])
    for name in labels.table.column_names:
        column = labels.table[name].take(chosen)
        place = table.schema.get_field_index(name)
        table = table.append_column(name, column) if place < 0 else table.set_column(place, name, column)
    return table


def _kind(architectures: Sequence[Architecture]) -> str:
    families = {architecture.family for architecture in architectures}
    return families.pop() if len(families) == 1 else "mixed"
