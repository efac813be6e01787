"""Opening a store: its small files checked, its arrays and table at hand, its networks by row.

Nothing of a store is believed before it was compared with the manifest: zoo.json, architectures.json and the metadata
of the arrays on opening, each chunk by its own checksum, and nets.parquet as a whole. A table of up to 16 MB is
compared on opening, a larger one, or one behind a URL, when it is first used; a large one behind a URL is read in
parts, where only its pages' checksums tell.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt8

from zootool.architecture import ARRAYS, Architecture, ArrayName
from zootool.errors import FormatError, IntegrityError, MissingError, printable
from zootool.records import parse_json
from zootool.store import schema
from zootool.store.arrays import FlatArray
from zootool.store.layout import parse_layout
from zootool.store.manifest import Manifest, entry_of, parse_manifest
from zootool.store.nets import NetsFile
from zootool.store.pack import DIGEST_BYTES, Rows, digests_of
from zootool.store.schema import FileEntry
from zootool.store.storage import LocalStorage, Storage, cached, open_storage

_MAX_PINNED = 8192
"""Operating systems limit how many files a process maps; of larger stores files are mapped when they are used."""

_WHOLE_TABLE_BYTES = 16 << 20
"""A table of this size is compared in about 20 ms."""

_BLOCK_BYTES = 1 << 20
_SETTLED_NS = 2_000_000_000
"""Clocks of file systems are coarse: a file that changed just now may change again without a sign."""

_compared: set[tuple[str, int, int, int, str]] = set()
"""Path, size, inode, time of change and digest of the tables that this process has compared."""


@dataclass(frozen=True)
class SegmentSpan:
    """A segment with its place: networks [first_row, first_row + count), beginning at `offsets` of the arrays."""

    architecture: Architecture
    first_row: int
    count: int
    offsets: Mapping[ArrayName, int]


class Store:
    """One store, read-only: `info`, `architectures`, `arrays`, `nets` and the segments that tie them together."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self.storage = storage
        self.manifest = manifest
        self._is_local = isinstance(storage, LocalStorage)
        self.info = schema.parse_info(self._covered(schema.ZOO_JSON), self._place(schema.ZOO_JSON))
        if self.info.format_version != manifest.format_version:
            raise FormatError(
                f"{self._place(schema.ZOO_JSON)} is of format {self.info.format_version}, "
                f"{schema.MANIFEST_JSON} of {manifest.format_version}"
            )
        place = self._place(schema.ARCHITECTURES_JSON)
        self.architectures = schema.parse_architectures(self._covered(schema.ARCHITECTURES_JSON), place)
        self._lengths = schema.array_lengths(self.info, self.architectures, self._place(schema.ZOO_JSON))
        self.arrays: dict[ArrayName, FlatArray] = {}
        for name, length in self._lengths.items():
            if length or name != "exact":
                self.arrays[name] = self._open_array(name, length)
        self._resident: dict[tuple[str, int], np.ndarray] = {}
        self._last_checked: tuple[tuple[int, bytes], Rows] | None = None
        self._covered(schema.ZARR_JSON)
        for path, entry in manifest.files.items():
            if storage.size(path) != entry.size:
                raise self._unlike(path, entry)
        if schema.NETS_PARQUET not in manifest.files:
            raise FormatError(f"{self._place(schema.MANIFEST_JSON)} doesn't list {schema.NETS_PARQUET}")
        shards = [path for path in manifest.files if "/c/" in path]
        if len(shards) <= _MAX_PINNED:
            # So that an append which takes the store's name doesn't pull this version's files away.
            storage.pin([schema.NETS_PARQUET, *shards])
        if self._is_local and manifest.files[schema.NETS_PARQUET].size <= _WHOLE_TABLE_BYTES:
            self._compare_table()

    def __len__(self) -> int:
        return self.info.num_networks

    @property
    def zoo_id(self) -> str:
        """SHA-256 of manifest.json."""
        return self.manifest.zoo_id

    @cached_property
    def nets(self) -> NetsFile:
        """nets.parquet, compared with the manifest.

        Raises IntegrityError for another file, FormatError when it doesn't have a store's columns or one row per
        network.
        """
        content = None
        if self._is_local:
            self._compare_table()
        elif self.manifest.files[schema.NETS_PARQUET].size <= _WHOLE_TABLE_BYTES:
            content = self._covered(schema.NETS_PARQUET)
        nets = NetsFile(self.storage, content)
        if nets.num_rows != len(self):
            raise FormatError(f"{nets.name} has {nets.num_rows} rows for {len(self)} networks")
        return nets

    @cached_property
    def images(self) -> FlatArray | None:
        """The source images, where the store carries them: row i belongs to the i-th value of its `source_index`."""
        if f"{schema.IMAGES}/{schema.ZARR_JSON}" not in self.manifest.files:
            return None
        return self._open_array(schema.IMAGES, None)

    @cached_property
    def spans(self) -> tuple[SegmentSpan, ...]:
        """The segments with their places."""
        spans, row = [], 0
        offsets: dict[ArrayName, int] = dict.fromkeys(ARRAYS, 0)
        for segment in self.info.segments:
            architecture = self.architectures[segment.architecture]
            spans.append(SegmentSpan(architecture, row, segment.count, dict(offsets)))
            row += segment.count
            for name in ARRAYS:
                offsets[name] += segment.count * architecture.array_length(name)
        return tuple(spans)

    @cached_property
    def _first_rows(self) -> np.ndarray:
        return np.array([span.first_row for span in self.spans], dtype=np.int64)

    def segment_of(self, rows: Int64[np.ndarray, " networks"]) -> np.ndarray:
        """The number of the segment that holds each row."""
        return np.searchsorted(self._first_rows, rows, side="right") - 1

    def rows_of(self, span: SegmentSpan, rows: Int64[np.ndarray, " networks"]) -> Rows:
        """What the networks at `rows`, all of one segment, take of each array: (networks, array_length).

        Networks from elsewhere are compared with their digests, and an IntegrityError names one that differs: while a
        remote store is read, another version of it may take its place.
        """
        return {name: self.gather(name, span, rows) for name in ARRAYS}

    def gather(self, name: ArrayName, span: SegmentSpan, rows: Int64[np.ndarray, " networks"]) -> np.ndarray:
        """One array of `rows_of`."""
        return self._gather(name, span, rows) if self._is_local else self._checked(span, rows)[name]

    def _gather(self, name: ArrayName, span: SegmentSpan, rows: Int64[np.ndarray, " networks"]) -> np.ndarray:
        length = span.architecture.array_length(name)
        if length == 0:
            return np.empty((len(rows), 0), dtype=np.uint8 if name == "exact" else np.float32)
        return self.arrays[name].gather(span.offsets[name] + (rows - span.first_row) * length, length)

    def resident_segment(self, name: ArrayName, span: SegmentSpan) -> np.ndarray:
        """A whole segment as (count, array_length), read once and kept in memory. Not to be written to."""
        key = name, span.first_row
        if key not in self._resident and not self._is_local:
            whole = self._checked(span, np.arange(span.first_row, span.first_row + span.count))
            self._resident |= {(array, span.first_row): rows for array, rows in whole.items()}
            self._last_checked = None
        if key not in self._resident:
            length = span.architecture.array_length(name)
            start = span.offsets[name]
            flat = self.arrays[name].read(start, start + span.count * length)
            self._resident[key] = flat.reshape(span.count, length)
        return self._resident[key]

    def _checked(self, span: SegmentSpan, rows: Int64[np.ndarray, " networks"]) -> Rows:
        key = span.first_row, rows.tobytes()
        # Arrays are asked for one after another, and a digest needs all of them: the last networks stay at hand.
        kept = self._last_checked
        if kept is not None and kept[0] == key:
            return kept[1]
        gathered = {name: self._gather(name, span, rows) for name in ARRAYS}
        wrong = rows[(digests_of(gathered) != self._digests[rows]).any(axis=1)]
        if len(wrong):
            raise IntegrityError(
                f"network {wrong[0]} of {printable(self.storage.name)} differs from its digest",
                hint="its zoo may have been replaced by another version: open it again",
            )
        self._last_checked = key, gathered
        return gathered

    @cached_property
    def _digests(self) -> UInt8[np.ndarray, "networks 32"]:
        # The file as a whole is what the manifest vouches for: a part of it may be another version's already.
        content = self.nets.content or self._covered(schema.NETS_PARQUET)
        table = pq.read_table(pa.BufferReader(content), columns=["digest"], page_checksum_verification=True)
        column = table["digest"].combine_chunks()
        return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(len(self), DIGEST_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_resident": {}, "_last_checked": None}

    def _open_array(self, name: str, length: int | None) -> FlatArray:
        path = f"{name}/{schema.ZARR_JSON}"
        layout = parse_layout(parse_json(self._covered(path), self._place(path)), self._place(path))
        wanted_dtype = "uint8" if name in ("exact", schema.IMAGES) else "float32"
        if layout.dtype != wanted_dtype or (length is not None and (layout.length, layout.item_shape) != (length, ())):
            raise FormatError(
                f"{self._place(path)} says {layout.dtype} {(layout.length, *layout.item_shape)}, "
                f"the networks need {wanted_dtype} ({length},)"
            )
        for shard in range(layout.num_shards):
            if f"{name}/{layout.shard_path(shard)}" not in self.manifest.files:
                raise FormatError(f"{self._place(schema.MANIFEST_JSON)} lacks {name}/{layout.shard_path(shard)}")
        return FlatArray(self.storage, name, layout)

    def _compare_table(self) -> None:
        """Compare a local nets.parquet with its digest, once while it doesn't change."""
        entry = self.manifest.files[schema.NETS_PARQUET]
        status = os.stat(f"{self.storage.name}/{schema.NETS_PARQUET}")
        key = os.path.realpath(self.storage.name), status.st_size, status.st_ino, status.st_mtime_ns, entry.sha256
        if key in _compared:
            return
        digest, now = sha256(), time.time_ns()
        with self.storage.open(schema.NETS_PARQUET) as source:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
        if digest.hexdigest() != entry.sha256:
            raise self._differs(schema.NETS_PARQUET)
        if now - status.st_mtime_ns > _SETTLED_NS:
            _compared.add(key)

    def _differs(self, path: str) -> IntegrityError:
        return IntegrityError(
            f"{self._place(path)} isn't what the manifest lists",
            hint=f"`zoo verify {printable(self.storage.name)}` shows what else is damaged; fetch or convert it again",
        )

    def _covered(self, path: str) -> bytes:
        """A small file's content, its digest compared with the manifest's."""
        entry = self.manifest.files.get(path)
        if entry is None:
            raise FormatError(
                f"{self._place(schema.MANIFEST_JSON)} doesn't list {path}", hint="convert or fetch the zoo again"
            )
        try:
            if self._is_local and self.storage.size(path) != entry.size:
                # Before it is read: it may be of any size.
                raise self._unlike(path, entry)
            content = self.storage.read(path)
        except OSError as error:
            raise IntegrityError(f"{self._place(path)} is missing", hint="convert or fetch the zoo again") from error
        if entry_of(content) != entry:
            raise self._differs(path)
        return content

    def _unlike(self, path: str, entry: FileEntry) -> IntegrityError:
        size = self.storage.size(path)
        state = "is missing" if size is None else f"has {size} bytes, the manifest says {entry.size}"
        return IntegrityError(f"{self._place(path)} {state}", hint="convert or fetch the zoo again")

    def _place(self, path: str) -> str:
        return f"{self.storage.name}/{path}"


def open_store(path_or_url: str | Path) -> Store:
    """Open a store, checking its manifest, its small files' digests and every file's size.

    Raises MissingError when nothing is there, FormatError for what isn't a zoo or is of a newer format, and
    IntegrityError for a store with damaged, missing or resized files.
    """
    storage = open_storage(path_or_url)
    try:
        content: Any = storage.read(schema.MANIFEST_JSON)
    except OSError as error:
        raise _no_manifest(storage) from error
    manifest = parse_manifest(content, f"{storage.name}/{schema.MANIFEST_JSON}")
    return Store(cached(storage, manifest.zoo_id), manifest)


def _no_manifest(storage: Storage) -> Exception:
    if storage.size(schema.ZOO_JSON) is not None or storage.size(schema.NETS_PARQUET) is not None:
        return IntegrityError(
            f"{storage.name} has no {schema.MANIFEST_JSON}: it was never finished, or lost it",
            hint="convert or fetch the zoo again",
        )
    if storage.size("recipe.yaml") is not None:
        return FormatError(
            f"{storage.name} is a folder of units, not a zoo", hint=f"run `zoo convert {storage.name} NAME.zoo`"
        )
    if not isinstance(storage, LocalStorage):
        return MissingError(f"there is no zoo at {printable(storage.name)}", hint="check the address")
    return FormatError(f"{printable(storage.name)} isn't a zoo", hint="give a folder that `zoo convert` wrote")
