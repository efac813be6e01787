"""A small INR2ARRAY, and zoos of SIRENs with smooth renderings that it learns in seconds."""

from dataclasses import replace
from pathlib import Path

from dng.methods.inr2array import INR2ArrayConfig, LatentTransformerConfig
from dng.runs.two_stage import INR2ArrayPreset
from dng.training.loop import TrainConfig
from tests.dng.bench.editing_zoos import SIREN, sirens, write_sirens
from zootool.architecture import Architecture
from zootool.store.blocks import Block
from zootool.store.schema import ImageSource
from zootool.zoo import Zoo

NOWHERE = ImageSource("nowhere", shape=(6, 6, 1), grid="linspace(-1, 1), ij", target=(-1.0, 1.0))
"""An image set that no computer has, of which zoo.json knows the shape."""

_TRAINING = TrainConfig(steps=60, batch_size=20, lr=5e-3, optimizer="adamw", validate_every=20, higher_is_better=False)

TINY = INR2ArrayPreset(
    representation=INR2ArrayConfig(
        image_side=28, latent_side=2, dim=16, num_heads=2, num_blocks=1, ff_dim=32, decoder_dim=32
    ),
    classifier=LatentTransformerConfig(dim=8, num_layers=1, num_heads=2, ff_dim=16),
    reconstruction=replace(_TRAINING, steps=90, validate_every=30, lr=3e-3),
    classification=replace(_TRAINING, steps=12, validate_every=6, higher_is_better=True),
)


def smooth_sirens(architecture: Architecture = SIREN, seed: int = 0) -> Block:
    """60 random networks of small weights, labelled, in turn for training, validation and test.

    They differ most in their last bias, the brightness of their renderings.
    """
    block = sirens(architecture, seed=seed)
    last_bias = architecture.slots[-1].key
    tensors = {key: value * (0.5 if key == last_bias else 0.05) for key, value in block.tensors.items()}
    return Block(architecture, tensors, block.table)


def smooth_zoo(path: Path, source: ImageSource = NOWHERE, architecture: Architecture = SIREN) -> Zoo:
    """A zoo of `smooth_sirens`."""
    return write_sirens(path, smooth_sirens(architecture), sources=(source,))
