"""Is a store what its manifest says, and are its networks what its table says?"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zootool.architecture import ARRAYS
from zootool.columns.known import KNOWN
from zootool.errors import BadDataError, IntegrityError, printable
from zootool.files import sha256_file
from zootool.progress import Reporter, silent
from zootool.store.pack import Rows, are_finite, digests_of, narrow, widen
from zootool.store.reader import SegmentSpan, Store
from zootool.store.rows import checked_columns
from zootool.store.schema import DERIVED_FILES, MANIFEST_JSON, OFFSET_COLUMNS
from zootool.store.storage import LocalStorage, Storage
from zootool.store.stored_images import image_keys, stored_images
from zootool.store.writer import IS_FINITE

_ROWS = 1 << 14
_READ_BYTES = 1 << 20


@dataclass
class Verification:
    """What was checked. `problems` name file and fault; `skipped` says which part couldn't be checked, and why."""

    zoo_id: str
    num_networks: int
    checked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def raise_problems(self, name: str) -> None:
        """Raise IntegrityError with every problem, where there is one."""
        if self.problems:
            shown = "\n  ".join(self.problems[:20])
            count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
            raise IntegrityError(f"{name} has {count}:\n  {shown}", hint="convert or fetch the zoo again")


def check_names(store: Store, result: Verification) -> None:
    """Quick: opening has compared the listed files' sizes, this looks for files that aren't listed."""
    _run(result, "file names", _unexpected_files(store))


def check_contents(store: Store, result: Verification, report: Reporter = silent) -> None:
    """Deep: every file's digest, every chunk's checksum, the offsets, the known columns, the images' number, and
    every network's digest."""
    _run(result, "file digests", _wrong_digests(store, report))
    _run(result, "chunk checksums", _damaged_shards(store, report))
    _run(result, "offsets", _wrong_offsets(store))
    _run(result, "columns", _wrong_columns(store))
    if result.passed:
        _run(result, "network digests", _wrong_networks(store, report))


def _run(result: Verification, what: str, problems: Iterator[str]) -> None:
    try:
        result.problems += list(problems)
    except BadDataError as error:
        result.problems.append(error.message)
    result.checked.append(what)


def _unexpected_files(store: Store) -> Iterator[str]:
    """Opening has compared the listed files' sizes; here is what lies in the folder beside them."""
    if not isinstance(store.storage, LocalStorage):
        return
    known = {*store.manifest.files, MANIFEST_JSON, *DERIVED_FILES}
    folder = store.storage.folder
    for parent, folders, names in os.walk(folder):
        # A link to a folder isn't walked into, and is none of a store's files.
        for name in (*names, *(name for name in folders if (Path(parent) / name).is_symlink())):
            path = (Path(parent) / name).relative_to(folder).as_posix()
            if path not in known:
                yield f"{path} isn't in the manifest"


def _wrong_digests(store: Store, report: Reporter) -> Iterator[str]:
    files = store.manifest.files
    for done, (path, entry) in enumerate(sorted(files.items())):
        report("checking files", done, len(files))
        if _sha256(store.storage, path) != entry.sha256:
            yield f"{path} differs from its digest in the manifest"
    report("checking files", len(files), len(files))


def _sha256(storage: Storage, path: str) -> str:
    if isinstance(storage, LocalStorage):
        # Of the file as it is now, not as it was when the store was opened.
        return sha256_file(storage.folder / path)
    digest = hashlib.sha256()
    with storage.open(path) as source:
        while block := source.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _damaged_shards(store: Store, report: Reporter) -> Iterator[str]:
    arrays = [*store.arrays.values(), *([store.images] if store.images is not None else [])]
    todo = [(array, number) for array in arrays for number in range(array.layout.num_shards)]
    for done, (array, number) in enumerate(todo):
        report("checking chunks", done, len(todo))
        try:
            array.check_shard(number)
        except IntegrityError as error:
            yield error.message
    report("checking chunks", len(todo), len(todo))


def _wrong_offsets(store: Store) -> Iterator[str]:
    """The table's architecture and offset columns against the segments of zoo.json, which the arrays' lengths match."""
    signatures = store.nets.read(["architecture"])["architecture"]
    for span in store.spans:
        rows = slice(span.first_row, span.first_row + span.count)
        if signatures.slice(span.first_row, span.count).unique().to_pylist() != [span.architecture.signature]:
            yield f"nets.parquet has another architecture than zoo.json in rows {rows.start} to {rows.stop - 1}"
        for name in ARRAYS:
            column = OFFSET_COLUMNS[name]
            offsets = store.nets.read([column])[column].slice(span.first_row, span.count).to_numpy()
            wanted = span.offsets[name] + np.arange(span.count) * span.architecture.array_length(name)
            if not np.array_equal(offsets, wanted):
                row = span.first_row + int(np.flatnonzero(offsets != wanted)[0])
                found = offsets[row - span.first_row]
                yield f"nets.parquet: {column} of row {row} is {found}, its array has the network elsewhere"
    net_ids = store.nets.read(["net_id"])["net_id"]
    if len(net_ids.unique()) != len(store):
        yield f"nets.parquet: {len(store) - len(net_ids.unique())} networks share their net_id with another"


def _wrong_columns(store: Store) -> Iterator[str]:
    """Columns that don't hold what the format says; their values would be left out or refused where they are used."""
    known = [name for name in store.nets.column_names if name in KNOWN]
    table, notes = checked_columns(store, store.nets.read(known))
    yield from (f"nets.parquet isn't in the format's form: {note}" for note in notes)
    image_keys(table)
    stored_images(store)


def _wrong_networks(store: Store, report: Reporter) -> Iterator[str]:
    digests = store.nets.read(["digest"])["digest"]
    is_finite = store.nets.read([IS_FINITE])[IS_FINITE] if IS_FINITE in store.nets.column_names else None
    for span in store.spans:
        for start in range(0, span.count, _ROWS):
            rows = span.first_row + np.arange(start, min(start + _ROWS, span.count))
            report("checking networks", int(rows[0]), len(store))
            stored = store.rows_of(span, rows)
            recorded = digests.slice(int(rows[0]), len(rows)).to_pylist()
            for row, digest, wanted in zip(rows.tolist(), digests_of(stored), recorded, strict=True):
                if digest.tobytes() != wanted:
                    yield f"network {row} differs from its digest in nets.parquet"
            if is_finite is not None:
                said = is_finite.slice(int(rows[0]), len(rows)).to_pylist()
                for row, was_said, finite in zip(rows.tolist(), said, are_finite(stored).tolist(), strict=True):
                    if was_said is not None and was_said != finite:
                        yield f"network {row} has is_finite = {was_said} in nets.parquet, its weights say {finite}"
            yield from _unlike_their_dtype(span, stored, int(rows[0]))
    report("checking networks", len(store), len(store))


def _unlike_their_dtype(span: SegmentSpan, rows: Rows, first_row: int) -> Iterator[str]:
    """float16 and bfloat16 lie in float32 without loss; what they can't hold was never in a checkpoint."""
    for slot in span.architecture.slots:
        if slot.array != "exact" and slot.dtype in ("float16", "bfloat16"):
            stored = np.ascontiguousarray(rows[slot.array][:, slot.start : slot.start + slot.length])
            again = widen(narrow(stored, slot.dtype), slot.dtype)
            lossy = (again.view(np.uint32) != stored.view(np.uint32)).any(axis=1)
            if lossy.any():
                row, key = first_row + int(np.flatnonzero(lossy)[0]), printable(slot.key)
                yield f"network {row}: {key!r} holds numbers that {slot.dtype} can't"
