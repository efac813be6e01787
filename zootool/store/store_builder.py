"""A store in the making: its open arrays and table, and the entries of the files that are finished."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from zootool.architecture import ARRAYS, Architecture, ArrayName, check_slots
from zootool.errors import FormatError
from zootool.files import canonical_json, sha256_file
from zootool.store import schema
from zootool.store.blocks import PackedBlock
from zootool.store.journal import Journal
from zootool.store.layout import ArrayLayout, WriteOptions, plan_layout
from zootool.store.manifest import entry_of, manifest_bytes
from zootool.store.nets import TableWriter, store_rows
from zootool.store.reader import Store
from zootool.store.schema import FileEntry, ZooInfo
from zootool.store.shards import ArrayWriter
from zootool.store.stored_images import ImagesByKey, image_keys

_GROUP_METADATA = canonical_json({"zarr_format": 3, "node_type": "group", "attributes": {}})


class StoreBuilder:
    """Fills an empty folder with a store, as a context. `info` and `architectures` say in advance what it will hold.

    `base` is the store that is appended to: its networks come first, on entering. `schema` is nets.parquet's
    where the first rows don't settle it. What the journal's mark covers is in already: `num_blocks` blocks.
    """

    def __init__(
        self,
        folder: Path,
        info: ZooInfo,
        architectures: Mapping[str, Architecture],
        options: WriteOptions,
        base: Store | None = None,
        table_schema: pa.Schema | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self._folder, self._info, self._options, self._base = folder, info, options, base
        self._architectures = architectures
        self._journal = Journal(folder, fingerprint)
        self.num_blocks = self._journal.mark.num_blocks
        for architecture in architectures.values():
            check_slots(architecture)
        self._offsets: dict[ArrayName, int] = dict.fromkeys(ARRAYS, 0)
        self._image_keys: list[np.ndarray | None] = []
        self._unmarked_rows: list[pa.Table] = []
        self._unmarked_bytes = 0
        self._files: dict[str, FileEntry] = {}
        self._table = TableWriter(folder / schema.NETS_PARQUET, table_schema)
        self._arrays: dict[ArrayName, ArrayWriter] = {}
        for name, length in schema.array_lengths(info, architectures, str(folder)).items():
            if length or name != "exact":
                layout = self._layout(name, length)
                self._arrays[name] = ArrayWriter(folder / name, layout, self._journal.mark.arrays.get(name))

    def __enter__(self) -> "StoreBuilder":
        try:
            if self._journal.mark.parts:
                # The arrays have gone on from the mark already.
                for rows in self._journal.rows():
                    self._append_rows(rows)
                self._unmarked_rows = []
                self._offsets |= {name: writer.length for name, writer in self._arrays.items()}
            elif self._base is not None:
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

    def append(self, block: PackedBlock, digests: np.ndarray) -> None:
        """Add a block, whose networks have these digests, behind what is there."""
        for name, rows in block.rows.items():
            if rows.shape[1]:
                self._arrays[name].append(rows)
        self._append_rows(store_rows(block, self._offsets, digests))
        for name, rows in block.rows.items():
            self._offsets[name] += rows.size
            self._unmarked_bytes += rows.nbytes
        # Between blocks alone arrays and table agree, so only here an interrupted write may go on.
        self.num_blocks += 1
        if self._journal.is_kept and self._unmarked_bytes >= self._options.mark_bytes:
            arrays = {str(name): writer.mark() for name, writer in self._arrays.items()}
            self._journal.write(self.num_blocks, arrays, self._unmarked_rows)
            self._unmarked_rows, self._unmarked_bytes = [], 0

    def write_images(self, images: ImagesByKey) -> None:
        """Carry along the source image of every network, each once. Raises FormatError where some have none."""
        if not self._image_keys or any(keys is None for keys in self._image_keys):
            raise FormatError("images can be stored where every network has a source_index")
        pixels = images(np.unique(np.concatenate([keys for keys in self._image_keys if keys is not None])))
        layout = plan_layout(len(pixels), 1, "uint8", self._options, pixels.shape[1:])
        writer = ArrayWriter(self._folder / schema.IMAGES, layout)
        writer.append(pixels)
        self._files |= {f"{schema.IMAGES}/{path}": entry for path, entry in writer.close().items()}

    def finish(self) -> str:
        """Write what is left, the manifest last; returns the store's id."""
        self._journal.remove()
        for name, writer in self._arrays.items():
            self._files |= {f"{name}/{path}": entry for path, entry in writer.close().items()}
        self._table.close()
        table_path = self._folder / schema.NETS_PARQUET
        self._files[schema.NETS_PARQUET] = FileEntry(table_path.stat().st_size, sha256_file(table_path))
        architectures = {signature: a.to_dict() for signature, a in self._architectures.items()}
        for name, content in (
            (schema.ZARR_JSON, _GROUP_METADATA),
            (schema.ARCHITECTURES_JSON, canonical_json(architectures)),
            (schema.ZOO_JSON, canonical_json(self._info.to_dict())),
        ):
            (self._folder / name).write_bytes(content)
            self._files[name] = entry_of(content)
        # Last, since a folder with a manifest counts as whole.
        manifest = manifest_bytes(self._files)
        (self._folder / schema.MANIFEST_JSON).write_bytes(manifest)
        return entry_of(manifest).sha256

    def _append_rows(self, rows: pa.Table) -> None:
        rows = self._table.append(rows)
        self._image_keys.append(image_keys(rows))
        if self._journal.is_kept:
            self._unmarked_rows.append(rows)

    def _layout(self, name: ArrayName, length: int) -> ArrayLayout:
        options, old = self._options, None if self._base is None else self._base.arrays.get(name)
        # What is less than a shard was cut into chunks of its own size, and is soon written anew.
        if old is not None and old.layout.length * old.layout.item_bytes >= options.shard_bytes:
            return old.layout.with_length(length)
        item = 1
        if len(self._architectures) == 1:
            item = next(iter(self._architectures.values())).array_length(name)
        dtype: Literal["uint8", "float32"] = "uint8" if name == "exact" else "float32"
        return plan_layout(length, item, dtype, options)

    def _take_over(self, base: Store) -> None:
        """The base's networks: full shards by hard links, the rest of each array and the table written anew."""
        for name, old in base.arrays.items():
            self._arrays[name].take_over(old, base.manifest.files)
            self._offsets[name] = old.layout.length
        for rows in base.nets.row_groups():
            self._append_rows(rows)
