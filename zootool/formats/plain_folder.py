"""A plain folder (or one file) of checkpoints, with a table of labels where there is one.

Architectures are inferred from names and shapes, or declared in YAML. A table (CSV, JSON lines, Parquet) names each
file by its path relative to the table or to the folder, in its first column or one called path, file or name.
"""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.columns.known import ColumnRules, check_columns
from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, MissingError, ZooError, printable
from zootool.formats.bad_files import READING_ERRORS, refuse_or_leave_out
from zootool.formats.collection import Collection, LeftOut, free_name
from zootool.formats.folder_files import (
    SUFFIXES,
    files_of,
    find_networks,
    holds_tensors,
    is_checkpoint,
    load_network,
    loose_shards,
    network_name,
    related_files,
    same_networks,
)
from zootool.formats.foreign_tables import find_table, read_labels
from zootool.formats.options import ReadOptions
from zootool.formats.skeleton import Reader
from zootool.nets.declared import read_declaration
from zootool.nets.infer import infer_architecture
from zootool.untrusted.bounded_text import read_untrusted_yaml
from zootool.untrusted.file_stack import Tensors, found_in, stack_networks
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files
from zootool.untrusted.safetensors import ORDER_KEY

_NO_INDEX = (
    "`zoo export` wrote these files, but their index FOLDER.index.parquet doesn't lie beside them: "
    "columns and splits are lost"
)

_MAX_SCALARS = 1_000


class PlainFolder(Reader):
    """Anything that holds checkpoints, so it is asked for last."""

    NAME = "folder"
    TITLE = "A folder of checkpoints, or a single one"
    RANK = 1

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether it is a checkpoint, by its name or its first bytes, or a folder that holds one by its name."""
        if path.is_file():
            return is_checkpoint(path) or holds_tensors(path)
        return any(is_checkpoint(file) for file in walk_files(path))

    @classmethod
    def read(cls, path: Path, options: ReadOptions) -> Collection:
        """Every checkpoint, in the order of their paths. `options.architecture` and `options.labels` name files."""
        files, left_out = ([path], []) if path.is_file() else find_networks(path, options)
        root = path.parent if path.is_file() else path
        if not files:
            hint = "--exclude leaves all of them out" if options.exclude else None
            raise MissingError(f"{printable(path)} holds no file with one of {', '.join(SUFFIXES)}", hint=hint)
        declaration = None if options.architecture is None else read_untrusted_yaml(options.architecture)
        found = _Headers(declaration, options, related_files(files))
        files, bad = _look_into(root, files, found, options)
        index = np.array([found.index[file] for file in files], np.int64)
        labels = options.labels or find_table(root)
        table, rule, notes = _table(root, files, [found.scalars[file] for file in files], options, labels)
        families = {architecture.family for architecture in found.architectures}
        read_from = [part for file in files for part in files_of(file)] + ([] if labels is None else [labels])
        return Collection(
            format=cls.NAME,
            kind=families.pop() if len(families) == 1 else "mixed",
            table=table,
            architectures=tuple(found.architectures),
            architecture_index=index,
            load=lambda rows: stack_networks(
                found.architectures[index[rows[0]]],
                [files[row] for row in rows.tolist()],
                lambda file: found_in(load_network(file), options.weights).tensors,
            ),
            fingerprint=f"{fingerprint_of_files(read_from)} {table.num_columns}",
            conventions={"splits": rule} if rule else {},
            notes=(*found.notes, *notes),
            assumptions=tuple(found.assumptions),
            left_out=(*left_out, *bad),
        )


def _look_into(
    root: Path, files: Sequence[Path], found: "_Headers", options: ReadOptions
) -> tuple[list[Path], list[LeftOut]]:
    """The files that are networks, each once, and what is left out. Raises an error that names all bad files."""
    good: list[Path] = []
    bad: dict[Path, ZooError] = {}
    for file in files:
        try:
            found.look_into(file)
            good.append(file)
        except READING_ERRORS as error:
            bad[file] = error
    twins, clashes = same_networks(found.related)
    bad |= loose_shards(found.related) | clashes
    names = {file.relative_to(root).as_posix(): error for file, error in sorted(bad.items())}
    left_out = refuse_or_leave_out(names, len(files) - len(bad), options.skip_bad)
    left_out += [
        LeftOut(file.relative_to(root).as_posix(), f"holds the same network as {printable(other.name, 100)}")
        for file, other in twins.items()
    ]
    return [file for file in good if file not in bad and file not in twins], left_out


class _Headers:
    """The architectures of the files that were looked into, each kind of file inferred once."""

    def __init__(self, declaration: Any, options: ReadOptions, related: Container[Path]) -> None:
        self.architectures: list[Architecture] = []
        self.assumptions: list[tuple[str, ...]] = []
        self.notes: list[str] = []
        self.scalars: dict[Path, Mapping[str, Any]] = {}
        self.index: dict[Path, int] = {}
        self.related: dict[Path, Tensors] = {}
        self._are_related = related
        self._known: dict[tuple[tuple[str, tuple[int, ...], str], ...], int] = {}
        self._declaration = declaration
        self._weights = options.weights
        self._where = printable(options.architecture or "")

    def look_into(self, file: Path) -> None:
        """Note a file's tensors, scalars and the number of its architecture. Raises FormatError for no network."""
        loaded = load_network(file)
        found = found_in(loaded, self._weights)
        for note in (_NO_INDEX if ORDER_KEY in loaded.metadata else None, found.choice):
            if note is not None and note not in self.notes:
                self.notes.append(note)
        metadata = {key: text for key, text in loaded.metadata.items() if key != "format"}
        scalars = _scalars(metadata) | _scalars(loaded.value) | _scalars(found.others)
        if len(scalars) > _MAX_SCALARS:
            raise FormatError(
                f"{loaded.shown} holds {len(scalars)} numbers and texts beside its weights, "
                f"at most {_MAX_SCALARS} become columns",
                hint="save the state_dict alone",
            )
        signature = tuple((key, tensor.shape, tensor.dtype) for key, tensor in found.tensors.items())
        if signature not in self._known:
            shapes, shown = {key: (shape, dtype) for key, shape, dtype in signature}, printable(file.name, 80)
            if self._declaration is None:
                made = infer_architecture(shapes, shown)
            else:
                made = read_declaration(self._declaration, shapes, f"{self._where} for {shown}")
            self._known[signature] = len(self.architectures)
            self.architectures.append(made.architecture)
            self.assumptions.append(made.assumptions)
        self.index[file] = self._known[signature]
        if file in self._are_related:
            self.related[file] = found.tensors
        self.scalars[file] = scalars


