"""A folder that `zoo export` wrote: its index beside it has the table, the architectures and what zoo.json said."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zootool.architecture import Architecture, check_slots
from zootool.errors import FormatError, MissingError, ZooError, printable
from zootool.formats.bad_files import refuse_or_leave_out
from zootool.formats.collection import CollectedImages, Collection, LeftOut
from zootool.formats.options import ReadOptions
from zootool.formats.plain_folder import PlainFolder
from zootool.formats.skeleton import Reader
from zootool.records import from_plain, parse_json
from zootool.untrusted.file_stack import stack_networks
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files
from zootool.untrusted.safe_load import load_checkpoint
from zootool.untrusted.zip_files import check_member_name

FILE_COLUMN = "file"
INFO_KEY = b"zoo.info"
ARCHITECTURES_KEY = b"zoo.architectures"
KEPT_COLUMNS = ("net_id", "architecture")
"""The store's own columns that an index has too."""

KEPT_INFO = ("kind", "sources", "recipe", "licence", "citation", "assumptions")
"""What an index keeps of zoo.json."""


@dataclass(frozen=True)
class _Info:
    kind: str = "mlp"
    sources: tuple[CollectedImages, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None
    citation: str | None = None
    notes: tuple[str, ...] = ()
    assumptions: dict[str, tuple[str, ...]] = field(default_factory=dict)


def index_path(folder: Path) -> Path:
    """Where the index of an exported folder lies: beside it, since loaders take every file in it for a network."""
    whole = folder.absolute()
    return whole.with_name(f"{whole.name}.index.parquet")


class ZooExport(Reader):
    """An exported folder. It has the names of the format that it imitates, so it is asked for first."""

    NAME = "zoo-export"
    TITLE = "A folder that `zoo export` wrote, with its index beside it"
    RANK = -1

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether a folder has an index of an export beside it."""
        index = index_path(path)
        try:
            return path.is_dir() and index.is_file() and INFO_KEY in (pq.read_schema(index).metadata or {})
        except (pa.ArrowException, ValueError, OSError):
            return False

    @classmethod
    def read(cls, path: Path, options: ReadOptions) -> Collection:
        """The networks of the index, with its columns and architectures. Where `options.labels` or
        `options.architecture` say otherwise, the folder is read as any other."""
        index = index_path(path)
        if options.architecture or (options.labels and options.labels.absolute() != index):
            return PlainFolder.read(path, options)
        shown = printable(index)
        table = _read_index(index, shown)
        info = from_plain(_Info, parse_json(table.schema.metadata[INFO_KEY], shown), shown)
        known = _architectures(parse_json(table.schema.metadata[ARCHITECTURES_KEY], shown), shown)
        table, left_out = _present(table, path, options)
        files = [path / name for name in table[FILE_COLUMN].to_pylist()]
        if unknown := set(table["architecture"].to_pylist()) - set(known):
            raise FormatError(f"{shown} lacks the architecture {printable(min(map(str, unknown)), 40)}")
        places = {signature: place for place, signature in enumerate(known)}
        number = np.array([places[signature] for signature in table["architecture"].to_pylist()], np.int64)
        architectures = tuple(known.values())
        return Collection(
            format=cls.NAME,
            kind=info.kind,
            table=table.drop_columns([FILE_COLUMN, "architecture"]).replace_schema_metadata(None),
            architectures=architectures,
            architecture_index=number,
            load=lambda rows: stack_networks(
                architectures[number[rows[0]]],
                [files[row] for row in rows.tolist()],
                lambda file: load_checkpoint(file).tensors,
            ),
            fingerprint=fingerprint_of_files([index, *files]),
            image_sets=info.sources,
            conventions=info.recipe,
            notes=tuple(printable(note, 500) for note in info.notes),
            assumptions=tuple(
                tuple(printable(text, 500) for text in info.assumptions.get(signature, ())) for signature in known
            ),
            left_out=tuple(left_out),
            licence=info.licence,
            citation=info.citation,
        )


def _read_index(index: Path, shown: str) -> pa.Table:
    try:
        table = pq.read_table(index)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise FormatError(f"{shown} isn't a readable table ({printable(error, 160)})") from error
    if table.column_names[:1] != ["net_id"] or not {"architecture", FILE_COLUMN} <= set(table.column_names):
        raise FormatError(f"{shown} lacks net_id, architecture or {FILE_COLUMN}", hint="export the zoo again")
    if not {INFO_KEY, ARCHITECTURES_KEY} <= set(table.schema.metadata or {}):
        raise FormatError(f"{shown} says nothing about its zoo", hint="export again")
    for name in table[FILE_COLUMN].to_pylist():
        check_member_name(str(name))
    return table


def _architectures(plain: Any, where: str) -> Mapping[str, Architecture]:
    if not isinstance(plain, dict):
        raise FormatError(f"{where} has no architectures by their signatures")
    made = {name: Architecture.from_dict(value, where) for name, value in plain.items()}
    for name, architecture in made.items():
        check_slots(architecture)
        if architecture.signature != name:
            raise FormatError(f"{where} has an architecture under the signature of another", hint="export again")
    return made


def _present(table: pa.Table, path: Path, options: ReadOptions) -> tuple[pa.Table, list[LeftOut]]:
    """The rows whose files are there and wanted, and what is left out: other rows, and files without a row."""
    absent: dict[str, ZooError] = {}
    keep = []
    known = set()
    for row, name in enumerate(table[FILE_COLUMN].to_pylist()):
        file = path / name
        known.add(file)
        if any(options.leaves_out(part) for part in (file, *file.parents[: len(file.relative_to(path).parts) - 1])):
            continue
        if file.is_file():
            keep.append(row)
        else:
            missing = MissingError(f"{printable(file)} isn't there, its index lists it", hint="export again")
            absent[file.relative_to(path).as_posix()] = missing
    left_out = refuse_or_leave_out(absent, len(keep), options.skip_bad)
    others = [file for file in walk_files(path, options.leaves_out) if file not in known]
    left_out += [LeftOut(file.relative_to(path).as_posix(), "isn't in the folder's index") for file in others]
    return table.take(pa.array(keep, pa.int64())), left_out
