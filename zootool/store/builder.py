"""A store in the making: its open arrays and table, and the entries of the files that are finished."""

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from zootool.architecture import ARRAYS, Architecture, ArrayName, check_slots
from zootool.errors import FormatError
from zootool.files import canonical_json, sha256_file
from zootool.store.layout import ArrayLayout, plan_layout
from zootool.store.manifest import entry_of, manifest_bytes
from zootool.store.options import WriteOptions
from zootool.store.prepare import Prepared
from zootool.store.reader import Store
from zootool.store.schema import (
    ARCHITECTURES_JSON,
    IMAGES,
    MANIFEST_JSON,
    NETS_PARQUET,
    ZARR_JSON,
    ZOO_JSON,
    FileEntry,
    ZooInfo,
    array_lengths,
)
from zootool.store.shards import ArrayWriter
from zootool.store.table import TableWriter, store_rows

_GROUP_METADATA = canonical_json({"zarr_format": 3, "node_type": "group", "attributes": {}})


ImagesByIndex = Callable[[np.ndarray], np.ndarray]
"""Gives the uint8 images (images, height, width, channels) of ascending source indices."""


class StoreBuilder:
    """Fills an empty folder with a store, as a context. `info` and `architectures` say in advance what it will hold.

    `base` is the store that is appended to: its networks come first, on entering. `schema` is nets.parquet's
    where the first rows don't settle it.
    """

    def __init__(
        self,
        folder: Path,
        info: ZooInfo,
        architectures: Mapping[str, Architecture],
        options: WriteOptions,
        base: Store | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        self._folder = folder
        self._info = info
        self._architectures = architectures
        self._options = options
        for architecture in architectures.values():
            check_slots(architecture)
        self._offsets: dict[str, int] = dict.fromkeys(ARRAYS, 0)
        self._source_indices: list[np.ndarray | None] = []
        self._files: dict[str, FileEntry] = {}
        self._table = TableWriter(folder / NETS_PARQUET, schema)
        self._arrays: dict[str, ArrayWriter] = {}
        for name, length in array_lengths(info, dict(architectures), str(folder)).items():
            if length or name != "exact":
                self._arrays[name] = self._open_array(name, length, base)
        self._base = base

    def __enter__(self) -> "StoreBuilder":
        if self._base is not None:
            try:
                self._take_over(self._base)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close what an error has left open."""
        for writer in self._arrays.values():
            writer.abandon()
        self._table.abandon()

    def append(self, prepared: Prepared) -> None:
        """Add a block behind what is there."""
        for name, rows in prepared.packed.rows.items():
            if rows.shape[1]:
                self._arrays[name].append(rows)
        self._table.append(store_rows(prepared.architecture, self._offsets, prepared.digests, prepared.table))
        for name, rows in prepared.packed.rows.items():
            self._offsets[name] += rows.size
        table = prepared.table
        has_image = "source_index" in table.column_names and "source" not in table.column_names
        self._source_indices.append(table["source_index"].to_numpy() if has_image else None)

    def write_images(self, images: ImagesByIndex) -> None:
        """Carry along the source image of every network, each once. Raises FormatError where some have none."""
        if not self._source_indices or any(indices is None for indices in self._source_indices):
            raise FormatError("images can be stored where every network of one image set has a source_index")
        pixels = images(np.unique(np.concatenate([i for i in self._source_indices if i is not None])))
        layout = plan_images(pixels.shape, self._options)
        writer = ArrayWriter(self._folder / IMAGES, layout)
        writer.append(pixels)
        self._files |= {f"{IMAGES}/{path}": entry for path, entry in writer.close().items()}

    def finish(self) -> str:
        """Write what is left, the manifest last; returns the store's id."""
        for name, writer in self._arrays.items():
            self._files |= {f"{name}/{path}": entry for path, entry in writer.close().items()}
        self._table.close()
        table_path = self._folder / NETS_PARQUET
        self._files[NETS_PARQUET] = FileEntry(table_path.stat().st_size, sha256_file(table_path))
        architectures = {signature: a.to_dict() for signature, a in self._architectures.items()}
        self._write(ZARR_JSON, _GROUP_METADATA)
        self._write(ARCHITECTURES_JSON, canonical_json(architectures))
        self._write(ZOO_JSON, canonical_json(self._info.to_dict()))
        manifest = manifest_bytes(self._files)
        (self._folder / MANIFEST_JSON).write_bytes(manifest)
        return entry_of(manifest).sha256

    def _write(self, name: str, content: bytes) -> None:
        (self._folder / name).write_bytes(content)
        self._files[name] = entry_of(content)

    def _open_array(self, name: ArrayName, length: int, base: Store | None) -> ArrayWriter:
        old = None if base is None else base.arrays.get(name)
        # What is less than a shard was cut into chunks of its own size, and is soon written anew.
        if old is None or old.layout.length * old.layout.item_bytes < self._options.shard_bytes:
            return ArrayWriter(self._folder / name, self._plan_array(name, length))
        return ArrayWriter(self._folder / name, old.layout.with_length(length))

    def _plan_array(self, name: ArrayName, length: int) -> ArrayLayout:
        item = 1
        if len(self._architectures) == 1:
            item = next(iter(self._architectures.values())).array_length(name)
        options = self._options
        dtype: Literal["uint8", "float32"] = "uint8" if name == "exact" else "float32"
        return plan_layout(length, item, dtype, options.zstd_level, options.chunk_bytes, options.shard_bytes)

    def _take_over(self, base: Store) -> None:
        """The base's networks: full shards by hard links, the rest of each array and the table written anew."""
        for name, old in base.arrays.items():
            self._arrays[name].take_over(old, base.manifest.files)
            self._offsets[name] = old.layout.length
        for rows in base.nets.row_groups():
            self._table.append(rows)


def plan_images(shape: tuple[int, ...], options: WriteOptions) -> ArrayLayout:
    """The layout of images (images, height, width, channels), in chunks and shards of the other arrays' bytes."""
    image_bytes = prod(shape[1:])
    per_chunk = max(1, min(options.chunk_bytes // image_bytes, shape[0]))
    per_shard = max(1, min(options.shard_bytes // (per_chunk * image_bytes), -(-shape[0] // per_chunk)))
    return ArrayLayout(shape[0], per_chunk, per_shard, "uint8", shape[1:], options.zstd_level)