def _scalars(value: Any) -> dict[str, Any]:
    """Plain numbers and short texts beside the weights: epochs, accuracies."""
    if not isinstance(value, dict):
        return {}
    return {
        free_name(key, value) if key == "net_id" else key: item
        for key, item in value.items()
        if isinstance(key, str) and isinstance(item, int | float | str) and len(str(item)) < 100 and key.isidentifier()
    }


def _table(
    root: Path,
    files: Sequence[Path],
    scalars: Sequence[Mapping[str, Any]],
    options: ReadOptions,
    labels: Path | None,
) -> tuple[pa.Table, str, list[str]]:
    """The networks' table, the rule of splits that were drawn, and what was done to columns."""
    ids = [file.with_name(network_name(file)).relative_to(root).as_posix() for file in files]
    columns: dict[str, Any] = {"net_id": [printable(net_id, 500) for net_id in ids]}
    notes: list[str] = []
    for name in sorted(set().union(*scalars) - {"net_id"}):
        values = [row.get(name) for row in scalars]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, ValueError, OverflowError):
            columns[name] = pa.array([None if value is None else printable(value, 100) for value in values])
            notes.append(f"the column {name!r} holds numbers and texts, kept as text")
    table, own = check_columns(pa.table(columns), ColumnRules(num_sources=0), aside="file_")
    notes += [f"in the checkpoints, {note}" for note in own]
    if labels is not None:
        table, told = _with_labels(table, ids, labels, options)
        notes += told
    if "split" in table.column_names and table["split"].null_count == len(table):
        table = table.drop_columns(["split"])
        notes.append("the column 'split' is empty and left out")
    if "split" in table.column_names:
        if gaps := table["split"].null_count:
            notes.append(f"{gaps:,} networks are in no split")
        return table, "", notes
    runs = table["run_id"].to_pylist() if "run_id" in table.column_names else ids
    split, rule = seeded_split([str(run) for run in runs], seed=options.seed)
    return table.append_column("split", pa.array(split.tolist())), f"splits are {rule}", notes


def _with_labels(table: pa.Table, ids: Sequence[str], path: Path, options: ReadOptions) -> tuple[pa.Table, list[str]]:
    labels = read_labels(path)
    # Other systems write folders\names; a file whose own name has a backslash is meant first.
    places = {name.replace("\\", "/"): place for place, name in enumerate(labels.paths)}
    places |= {name: place for place, name in enumerate(labels.paths)}
    missing = [net_id for net_id in ids if net_id not in places]
    if missing:
        raise FormatError(
            f"{printable(path)} has no row for {printable(missing[0], 200)} and {len(missing) - 1} other files",
            hint=f"the first column holds paths relative to the folder, here {printable(labels.paths[:1], 80)}",
        )
    chosen = labels.table.take(pa.array([places[net_id] for net_id in ids], pa.int64()))
    names = chosen.column_names
    # A table's net_id may name its networks, as an export's does: then they keep these names.
    ids_here = labels.table["net_id"] if "net_id" in names else None
    are_ids = ids_here is not None and pa.types.is_string(ids_here.type) and len(ids_here.unique()) == len(ids_here)
    if ids_here is not None and not (are_ids and ids_here.null_count == 0):
        chosen = chosen.rename_columns({"net_id": free_name("net_id", names)})
    chosen, found = check_columns(chosen, ColumnRules(options.split_names))
    notes = [*labels.notes, *(f"in {printable(path.name, 60)}, {note}" for note in found)]
    if "source" in chosen.column_names and max(chosen["source"].drop_null().to_pylist(), default=0) > 0:
        # An export's table counts through image sets that only its zoo knows.
        kept = free_name("source", chosen.column_names)
        chosen = chosen.rename_columns({"source": kept})
        notes.append(f"the column 'source' counts image sets that the files don't name: it is the column {kept!r}")
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return pa.table(columns | dict(zip(chosen.column_names, chosen.columns, strict=True))), notes
