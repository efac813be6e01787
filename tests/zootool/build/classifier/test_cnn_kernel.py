"""The compiled training against the module, torch's gradients and torch's optimisers."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.zootool.build.classifier.problems import CONFIGS, SMALL, Problem, kernel_optimiser, problem, torch_optimiser
from zootool.build.classifier.cnn_kernel import Batches
from zootool.build.classifier.cnn_training import compiled_kernel
from zootool.build.classifier.draws import DROPOUT
from zootool.build.philox import random_words
from zootool.nets.cnn import CnnConfig

train_compiled, evaluate_compiled = compiled_kernel()


def train(found: Problem, name: str, lr: float, l2: float, batch: int, dropout: float = 0.0) -> np.ndarray:
    """Parameters in the state_dict's order after an epoch."""
    batches = Batches(np.arange(len(found.labels)), batch, dropout, 5, 3, 1)
    optimiser = kernel_optimiser(name, lr, l2)
    train_compiled(found.parameters, found.state, optimiser, found.plan.geometry, found.scratch, found.data, batches)
    return found.parameters[found.plan.places]


def train_plainly(found: Problem, name: str, lr: float, l2: float, batch: int) -> np.ndarray:
    """The same by torch."""
    optimiser = torch_optimiser(name, found.module, lr, l2)
    for start in range(0, len(found.labels), batch):
        part = slice(start, start + batch)
        optimiser.zero_grad()
        functional.cross_entropy(found.module(found.images[part]), found.labels[part]).backward()
        optimiser.step()
    return found.flat()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_losses_and_accuracies_are_the_modules(config: CnnConfig) -> None:
    found = problem(config)
    order = np.arange(1, len(found.labels))
    loss, accuracy = evaluate_compiled(found.parameters, found.plan.geometry, found.scratch, found.data, order)
    outputs = found.module(found.images[1:])
    assert loss == pytest.approx(functional.cross_entropy(outputs, found.labels[1:]).item(), rel=1e-5)
    assert accuracy == pytest.approx((outputs.argmax(1) == found.labels[1:]).float().mean().item(), abs=1e-6)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_gradients_are_torchs(config: CnnConfig) -> None:
    found = problem(config)
    before = found.flat()
    after = train(found, "sgd", 0.1, 0.0, batch=len(found.labels))
    wanted = train_plainly(found, "sgd", 0.1, 0.0, batch=len(found.labels))
    assert np.abs(wanted - before).max() > 1e-3
    assert np.abs(after - wanted).max() < 1e-6
    padding = np.delete(found.parameters, found.plan.places)
    assert not padding.any()


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_several_steps_of_every_optimiser_are_torchs(name: str) -> None:
    found = problem(SMALL)
    before = found.flat()
    after, wanted = train(found, name, 1e-3, 1e-2, batch=16), train_plainly(found, name, 1e-3, 1e-2, batch=16)
    assert np.abs(wanted - before).max() > 1e-4
    assert np.abs(after - wanted).max() < 1e-6


def test_dropout_takes_what_the_words_say_and_scales_the_rest() -> None:
    found = problem(SMALL, num_images=20)
    after = train(found, "sgd", 0.1, 0.0, batch=20, dropout=0.4)
    words = random_words(5, np.array([[3, 1, DROPOUT]], np.uint32), 16 * 32)[0]
    mask = torch.from_numpy((words >= 0.4 * 2**32).reshape(16, 32)[:, :20].T / 0.6).float()
    optimiser = torch_optimiser("sgd", found.module, 0.1, 0.0)
    x = found.images
    for layer in found.module.layers:
        x = layer(x).relu()
    functional.cross_entropy(found.module.fc(x.mean((2, 3)) * mask), found.labels).backward()
    optimiser.step()
    assert np.abs(after - found.flat()).max() < 1e-6


def test_later_blocks_drop_other_numbers() -> None:
    first, second = (problem(SMALL, num_images=64) for _ in range(2))
    train(first, "sgd", 0.1, 0.0, batch=32, dropout=0.5)
    masks = first.scratch.mask.copy()
    train(second, "sgd", 0.1, 0.0, batch=64, dropout=0.5)
    assert np.array_equal(masks, second.scratch.mask)
    words = random_words(5, np.array([[3, 1, DROPOUT + 256 * 32]], np.uint32), 16 * 32)[0]
    assert np.array_equal(masks > 0, words >= 2**31)


def test_activations_are_precise_where_they_are_small_and_finite_where_they_are_large() -> None:
    for name, of in (("tanh", torch.tanh), ("sigmoid", torch.sigmoid), ("gelu", functional.gelu)):
        config = CnnConfig((1, 1), (1,), (1,), (0,), (name,), (None,), 2, image_shape=(1, 1))
        found = problem(config, num_images=1)
        for value in (-200.0, -30.0, -3.0, -1e-3, -1e-6, 0.0, 1e-5, 0.7, 9.0, 100.0):
            found.parameters[:] = found.plan.pack(np.array([0, value, 1, 0, 0, 0], np.float32))
            evaluate_compiled(found.parameters, found.plan.geometry, found.scratch, found.data, np.zeros(1, np.int64))
            got = found.scratch.acts[found.plan.geometry.in_start[-1]]
            assert got == pytest.approx(of(torch.tensor(value)).item(), rel=2e-6, abs=3e-7), (name, value)
