"""How one array of a store lies in its shard files: a Zarr v3 `sharding_indexed` array cut along its first axis.

A shard is its inner chunks, each followed by its CRC32C, then a table of (offset, nbytes) per inner chunk and the
table's CRC32C. Chunks behind the array's end are marked missing; the last chunk is padded with the fill value.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, Literal

import google_crc32c
import numpy as np

from zootool.errors import FormatError, printable
from zootool.records import from_plain
from zootool.store.schema import MAX_ELEMENTS

CRC_BYTES = 4
INDEX_ENTRY_BYTES = 16
MISSING = (1 << 64) - 1
"""Offset and length of an inner chunk that isn't there."""

CHUNK_BYTES = 1 << 20
SHARD_BYTES = 64 << 20

_MAX_CHUNK_BYTES = 1 << 30
_MAX_CHUNKS_PER_SHARD = 1 << 20
_FILL_VALUES: dict[str, Any] = {"float32": "NaN", "uint8": 0}


@dataclass(frozen=True)
class WriteOptions:
    """How a store is written. `workers` and `mark_bytes` don't change a byte of it; the others not what is read back.

    Each time that about `mark_bytes` more are written, an interrupted write has a place to go on from.

    `zstd_level` None stores chunks as they are. `nonfinite="keep"` stores networks with NaN or infinite parameters
    and marks them in the column `is_finite`; "refuse" raises NumericalError.
    """

    workers: int = 2
    zstd_level: int | None = None
    nonfinite: Literal["refuse", "keep"] = "refuse"
    chunk_bytes: int = CHUNK_BYTES
    shard_bytes: int = SHARD_BYTES
    mark_bytes: int = 256 << 20


@dataclass(frozen=True)
class ArrayLayout:
    """An array of `length` items along the first axis, `chunk` items per inner chunk, in shards of several chunks.

    Items are scalars, or arrays of `item_shape` (source images).
    """

    length: int
    chunk: int
    chunks_per_shard: int
    dtype: Literal["float32", "uint8"] = "float32"
    item_shape: tuple[int, ...] = ()
    zstd_level: int | None = None

    def __post_init__(self) -> None:
        if self.length < 0 or self.chunk < 1 or self.chunks_per_shard < 1 or any(s < 1 for s in self.item_shape):
            raise ValueError(f"an array of {self.length} items in chunks of {self.chunk} can't be")
        if self.chunk_bytes > _MAX_CHUNK_BYTES or self.chunks_per_shard > _MAX_CHUNKS_PER_SHARD:
            raise ValueError(f"chunks of {self.chunk_bytes} bytes, {self.chunks_per_shard} per shard, are too large")
        if self.length * self.item_bytes > MAX_ELEMENTS * 4:
            raise ValueError(f"an array of {self.length} items is too large")

    @property
    def item_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * prod(self.item_shape)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded inner chunk."""
        return self.chunk * self.item_bytes

    @property
    def shard(self) -> int:
        """Items per shard."""
        return self.chunk * self.chunks_per_shard

    @property
    def num_chunks(self) -> int:
        return -(-self.length // self.chunk)

    @property
    def num_shards(self) -> int:
        return -(-self.length // self.shard)

    @property
    def index_bytes(self) -> int:
        """Bytes of the table at a shard's end, its checksum included."""
        return self.chunks_per_shard * INDEX_ENTRY_BYTES + CRC_BYTES

    @property
    def is_plain(self) -> bool:
        """Whether chunks are stored as they are, so that a shard can be mapped into memory."""
        return self.zstd_level is None

    @cached_property
    def fill_bytes(self) -> bytes:
        """One padding item: NaN for floats, so that nothing lost reads as a number."""
        fill = np.array(np.nan if self.dtype == "float32" else 0, dtype=self.dtype)
        return fill.tobytes() * prod(self.item_shape)

    def chunks_in_shard(self, shard: int) -> int:
        """How many of a shard's chunks lie before the array's end."""
        return min(self.chunks_per_shard, self.num_chunks - shard * self.chunks_per_shard)

    def shard_path(self, shard: int) -> str:
        """The shard's path below the array's folder."""
        return "/".join(["c", str(shard), *("0" for _ in self.item_shape)])

    def plain_index(self, num_chunks: int) -> np.ndarray:
        """The (chunks_per_shard, 2) table of an uncompressed shard that holds `num_chunks` chunks."""
        stored = self.chunk_bytes + CRC_BYTES
        index = np.full((self.chunks_per_shard, 2), MISSING, dtype="<u8")
        index[:num_chunks, 0] = np.arange(num_chunks, dtype=np.uint64) * np.uint64(stored)
        index[:num_chunks, 1] = stored
        return index

    def with_length(self, length: int) -> "ArrayLayout":
        """The same cuts for an array of another length."""
        return replace(self, length=length)

    def to_zarr_json(self) -> bytes:
        """The array's zarr.json."""
        inner: list[dict[str, Any]] = [
            {"name": "bytes", "configuration": {"endian": "little"}} if self.dtype != "uint8" else {"name": "bytes"}
        ]
        if self.zstd_level is not None:
            inner.append({"name": "zstd", "configuration": {"level": self.zstd_level, "checksum": False}})
        sharding = {
            "chunk_shape": [self.chunk, *self.item_shape],
            "codecs": [*inner, {"name": "crc32c"}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        }
        meta = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [self.length, *self.item_shape],
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self.shard, *self.item_shape]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": _FILL_VALUES[self.dtype],
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {},
        }
        return json.dumps(meta, indent=2).encode("ascii")


