"""Small image sets, recipes and folders for the tests of building."""

from pathlib import Path

import numpy as np

from zootool.build.recipe import CnnRecipe, SirenRecipe, VitRecipe
from zootool.build.units import RECIPE_NAME, UNITS_NAME
from zootool.images import Images

TINY = SirenRecipe(name="tiny", hidden=(8,), steps=3, lr=1e-3, copies=1, unit_size=3)
TINY_CNN = CnnRecipe(
    name="tiny-cnn",
    num_convolutions=(1, 2),
    channels=(4, 8),
    kernels=(3,),
    strides=(1,),
    padding="same",
    activations=("relu", "tanh"),
    heads=("pool", "flatten"),
    batch_size=4,
    checkpoints=(0, 1, 3),
    runs=8,
    unit_size=3,
)
TINY_VIT = VitRecipe(
    name="tiny-vit",
    patch_size=2,
    dim=8,
    depth=1,
    num_heads=2,
    head_dim=4,
    mlp_dim=8,
    epochs=(0, 2),
    batch_size=4,
    crop=1,
    runs=8,
    unit_size=3,
)


def small_images(train: int = 8, validation: int = 2, test: int = 2, size: int = 4, channels: int = 1) -> Images:
    """Random images in the order train, validation, test."""
    count = train + validation + test
    rng = np.random.default_rng(0)
    return Images(
        name="small",
        pixels=rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8),
        labels=np.arange(count) % 3,
        source_index=np.arange(count),
        split=np.array(["train"] * train + ["validation"] * validation + ["test"] * test),
        class_names=("a", "b", "c"),
        is_partial=False,
        source_terms="free",
    )


def content(folder: Path) -> dict[str, bytes]:
    """What a build's result is: the bytes of recipe and units, without the receipts and their timings."""
    paths = [
        folder / RECIPE_NAME,
        *(folder / UNITS_NAME).glob("*.safetensors"),
        *(folder / UNITS_NAME).glob("*.parquet"),
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every file of a unit that has a receipt: they change when it is built again."""
    numbers = {path.stem for path in (folder / UNITS_NAME).glob("*.json") if not path.name.startswith(".")}
    paths = [path for path in (folder / UNITS_NAME).iterdir() if path.stem in numbers]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(paths)}
