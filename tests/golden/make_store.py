"""Made `format-1.0.zoo` and `format-1.0.json`, and is kept as a record. A stored format is never made again.

python -m tests.golden.make_store
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import nn, zeros

from tests.zootool.store.small_stores import random_tensors
from tests.zootool.store.test_pack import MIXED, mixed_tensors
from zootool.architecture import Architecture
from zootool.nets.siren import siren_architecture
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture
from zootool.store import WriteOptions, write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.schema import ImageSource

FOLDER = Path(__file__).parent


def main() -> None:
    """Write both files."""
    blocks = [
        block(siren_architecture(2, (5, 4), 1), 9, 0),
        block(convolutional(), 3, 1),
        block(simple_vit_architecture(SimpleVitConfig(1, 2, 8, 1, 2, 4, 6, 3)), 2, 2),
        block(replace(MIXED, family="mixed"), 3, 3),
    ]
    source = ImageSource(
        "digits", "0" * 64, (8, 8, 1), 1797, 10, grid="linspace(-1, 1), ij", target=(-1.0, 1.0), terms="CC BY 4.0"
    )
    info = SourceInfo("golden", "mixed", (source,), {"steps": 5000}, {"tool": "zootool"}, "MIT", "none", None)
    options = WriteOptions(chunk_bytes=400, shard_bytes=1600)
    zoo_id = write_store(FOLDER / "format-1.0.zoo", MemorySource(info, blocks), options, images=pixels)
    write_store(FOLDER / "format-1.0-zstd.zoo", MemorySource(info, blocks), replace(options, zstd_level=3))
    networks = {
        net_id: {key: hashlib.sha256(tensor[i].tobytes()).hexdigest() for key, tensor in b.tensors.items()}
        for b in blocks
        for i, net_id in enumerate(b.table["net_id"].to_pylist())
    }
    (FOLDER / "format-1.0.json").write_text(json.dumps({"id": zoo_id, "networks": networks}, indent=1))


def block(architecture: Architecture, count: int, seed: int) -> Block:
    """Random networks with every column that has a fixed meaning."""
    tensors = (
        mixed_tensors(count, seed) if architecture.family == "mixed" else random_tensors(architecture, count, seed)
    )
    columns = {
        "net_id": [f"{architecture.family}-{i}" for i in range(count)],
        "source_index": np.arange(count) + 10 * seed,
        "label": np.arange(count) % 10,
        "split": [["train", "validation", "test"][i % 3] for i in range(count)],
        "psnr": np.linspace(30, 40, count),
    }
    return Block(architecture, tensors, pa.table(columns))


def convolutional() -> Architecture:
    """Convolution, batch norm, pooling, flatten: extras and exact are used."""
    layers = [nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return Architecture.from_module(nn.Sequential(*layers, nn.Linear(18, 2)), zeros(1, 1, 8, 8), family="cnn")


def pixels(indices: np.ndarray) -> np.ndarray:
    """Images that count."""
    return (np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1) + indices[:, None, None, None]).astype(np.uint8)


if __name__ == "__main__":
    main()
