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

from zootool.store.layout import ArrayLayout
from zootool.store.shard_reader import ShardReader
from zootool.store.storage import Storage

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
        return self.__dict__ | {"_shards": {}, "_cache": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._cache = _ChunkCache(max(1, CACHE_BYTES // self.layout.chunk_bytes))

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

    def _shard(self, number: int) -> ShardReader:
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = ShardReader(self._storage, self.name, self.layout, number)
        return shard


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
