"""Published checkpoints, where ZOO_DATA names a folder that has some below checkpoints/: read as torch reads them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.zootool.untrusted.test_safe_load import bits
from zootool.untrusted.safe_load import load_checkpoint

FOLDER = Path(os.environ.get("ZOO_DATA", "/nonexistent")) / "checkpoints"
FILES = sorted(path for path in FOLDER.rglob("*") if path.suffix in (".pt", ".pth", ".th", ".ckpt"))
pytestmark = pytest.mark.skipif(not FILES, reason="ZOO_DATA doesn't name a folder with checkpoints/")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_published_checkpoint_is_read_as_torch_reads_it(path: Path) -> None:
    tensors = load_checkpoint(path).tensors
    wanted = dict(walk(torch.load(path, weights_only=True, map_location="cpu")))
    assert list(tensors) == list(wanted)
    for name, tensor in tensors.items():
        assert tensor.shape == tuple(wanted[name].shape)
        assert tensor.read().tobytes() == bits(wanted[name])


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        yield from walk(item, f"{path}/{key}" if path else str(key))
