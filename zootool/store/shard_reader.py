"""Reading one shard file: its index checked once, its chunks verified when they are first used."""

from collections.abc import Sequence

import numpy as np
from numcodecs import get_codec

from zootool.errors import IntegrityError
from zootool.store.layout import CRC_BYTES, INDEX_ENTRY_BYTES, MISSING, ArrayLayout, crc32c
from zootool.store.storage import Bytes, LocalStorage, Storage


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
            raise IntegrityError(f"chunk {inner} of {self._name} doesn't match its checksum", hint=self._hint)
        self._verified[inner] = True

    def _decode(self, inner: int, stored: Bytes) -> np.ndarray:
        if not self._layout.is_plain:
            stored = self._decompressed(inner, stored)
        return stored.view(self._layout.dtype).reshape(self._layout.chunk, *self._layout.item_shape)

    def _decompressed(self, inner: int, stored: Bytes) -> Bytes:
        out = np.empty(self._layout.chunk_bytes, dtype=np.uint8)
        try:
            get_codec({"id": "zstd"}).decode(np.ascontiguousarray(stored), out)
        except (RuntimeError, ValueError) as error:
            raise IntegrityError(f"chunk {inner} of {self._name} doesn't decompress", hint=self._hint) from error
        return out

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
