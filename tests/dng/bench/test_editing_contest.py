"""What methods of editing minimise and are measured by."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dng.bench.editing import EditingTask, edited_images, measure_edits, target_images
from dng.bench.editing_methods import build_method, editable
from dng.bench.edits import EDITS, dilate
from dng.models.views import to_unit_range
from tests.dng.bench.editing_zoos import METHODS, sirens, tiny_settings, write_sirens
from zootool.errors import NumericalError


@pytest.mark.parametrize("name", list(EDITS))
def test_edits_of_tensors_are_those_of_pixels(name: str) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), dtype=np.uint8))
    wanted = to_unit_range(torch.from_numpy(EDITS[name](pixels.numpy())))
    torch.testing.assert_close(edited_images(to_unit_range(pixels), EDITS[name]), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_reconstruction_agree(tmp_path: Path, name: str) -> None:
    zoo = write_sirens(tmp_path / "x.zoo", sirens())
    material = editable(zoo)
    model = build_method(name, tiny_settings(name, "quick", material).config, material)
    loader = zoo.select(split="validation").loader(20, images=True)
    (batch,) = loader
    task = EditingTask(model.eval(), loader, dilate)
    wanted = (model.reconstruct(batch) - target_images(batch, dilate)).square().mean()
    torch.testing.assert_close(task.loss(batch), wanted)
    assert task.validate() == pytest.approx(wanted.item(), rel=1e-5)


def test_networks_that_are_not_finite_are_named(tmp_path: Path) -> None:
    material = editable(write_sirens(tmp_path / "x.zoo", sirens()))
    with pytest.raises(NumericalError, match="test networks render no finite images"):
        measure_edits(lambda graph: torch.full((len(graph), 1, 8, 8), torch.nan), material, "dilate")
