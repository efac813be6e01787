"""Reading an array of a store: every inner chunk's checksum is verified before its first number is used.

Zarr libraries fill in for shards and chunks that are missing without a word; here each is an IntegrityError. Chunks
of an uncompressed local store are views of mapped memory, so networks are gathered straight from the page cache.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numcodecs import get_codec

from zootool.errors import IntegrityError
from zootool.store.layout import CRC_BYTES, INDEX_ENTRY_BYTES, MISSING, ArrayLayout, crc32c
from zootool.store.storage import Bytes, LocalStorage, Storage

_CACHED_CHUNKS = 64


class FlatArray:
    """One array of a store, read-only. Items along the first axis; `layout` says how they lie in shards."""

    def __init__(self, storage: Storage, name: str, layout: ArrayLayout) -> None:
        self.name = name
        self.layout = layout
        self._storage = storage
        self._shards: dict[int, _Shard] = {}

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
            out[done - start : done - start + count] = self.chunk(number)[offset : offset + count]
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
            out[chosen] = self._shard(number).rows(chunks, offsets // length, length)
        return out

    def chunk(self, number: int) -> np.ndarray:
        """Inner chunk `number` of the whole array, verified; the padding behind the array's end included."""
        shard, inner = divmod(number, self.layout.chunks_per_shard)
        return self._shard(shard).chunk(inner)

    def link_shard(self, number: int, target: Path) -> None:
        """Give a verified shard another name, by a hard link or else a copy."""
        self.check_shard(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._storage.link(f"{self.name}/{self.layout.shard_path(number)}", target)

    def check_shard(self, number: int) -> None:
        """Verify every chunk of a shard. Raises IntegrityError."""
        shard = _Shard(self._storage, self.name, self.layout, number)
        for inner in range(self.layout.chunks_in_shard(number)):
            shard.chunk(inner)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_shards": {}}

    def _shard(self, number: int) -> "_Shard":
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = _Shard(self._storage, self.name, self.layout, number)
        return shard


class _Shard:
    """One shard file with its index; remembers which of its chunks have been verified."""

    def __init__(self, storage: Storage, array: str, layout: ArrayLayout, number: int) -> None:
        self._layout = layout
        self._storage = storage
        self._path = f"{array}/{layout.shard_path(number)}"
        self._name = f"{storage.name}/{self._path}"
        self._num_chunks = layout.chunks_in_shard(number)
        self._index = self._read_index()
        self._verified = np.zeros(self._num_chunks, dtype=bool)
        self._decoded: OrderedDict[int, np.ndarray] = OrderedDict()
        plain = layout.is_plain and np.array_equal(self._index, layout.plain_index(self._num_chunks))
        self._is_mapped = plain and isinstance(storage, LocalStorage)

    def chunk(self, inner: int) -> np.ndarray:
        """One chunk as (chunk, *item_shape), read-only."""
        if self._is_mapped:
            stored = self._stored(inner)
            self._verify(inner, stored)
            return self._shaped(stored[:-CRC_BYTES])
        if inner in self._decoded:
            self._decoded.move_to_end(inner)
            return self._decoded[inner]
        stored = self._stored(inner)
        self._verify(inner, stored)
        self._decoded[inner] = self._decode(inner, stored[:-CRC_BYTES])
        if len(self._decoded) > _CACHED_CHUNKS:
            self._decoded.popitem(last=False)
        return self._decoded[inner]

    def rows(self, chunks: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
        """Row `rows[i]` of chunk `chunks[i]`, where chunks hold whole rows of `length` items."""
        layout = self._layout
        if not self._is_mapped:
            return np.stack([self._row(c, r, length) for c, r in zip(chunks.tolist(), rows.tolist(), strict=True)])
        for inner in np.unique(chunks).tolist():
            if not self._verified[inner]:
                self.chunk(inner)
        stride = layout.chunk_bytes + CRC_BYTES
        mapped = self._storage.fetch(self._path, [(0, self._num_chunks * stride)])[0]
        chunked = mapped.reshape(self._num_chunks, stride)[:, :-CRC_BYTES]
        shape = (self._num_chunks, layout.chunk // length, length, *layout.item_shape)
        return chunked.view(layout.dtype).reshape(shape)[chunks, rows]

    def _row(self, inner: int, row: int, length: int) -> np.ndarray:
        return self.chunk(inner)[row * length : (row + 1) * length]

    def _stored(self, inner: int) -> Bytes:
        offset, size = (int(value) for value in self._index[inner])
        return self._storage.fetch(self._path, [(offset, offset + size)])[0]

    def _verify(self, inner: int, stored: Bytes) -> None:
        if self._verified[inner]:
            return
        if crc32c(stored[:-CRC_BYTES]) != stored[-CRC_BYTES:].tobytes():
            raise IntegrityError(f"chunk {inner} of {self._name} doesn't match its checksum", hint=self._hint)
        self._verified[inner] = True

    def _decode(self, inner: int, stored: Bytes) -> np.ndarray:
        if self._layout.is_plain:
            return self._shaped(stored)
        out = np.empty(self._layout.chunk_bytes, dtype=np.uint8)
        try:
            get_codec({"id": "zstd"}).decode(np.ascontiguousarray(stored), out)
        except (RuntimeError, ValueError) as error:
            raise IntegrityError(f"chunk {inner} of {self._name} doesn't decompress", hint=self._hint) from error
        return self._shaped(out)

    def _shaped(self, content: Bytes) -> np.ndarray:
        return content.view(self._layout.dtype).reshape(self._layout.chunk, *self._layout.item_shape)

    def _read_index(self) -> np.ndarray:
        layout = self._layout
        size = self._storage.size(self._path)
        if size is None:
            raise IntegrityError(f"{self._name} is missing", hint=self._hint)
        if size < layout.index_bytes:
            raise IntegrityError(f"{self._name} is cut off: {size} bytes", hint=self._hint)
        tail = self._storage.fetch(self._path, [(size - layout.index_bytes, size)])[0]
        if crc32c(tail[:-CRC_BYTES]) != tail[-CRC_BYTES:].tobytes():
            raise IntegrityError(f"the index of {self._name} doesn't match its checksum", hint=self._hint)
        index = tail[:-CRC_BYTES].copy().view("<u8").reshape(-1, INDEX_ENTRY_BYTES // 8)
        self._check_index(index, size - layout.index_bytes)
        return index

    def _check_index(self, index: np.ndarray, end: int) -> None:
        present = index[: self._num_chunks]
        if np.any(present == MISSING):
            lost = int(np.flatnonzero(np.any(present == MISSING, axis=1))[0])
            raise IntegrityError(f"chunk {lost} of {self._name} is missing", hint=self._hint)
        offsets, sizes = present[:, 0], present[:, 1]
        too_long = (sizes > end) | (offsets > np.uint64(end) - np.minimum(sizes, np.uint64(end)))
        wrong_size = sizes != self._layout.chunk_bytes + CRC_BYTES if self._layout.is_plain else sizes <= CRC_BYTES
        if np.any(too_long | wrong_size):
            raise IntegrityError(f"the index of {self._name} points outside its chunks", hint=self._hint)

    @property
    def _hint(self) -> str:
        return f"run `zoo verify --deep {self._storage.name}` for the whole damage, then fetch or convert it again"