@dataclass(frozen=True)
class _Step:
    name: str
    configuration: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Grid:
    chunk_shape: tuple[int, ...]


@dataclass(frozen=True)
class _Sharding(_Grid):
    codecs: tuple[_Step, ...]
    index_codecs: tuple[_Step, ...]
    index_location: str = "end"


@dataclass(frozen=True)
class _ZarrArray:
    zarr_format: int
    node_type: str
    shape: tuple[int, ...]
    data_type: Literal["float32", "uint8"]
    chunk_grid: _Step
    codecs: tuple[_Step, ...]
    storage_transformers: tuple[Any, ...] = ()


def parse_layout(value: Any, where: str) -> ArrayLayout:
    """The layout that an array's parsed zarr.json describes. Raises FormatError for all that a store doesn't use."""
    meta = from_plain(_ZarrArray, value, where)
    codecs = [codec.name for codec in meta.codecs]
    if (meta.zarr_format, meta.node_type) != (3, "array") or not meta.shape:
        raise FormatError(f"{where} isn't a Zarr v3 array")
    if meta.storage_transformers or codecs != ["sharding_indexed"] or meta.chunk_grid.name != "regular":
        raise FormatError(f"{where} isn't a regular sharded array")
    shard = from_plain(_Grid, meta.chunk_grid.configuration, f"{where}.chunk_grid").chunk_shape
    sharding = from_plain(_Sharding, meta.codecs[0].configuration, f"{where}.codecs[0]")
    chunk, item_shape = sharding.chunk_shape, meta.shape[1:]
    if shard[1:] != item_shape or chunk[1:] != item_shape or chunk[:1] < (1,):
        raise FormatError(f"{where} isn't cut along its first axis alone")
    if shard[0] % chunk[0] or sharding.index_location != "end":
        raise FormatError(f"{where}: shards of {shard[0]} don't hold whole chunks of {chunk[0]}")
    zstd_level = _parse_codecs(sharding, where)
    try:
        return ArrayLayout(meta.shape[0], chunk[0], shard[0] // chunk[0], meta.data_type, item_shape, zstd_level)
    except ValueError as error:
        raise FormatError(f"{where}: {error}") from error


def plan_layout(
    length: int,
    item: int,
    dtype: Literal["float32", "uint8"],
    options: WriteOptions,
    item_shape: tuple[int, ...] = (),
) -> ArrayLayout:
    """Chunks of about `chunk_bytes` that hold whole networks of `item` elements, in shards of about `shard_bytes`.

    `item` is 1 where networks differ in length, and for one so long that chunks of whole networks would be clumsy.
    A small array is one chunk of its own length, since chunks are padded.
    """
    itemsize = np.dtype(dtype).itemsize * prod(item_shape)
    item = max(item, 1)
    if item * itemsize > 4 * options.chunk_bytes:
        item = 1
    chunk = max(1, min(options.chunk_bytes // (item * itemsize), -(-length // item))) * item
    per_shard = max(1, min(options.shard_bytes // (chunk * itemsize), -(-length // chunk)))
    return ArrayLayout(length, chunk, per_shard, dtype, item_shape, options.zstd_level)


def crc32c(content: memoryview | bytes | np.ndarray) -> bytes:
    """The CRC32C of some bytes, as the four little-endian bytes that Zarr's codec stores."""
    # google_crc32c refuses memoryviews, but takes arrays without copying them.
    return google_crc32c.value(np.frombuffer(content, dtype=np.uint8)).to_bytes(CRC_BYTES, "little")


def _parse_codecs(sharding: _Sharding, where: str) -> int | None:
    names = [codec.name for codec in sharding.codecs]
    if names not in (["bytes", "crc32c"], ["bytes", "zstd", "crc32c"]):
        raise FormatError(f"{where}: chunks are encoded by {printable(names)}, a store uses bytes, zstd and crc32c")
    if [codec.name for codec in sharding.index_codecs] != ["bytes", "crc32c"]:
        raise FormatError(f"{where}: the shard index must be encoded by bytes and crc32c")
    for step in (sharding.codecs[0], sharding.index_codecs[0]):
        if (step.configuration or {}).get("endian", "little") != "little":
            raise FormatError(f"{where} isn't little-endian")
    if len(names) == 2:
        return None
    level = (sharding.codecs[1].configuration or {}).get("level", 0)
    if not isinstance(level, int):
        raise FormatError(f"{where}: zstd level {printable(level, 40)} isn't an integer")
    return level
