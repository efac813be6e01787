"""Small zoos of random CNNs whose recorded accuracy can be read off their weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.zootool.store.small_stores import random_tensors
from zootool import open_zoo
from zootool.architecture import Architecture
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.store import write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.schema import ImageSource
from zootool.zoo import Zoo


def _cnn(channels: tuple[int, int], kernel: int, activation: str) -> Architecture:
    twice = (kernel, kernel), (1, 1), (kernel // 2, kernel // 2), (activation, "tanh"), (None, None)
    return cnn_architecture(CnnConfig((1, *channels), *twice, num_classes=2))


NARROW = _cnn((4, 3), 1, "relu")
WIDE = _cnn((5, 3), 3, "gelu")
NARROW_TOO = _cnn((4, 3), 1, "gelu")
"""As many nodes as NARROW: batches hold both, although another family lies between them in a store."""


def write_cnn_zoo(path: Path, *architectures: Architecture, count: int = 40) -> Zoo:
    """`count` networks of each architecture, in turn for training and validation."""
    blocks = [_block(architecture, count, seed) for seed, architecture in enumerate(architectures)]
    write_store(path, MemorySource(SourceInfo("cnns"), blocks))
    return open_zoo(path)


def write_run_zoo(
    path: Path, *architectures: Architecture, count: int = 60, published: tuple[str, str] | None = None, **columns: list
) -> Zoo:
    """Networks of two checkpoints per run, the splits by run; `columns` replace those of the table, None drops one.

    `published`: the format that the zoo claims to come from, and its image set.
    """
    blocks = []
    for seed, architecture in enumerate(architectures):
        block = _block(architecture, count, seed)
        run = np.arange(count) // 2
        replaced = {
            "run_id": [f"{seed}-{i}" for i in run],
            "training_step": (np.arange(count) % 2).tolist(),
            "split": [("train", "train", "validation", "test")[i % 4] for i in run],
            **columns,
        }
        table = block.table.drop_columns([name for name in replaced if name in block.table.column_names])
        for name, values in replaced.items():
            table = table if values is None else table.append_column(name, pa.array(values[:count]))
        blocks.append(Block(architecture, block.tensors, table))
    info = SourceInfo(path.stem)
    if published is not None:
        info = replace(
            info, provenance={"format": published[0]}, sources=(ImageSource(published[1], "0" * 64, (8, 8, 1)),)
        )
    write_store(path, MemorySource(info, blocks))
    return open_zoo(path)


def _block(architecture: Architecture, count: int, seed: int) -> Block:
    tensors = {
        key: (0.2 * value).astype(np.float32) for key, value in random_tensors(architecture, count, seed).items()
    }
    # The output's biases are moved so far that a predictor finds the accuracy in them within a few steps.
    accuracy = np.linspace(0.05, 0.95, count)
    tensors[architecture.slots[-1].key] += (2 * accuracy - 1)[:, None].astype(np.float32)
    table = pa.table(
        {
            "net_id": [f"cnn-{seed}-{i}" for i in range(count)],
            "split": ["validation" if i % 2 else "train" for i in range(count)],
            "test_accuracy": accuracy,
            "run_id": np.arange(count) % 3,
        }
    )
    return Block(architecture, tensors, table)
