"""Stacked transformers against the module, and networks in different company."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.zootool.nets.modules import SimpleVit
from zootool.build.classifier.classifier_data import ClassifierData, Labelled
from zootool.build.classifier.draws import shuffled
from zootool.build.classifier.vit_training import augmented, initial_stack, stacked_outputs, train_vits
from zootool.build.recipe import VitRecipe

RECIPE = VitRecipe(patch_size=2, dim=8, num_heads=2, head_dim=4, mlp_dim=12, seed=4, lr=1e-2, batch_size=8, crop=1)
CONFIG = RECIPE.config(1, 3)
LEVELS = np.linspace(-1, 1, 256).astype(np.float32)
RNG = np.random.default_rng(0)
IMAGES = Labelled(RNG.integers(0, 256, (20, 4, 6, 1), dtype=np.uint8), np.arange(20) % 3)
DATA = ClassifierData(IMAGES, IMAGES, 3)


def module_of(run: int) -> SimpleVit:
    module = SimpleVit(CONFIG)
    module.load_state_dict({key: tensor[0].detach() for key, tensor in initial_stack([run], CONFIG, 4).items()})
    return module


def train_plainly(run: int, epochs: int) -> SimpleVit:
    module = module_of(run)
    optimiser = torch.optim.Adam(module.parameters(), lr=RECIPE.lr)
    for epoch in range(1, epochs + 1):
        order = shuffled(20, 4, run, epoch)
        pixels = augmented(IMAGES.pixels, RECIPE, run, epoch)
        for start in range(0, 20, 8):
            rows = order[start : start + 8]
            optimiser.zero_grad()
            images = torch.from_numpy(LEVELS[pixels[rows]]).permute(0, 3, 1, 2)
            functional.cross_entropy(module(images), torch.from_numpy(IMAGES.labels[rows])).backward()
            optimiser.step()
    return module


def flat(module: SimpleVit) -> np.ndarray:
    return np.concatenate([value.detach().numpy().ravel() for value in module.state_dict().values()])


def test_stacked_outputs_are_the_modules() -> None:
    stack = initial_stack([0, 5], CONFIG, 4)
    images = torch.randn(2, 3, 1, 4, 6)
    wanted = torch.stack([module_of(run)(own) for run, own in zip((0, 5), images, strict=True)])
    torch.testing.assert_close(stacked_outputs(stack, CONFIG, images), wanted, rtol=1e-5, atol=1e-6)


def test_an_epoch_is_that_of_a_plain_loop() -> None:
    (trained,) = train_vits([3], 1, RECIPE, DATA)
    module = train_plainly(3, 1)
    assert np.abs(trained.parameters - flat(module_of(3))).max() > 1e-2
    assert np.abs(trained.parameters - flat(module)).max() < 1e-5
    outputs = module(torch.from_numpy(LEVELS[IMAGES.pixels]).permute(0, 3, 1, 2))
    labels = torch.from_numpy(IMAGES.labels)
    assert trained.test_loss == pytest.approx(functional.cross_entropy(outputs, labels).item(), abs=1e-5)
    assert trained.test_accuracy == pytest.approx((outputs.argmax(1) == labels).float().mean().item())


def test_company_changes_a_network_by_rounding_alone() -> None:
    alone = [train_vits([run], 1, RECIPE, DATA)[0] for run in (0, 1, 2)]
    together = train_vits([0, 1, 2], 1, RECIPE, DATA)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.parameters - other.parameters).max() < 1e-5
    assert np.abs(together[0].parameters - together[1].parameters).max() > 1e-2


def test_augmentation_shifts_and_mirrors() -> None:
    pixels = np.arange(1, 25, dtype=np.uint8).reshape(1, 4, 6, 1).repeat(200, axis=0)
    padded = np.pad(pixels[0, :, :, 0], 1)
    views = [padded[y : y + 4, x : x + 6] for y in range(3) for x in range(3)]
    possible = {view[:, ::step].tobytes() for view in views for step in (1, -1)}
    found = [image.tobytes() for image in augmented(pixels, RECIPE, run=0, epoch=1)]
    assert set(found) == possible
    still = RECIPE.model_copy(update={"flip": False, "crop": 0})
    assert np.array_equal(augmented(pixels, still, 0, 1), pixels)
    assert found != [image.tobytes() for image in augmented(pixels, RECIPE, run=0, epoch=2)]
