"""A small zoo of real SIRENs, built once per test run: digits, one shared initialisation."""

from pathlib import Path

from dng.encoder.config import EncoderConfig
from dng.methods.dynamic_graph import DNGConfig
from dng.runs.presets import ReaderPreset
from dng.runs.two_stage import ClassificationPreset
from dng.training.loop import TrainConfig
from zootool import open_zoo
from zootool.build import build_sirens, load_recipe
from zootool.conversion.convert import convert
from zootool.images import load_images
from zootool.zoo import Zoo

TINY = ClassificationPreset(
    encoder=EncoderConfig(dim=24, num_frequencies=16, sigma=3.0),
    latent_dim=24,
    hidden_dim=64,
    decoder_dim=24,
    classifier_dim=48,
    reconstruction=TrainConfig(
        steps=240, batch_size=32, lr=3e-3, warmup_start=0.1, warmup_per_step=0.05, validate_every=80,
        higher_is_better=False,
    ),
    classification=TrainConfig(
        steps=150, batch_size=32, lr=2e-3, optimizer="adamw", weight_decay=0.1, validate_every=50
    ),
    encoder_only=ReaderPreset(
        DNGConfig(EncoderConfig(dim=24, num_frequencies=16, sigma=3.0), 24),
        TrainConfig(steps=60, batch_size=32, lr=3e-3, optimizer="adamw", validate_every=30),
    ),
    decoding_dim=32,
    code_dim=16,
)  # fmt: skip


def build_digits_zoo(folder: Path, limit: tuple[int, int, int] = (400, 80, 120), steps: int = 400) -> Zoo:
    """SIRENs of the first digits of each split, converted into `folder`/digits.zoo."""
    recipe = load_recipe("inr-nfn", "digits", {"init": "shared", "steps": steps, "lr": 2e-4, "copies": 0})
    build_sirens(load_images("digits"), recipe, folder / "sirens", limit=limit)
    convert(folder / "sirens", folder / "digits.zoo")
    return open_zoo(folder / "digits.zoo")
