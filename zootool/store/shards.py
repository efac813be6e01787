"""Writing an array of a store, shard by shard, in one pass and in constant memory."""

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numcodecs import get_codec

from zootool.files import fsync_folder
from zootool.store.arrays import FlatArray
from zootool.store.journal import ArrayMark
from zootool.store.layout import CRC_BYTES, MISSING, ArrayLayout, crc32c
from zootool.store.manifest import entry_of
from zootool.store.schema import FileEntry

_READ_BYTES = 1 << 20


class ArrayWriter:
    """Writes an array from its first item to its last. The only writer of each of its shards.

    Items are appended in pieces of any size; `close` pads the last chunk and returns the entry of every file by its
    path below the array's folder. `folder` must be empty or missing, but for what an interrupted writer left, whose
    `mark` is given: then the items that it covers are in already.
    """

    def __init__(self, folder: Path, layout: ArrayLayout, mark: ArrayMark | None = None) -> None:
        self._folder = folder
        self._layout = layout
        self._chunk = bytearray()
        self.length = 0
        self._shard: _OpenShard | None = None
        self._num_shards = 0
        self.entries: dict[str, FileEntry] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._unsynced: list[Path] = [folder, folder / "zarr.json"]
        content = layout.to_zarr_json()
        (folder / "zarr.json").write_bytes(content)
        self.entries["zarr.json"] = entry_of(content)
        if mark is not None:
            self._go_on_from(mark)

    def append(self, items: np.ndarray) -> None:
        """Append items of the layout's dtype, in C order."""
        dtype = np.dtype(self._layout.dtype).newbyteorder("<")
        piece = np.ascontiguousarray(items, dtype=dtype).reshape(-1).data.cast("B")
        self.length += len(piece) // self._layout.item_bytes
        chunk_bytes = self._layout.chunk_bytes
        while piece:
            room = chunk_bytes - len(self._chunk)
            if room == chunk_bytes and len(piece) >= chunk_bytes:
                self._put_chunk(piece[:chunk_bytes])
            else:
                self._chunk += piece[:room]
                if len(self._chunk) == chunk_bytes:
                    self._put_chunk(memoryview(self._chunk))
                    self._chunk = bytearray()
            piece = piece[room:]

    def mark(self) -> ArrayMark:
        """Where the array stands, all of which has reached the disk when this returns."""
        chunks, entry = ((), None) if self._shard is None else self._shard.sync()
        for path in self._unsynced:
            fsync_folder(path)
        self._unsynced = []
        return ArrayMark(self._num_shards, dict(self.entries), chunks, entry, b64encode(self._chunk).decode("ascii"))

    def take_over(self, old: FlatArray, files: Mapping[str, FileEntry]) -> None:
        """Begin with the items of another store's array of the same cuts, or of any cuts where it has no full shard.

        Full shards are hard links where the file system has them, else copies; `files` is the other's manifest.
        """
        layout, linked = self._layout, 0
        if layout.with_length(old.layout.length) == old.layout:
            for number in range(old.layout.length // layout.shard):
                path = layout.shard_path(number)
                old.link_shard(number, self._folder / path)
                self.entries[path] = files[f"{old.name}/{path}"]
                self._unsynced += [self._folder / path, (self._folder / path).parent]
            self._num_shards = old.layout.length // layout.shard
            linked = self.length = self._num_shards * layout.shard
        for start in range(linked, old.layout.length, old.layout.chunk):
            self.append(old.read(start, min(start + old.layout.chunk, old.layout.length)))

    def close(self) -> dict[str, FileEntry]:
        """Finish the last shard. Raises ValueError when fewer or more items came than the layout says."""
        if self.length != self._layout.length:
            raise ValueError(f"{self._folder.name} got {self.length} of {self._layout.length} items")
        if self._chunk:
            missing = self._layout.chunk - len(self._chunk) // self._layout.item_bytes
            self._put_chunk(memoryview(bytes(self._chunk) + self._layout.fill_bytes * missing))
            self._chunk = bytearray()
        self._finish_shard()
        return self.entries

    def abandon(self) -> None:
        """Close the file that is open, if any; what it lacks stays lacking."""
        if self._shard is not None:
            self._shard.abandon()
            self._shard = None

    def _put_chunk(self, chunk: memoryview) -> None:
        if self._shard is None:
            path = self._folder / self._layout.shard_path(self._num_shards)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._shard = _OpenShard(path.open("xb"), self._layout)
            self._unsynced += [path, path.parent]
        self._shard.put(chunk)
        if self._shard.is_full:
            self._finish_shard()

    def _finish_shard(self) -> None:
        if self._shard is not None:
            self.entries[self._layout.shard_path(self._num_shards)] = self._shard.finish()
            self._shard = None
            self._num_shards += 1

    def _go_on_from(self, mark: ArrayMark) -> None:
        """Cut off what was written after the mark."""
        self.entries |= mark.entries
        self._num_shards = mark.num_shards
        self._chunk = bytearray(b64decode(mark.begun))
        open_path = self._folder / self._layout.shard_path(mark.num_shards)
        kept = {self._folder / path for path in mark.entries} | ({open_path} if mark.chunks else set())
        for path in self._folder.rglob("*"):
            if path.is_file() and path not in kept and path.name != "zarr.json":
                path.unlink()
        if mark.chunks:
            self._shard = _OpenShard(open_path.open("r+b"), self._layout, mark.chunks)
        per_shard, chunk = self._layout.chunks_per_shard, self._layout.chunk
        begun = len(self._chunk) // self._layout.item_bytes
        self.length = (mark.num_shards * per_shard + len(mark.chunks)) * chunk + begun


class _OpenShard:
    """A shard in the making: its file, its running digest and its index."""

    def __init__(self, sink: BinaryIO, layout: ArrayLayout, chunks: tuple[tuple[int, int], ...] = ()) -> None:
        self._sink = sink
        self._compressor = None if layout.zstd_level is None else get_codec({"id": "zstd", "level": layout.zstd_level})
        self._digest = hashlib.sha256()
        self._index = np.full((layout.chunks_per_shard, 2), MISSING, dtype="<u8")
        self._offset = 0
        self._num_chunks = len(chunks)
        if chunks:
            self._index[: len(chunks)] = chunks
            self._offset = sum(chunks[-1])
            self._take_up()

    def sync(self) -> tuple[tuple[tuple[int, int], ...], FileEntry]:
        """Bring what is there to the disk; (offset, stored bytes) of its chunks, and the entry of the whole."""
        self._sink.flush()
        os.fsync(self._sink.fileno())
        chunks = tuple((int(offset), int(size)) for offset, size in self._index[: self._num_chunks])
        return chunks, self._entry()

    @property
    def is_full(self) -> bool:
        return self._num_chunks == len(self._index)

    def put(self, chunk: memoryview) -> None:
        stored: Any = chunk if self._compressor is None else self._compressor.encode(chunk)
        self._index[self._num_chunks] = self._offset, len(stored) + CRC_BYTES
        self._num_chunks += 1
        self._write(stored)
        self._write(crc32c(stored))

    def finish(self) -> FileEntry:
        index = self._index.tobytes()
        self._write(index)
        self._write(crc32c(index))
        self._sink.close()
        return self._entry()

    def abandon(self) -> None:
        self._sink.close()

    def _entry(self) -> FileEntry:
        return FileEntry(self._offset, self._digest.hexdigest())

    def _take_up(self) -> None:
        """Digest the first bytes of the file and drop the rest."""
        left = self._offset
        while left:
            piece = self._sink.read(min(left, _READ_BYTES))
            assert piece, "the journal has compared the files"
            self._digest.update(piece)
            left -= len(piece)
        self._sink.truncate(self._offset)
        self._sink.seek(self._offset)

    def _write(self, content: Any) -> None:
        self._digest.update(content)
        self._sink.write(content)
        self._offset += len(content)
