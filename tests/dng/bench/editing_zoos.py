"""Small methods of editing, and zoos of random SIRENs of the digits."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from dng.bench.editing_methods import EditableZoo, MethodSettings, method_settings
from dng.encoder.config import EncoderConfig
from dng.methods.editors import NFNEditorConfig
from dng.models.inr2jls import INR2JLSConfig
from tests.zootool.store.small_stores import random_block
from zootool import open_zoo
from zootool.architecture import Architecture
from zootool.nets.siren import siren_architecture
from zootool.store import write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.schema import ImageSource
from zootool.zoo import Zoo

EDITORS = ("nfn-hnp", "nfn-np", "ng-gnn", "ng-t")
METHODS = (*EDITORS, "dng")
SIREN = siren_architecture(2, (4, 4), 1)
DIGITS = ImageSource("digits", grid="linspace(-1, 1), ij", target=(-1.0, 1.0))


def tiny_settings(name: str, preset: str, data: EditableZoo, steps: int = 40) -> MethodSettings:
    """The published method, much narrower, at a high rate."""
    published = method_settings(name, preset, data)
    training = replace(
        published.training, steps=steps, batch_size=8, lr=1e-2, warmup_start=0.2, warmup_per_step=0.1,
        validate_every=steps // 2,
    )  # fmt: skip
    config = published.config
    if isinstance(config, INR2JLSConfig):
        encoder = EncoderConfig(dim=16, num_frequencies=8)
        narrow = replace(config, encoder=encoder, latent_dim=16, hidden_dim=32, decoder_dim=16)
    elif isinstance(config, NFNEditorConfig):
        narrow = replace(config.widened(1 / 16), num_frequencies=8)
    else:
        graph = replace(config.graph, num_frequencies=min(8, config.graph.num_frequencies))
        narrow = replace(config.widened(1 / 8), graph=graph, dropout=0.0)
    return MethodSettings(narrow, training, published.copies)


def sirens(architecture: Architecture = SIREN, count: int = 60, seed: int = 0, **columns: list) -> Block:
    """Random networks of the digits, in turn for training, validation and test; None drops a column."""
    block = random_block(architecture, count, seed)
    replaced = {"split": [("train", "validation", "test")[i // 2 % 3] for i in range(count)], **columns}
    table = block.table.drop_columns([name for name in replaced if name in block.table.column_names])
    for name, values in replaced.items():
        table = table if values is None else table.append_column(name, pa.array(values))
    return Block(architecture, block.tensors, table)


def write_sirens(path: Path, *blocks: Block, sources: tuple[ImageSource, ...] = (DIGITS,)) -> Zoo:
    write_store(path, MemorySource(SourceInfo(path.stem, sources=sources), list(blocks)))
    return open_zoo(path)
