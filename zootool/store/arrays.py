"""Reading an array of a store: every inner chunk's checksum is verified before its first number is used.

Zarr libraries fill in for shards and chunks that are missing without a word; here each is an IntegrityError. Chunks
of an uncompressed local store are views of mapped memory, so networks are gathered straight from the page cache.
Others are fetched several at a time, decoded, and kept for a while.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Int64
from numcodecs import get_codec

from zootool.errors import IntegrityError
from zootool.store.layout import CRC_BYTES, INDEX_ENTRY_BYTES, MISSING, ArrayLayout, crc32c
from zootool.store.storage import Bytes, LocalStorage, Storage

CACHE_BYTES = 128 << 20
"""How much of an array that isn't mapped is kept decoded."""


class FlatArray:
    """One array of a store, read-only. Items along the first axis; `layout` says how they lie in shards."""

    def __init__(self, storage: Storage, name: str, layout: ArrayLayout) -> None:
        self.name = name
        self.layout = layout
        self._storage = storage
        self._shards: dict[int, ShardReader] = {}
        self._cache = _ChunkCache(max(1, CACHE_BYTES // layout.chunk_bytes))

    def __len__(self) -> int:
        return self.layout.length

    def read(self, start: int, stop: int) -> np.ndarray:
        """A copy of the items [start, stop), in an array of (stop - start, *item_shape)."""
        layout = self.layout
        out = np.empty((stop - start, *layout.item_shape), dtype=layout.dtype)
        done = start
        while done < stop:
            number, offset = divmod(done, layout.chunk)
            count = min(layout.chunk - offset, stop - done)
            shard, inner = divmod(number, layout.chunks_per_shard)
            out[done - start : done - start + count] = self._chunks(shard, [inner])[0][offset : offset + count]
            done += count
        return out

    def gather(self, starts: Int64[np.ndarray, " networks"], length: int) -> np.ndarray:
        """The items [start, start + length) of every start, in an array of (networks, length, *item_shape)."""
        layout = self.layout
        out = np.empty((len(starts), length, *layout.item_shape), dtype=layout.dtype)
        if length == 0 or len(starts) == 0:
            return out
        if layout.chunk % length or np.any(starts % length):
            for place, start in enumerate(starts.tolist()):
                out[place] = self.read(start, start + length)
            return out
        shards, within = np.divmod(starts, layout.shard)
        for number in np.unique(shards).tolist():
            chosen = np.flatnonzero(shards == number)
            chunks, offsets = np.divmod(within[chosen], layout.chunk)
            out[chosen] = self._rows(number, chunks, offsets // length, length)
        return out

    def link_shard(self, number: int, target: Path) -> None:
        """Give a verified shard another name, by a hard link or else a copy."""
        self.check_shard(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._storage.link(f"{self.name}/{self.layout.shard_path(number)}", target)

    def check_shard(self, number: int) -> None:
        """Verify every chunk of a shard. Raises IntegrityError."""
        shard = ShardReader(self._storage, self.name, self.layout, number)
        for inner in range(self.layout.chunks_in_shard(number)):
            shard.load([inner])

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_shards": {}}

    def _rows(self, number: int, chunks: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
        """Row `rows[i]` of chunk `chunks[i]` of a shard, where chunks hold whole rows of `length` items."""
        shard = self._shard(number)
        if shard.is_mapped:
            return shard.rows(chunks, rows, length)
        needed, place = np.unique(chunks, return_inverse=True)
        loaded = self._chunks(number, needed.tolist())
        wanted = zip(place.tolist(), (rows * length).tolist(), strict=True)
        return np.stack([loaded[chunk][start : start + length] for chunk, start in wanted])

    def _chunks(self, number: int, inner: Sequence[int]) -> list[np.ndarray]:
        """Some chunks of a shard, verified; the padding behind the array's end included."""
        shard = self._shard(number)
        if shard.is_mapped:
            return shard.load(inner)
        found = {i: self._cache.get((number, i)) for i in inner}
        lacking = [i for i, chunk in found.items() if chunk is None]
        for i, chunk in zip(lacking, shard.load(lacking) if lacking else [], strict=True):
            found[i] = chunk
            self._cache.put((number, i), chunk)
        return [chunk for chunk in found.values() if chunk is not None]

    def _shard(self, number: int) -> "ShardReader":
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = ShardReader(self._storage, self.name, self.layout, number)
        return shard


class ShardReader:
    """One shard of an array.

    `is_mapped`: the chunks lie in local memory as they are and where they are expected, so that `rows` can pick from
    all of them at once. Raises IntegrityError for an index that is damaged, or lacks a chunk that the array has.
    """

    def __init__(self, storage: Storage, array: str, layout: ArrayLayout, number: int) -> None:
        self._layout = layout
        self._storage = storage
        self._path = f"{array}/{layout.shard_path(number)}"
        self._name = f"{storage.name}/{self._path}"
        self._num_chunks = layout.chunks_in_shard(number)
        self._index = self._read_index()
        self._verified = np.zeros(self._num_chunks, dtype=bool)
        plain = layout.is_plain and np.array_equal(self._index, layout.plain_index(self._num_chunks))
        self.is_mapped = plain and isinstance(storage, LocalStorage)

    def load(self, inner: Sequence[int]) -> list[np.ndarray]:
        """Some chunks as (chunk, *item_shape), read-only. Raises IntegrityError for one that is damaged."""
        offsets, sizes = self._index[list(inner)].astype(np.int64).T
        ranges = [(start, start + size) for start, size in zip(offsets.tolist(), sizes.tolist(), strict=True)]
        chunks = []
        for number, stored in zip(inner, self._storage.fetch(self._path, ranges), strict=True):
            self._verify(number, stored)
            chunks.append(self._decode(number, stored[:-CRC_BYTES]))
        return chunks

    def rows(self, chunks: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
        """Row `rows[i]` of chunk `chunks[i]`, where chunks hold whole rows of `length` items. For mapped shards."""
        layout = self._layout
        unverified = np.unique(chunks[~self._verified[chunks]]).tolist()
        if unverified:
            self.load(unverified)
        stride = layout.chunk_bytes + CRC_BYTES
        mapped = self._storage.fetch(self._path, [(0, self._num_chunks * stride)])[0]
        chunked = mapped.reshape(self._num_chunks, stride)[:, :-CRC_BYTES]
        shape = (self._num_chunks, layout.chunk // length, length, *layout.item_shape)
        return chunked.view(layout.dtype).reshape(shape)[chunks, rows]

    def _verify(self, inner: int, stored: Bytes) -> None:
        # What isn't mapped is fetched anew, and may have been damaged on the way this time.
        if self.is_mapped and self._verified[inner]:
            return
        if crc32c(stored[:-CRC_BYTES]) != stored[-CRC_BYTES:].tobytes():
            raise self._damage(f"chunk {inner} of {self._name} doesn't match its checksum")
        self._verified[inner] = True

    def _decode(self, inner: int, stored: Bytes) -> np.ndarray:
        chunk = stored
        if not self._layout.is_plain:
            chunk = np.empty(self._layout.chunk_bytes, dtype=np.uint8)
            try:
                get_codec({"id": "zstd"}).decode(np.ascontiguousarray(stored), chunk)
            except (RuntimeError, ValueError) as error:
                raise self._damage(f"chunk {inner} of {self._name} doesn't decompress") from error
        return chunk.view(self._layout.dtype).reshape(self._layout.chunk, *self._layout.item_shape)

    def _read_index(self) -> np.ndarray:
        layout = self._layout
        size = self._storage.size(self._path)
        if size is None:
            raise self._damage(f"{self._name} is missing")
        if size < layout.index_bytes:
            raise self._damage(f"{self._name} is cut off: {size} bytes")
        tail = self._storage.fetch(self._path, [(size - layout.index_bytes, size)])[0]
        if crc32c(tail[:-CRC_BYTES]) != tail[-CRC_BYTES:].tobytes():
            raise self._damage(f"the index of {self._name} doesn't match its checksum")
        index = tail[:-CRC_BYTES].copy().view("<u8").reshape(-1, INDEX_ENTRY_BYTES // 8)
        self._check_index(index, size - layout.index_bytes)
        return index

    def _check_index(self, index: np.ndarray, end: int) -> None:
        present = index[: self._num_chunks]
        if np.any(present == MISSING):
            lost = int(np.flatnonzero(np.any(present == MISSING, axis=1))[0])
            raise self._damage(f"chunk {lost} of {self._name} is missing")
        offsets, sizes = present[:, 0], present[:, 1]
        too_long = (sizes > end) | (offsets > np.uint64(end) - np.minimum(sizes, np.uint64(end)))
        wrong_size = sizes != self._layout.chunk_bytes + CRC_BYTES if self._layout.is_plain else sizes <= CRC_BYTES
        if np.any(too_long | wrong_size):
            raise self._damage(f"the index of {self._name} points outside its chunks")

    def _damage(self, what: str) -> IntegrityError:
        hint = f"run `zoo verify --deep {self._storage.name}` for the whole damage, then fetch or convert it again"
        return IntegrityError(what, hint=hint)


class _ChunkCache:
    """The chunks that were used last; loaders read from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._chunks: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[int, int]) -> np.ndarray | None:
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
            return self._chunks.get(key)

    def put(self, key: tuple[int, int], chunk: np.ndarray) -> None:
        with self._lock:
            self._chunks[key] = chunk
            if len(self._chunks) > self._size:
                self._chunks.popitem(last=False)

    def __reduce__(self) -> tuple[type, tuple[int]]:
        # Locks don't travel to other processes, and chunks are read again there.
        return _ChunkCache, (self._size,)
