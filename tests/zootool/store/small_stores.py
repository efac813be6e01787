"""Tiny stores with several chunks and shards, and ways to harm them."""

from copy import copy
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.nets.siren import siren_architecture
from zootool.store import WriteOptions, write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.manifest import entry_of, manifest_bytes, parse_manifest
from zootool.store.pack import raw_dtype

SMALL_CHUNKS = WriteOptions(chunk_bytes=800, shard_bytes=2400)
"""Two or three tiny networks to a chunk, three chunks to a shard."""


def random_tensors(architecture: Architecture, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random numbers for every slot, (networks, *shape)."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for slot in architecture.slots:
        shape = (count, *slot.shape)
        dtype = raw_dtype(slot.dtype)
        is_float = dtype.kind == "f"
        tensors[slot.key] = (rng.standard_normal(shape) if is_float else rng.integers(0, 2, shape)).astype(dtype)
    return tensors


def random_block(architecture: Architecture, count: int, seed: int = 0, prefix: str = "net") -> Block:
    """A block with a table of net_id, source_index, label, split and psnr."""
    index = np.arange(count)
    table = pa.table(
        {
            "net_id": [f"{prefix}-{seed}-{i}" for i in index],
            "source_index": index,
            "label": index % 10,
            "split": ["test" if i % 4 == 3 else "train" for i in index],
            "psnr": np.linspace(30, 40, count),
        }
    )
    return Block(architecture, random_tensors(architecture, count, seed), table)


def unchecked_block(block: Block, **columns: object) -> Block:
    """The block with other columns, as a store has them that was written by others or before columns were checked."""
    table = block.table
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        column = pa.chunked_array([pa.array(values)])
        table = table.append_column(name, column) if place < 0 else table.set_column(place, name, column)
    changed = copy(block)
    object.__setattr__(changed, "table", table)
    return changed


def write_small_store(path: Path, *blocks: Block, options: WriteOptions = SMALL_CHUNKS) -> tuple[Block, ...]:
    """Write blocks, by default 30 SIRENs 2-8-4-1 in two blocks, and return them."""
    if not blocks:
        architecture = siren_architecture(2, (8, 4), 1)
        blocks = (random_block(architecture, 20, 0), random_block(architecture, 10, 1))
    write_store(path, MemorySource(SourceInfo("small"), blocks), options)
    return blocks


def reseal(folder: Path, *paths: str) -> None:
    """Write the manifest anew for these changed, added or removed files: a store that is consistent in itself."""
    manifest_path = folder / "manifest.json"
    files = dict(parse_manifest(manifest_path.read_bytes(), "manifest").files)
    for path in paths:
        files.pop(path, None)
        if (folder / path).exists():
            files[path] = entry_of((folder / path).read_bytes())
    manifest_path.write_bytes(manifest_bytes(files))
