"""Training CNNs: each is one call of the compiled kernel per epoch, in a thread of its own."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from zootool.build.classifier.classifier_data import Checkpoint, Labelled
from zootool.build.classifier.cnn_kernel import Batches, ImageData, Scratch, evaluate, train_epoch
from zootool.build.classifier.draws import SUBSET, CnnRun, initial_weight, shuffled
from zootool.build.classifier.elementwise import OPTIMISER_CODES, Optimiser, State
from zootool.build.classifier.geometry import Plan, plan_of
from zootool.build.recipe import CnnRecipe
from zootool.build.siren.lanes import compile_kept, source_digest
from zootool.build.siren.products import aligned_zeros
from zootool.nets.cnn import cnn_architecture


def train_cnn(run: CnnRun, recipe: CnnRecipe, train: ImageData, test: ImageData) -> list[Checkpoint]:
    """Train one network on its part of `train`; what it is at every checkpoint.

    A network's numbers follow from the recipe's seed and its run alone.
    """
    train_compiled, evaluate_compiled = compiled_kernel()
    plan = plan_of(run.config)
    scratch, state = working_memory(plan)
    parameters = aligned_zeros(plan.num_parameters)
    parameters[:] = plan.pack(_initial(run, recipe.seed))
    # The training images that the network sees, in ascending order: at least one.
    num_chosen = max(1, round(run.train_fraction * len(train.labels)))
    chosen = np.sort(shuffled(len(train.labels), recipe.seed, run.run, 0, SUBSET)[:num_chosen])
    optimiser = Optimiser(OPTIMISER_CODES[run.optimiser], run.lr, run.l2)
    judged = [(train, chosen), (test, np.arange(len(test.labels)))]
    found = []
    for epoch in range(recipe.checkpoints[-1] + 1):
        if epoch > 0:
            order = chosen[shuffled(len(chosen), recipe.seed, run.run, epoch)]
            batches = Batches(order, recipe.batch_size, run.dropout, recipe.seed, run.run, epoch)
            train_compiled(parameters, state, optimiser, plan.geometry, scratch, train, batches)
        if epoch in recipe.checkpoints:
            metrics = [evaluate_compiled(parameters, plan.geometry, scratch, *pair) for pair in judged]
            found.append(Checkpoint(epoch, parameters[plan.places], *metrics[0], *metrics[1]))
    return found


@cache
def compiled_kernel() -> tuple[Callable[..., None], Callable[..., tuple[float, float]]]:
    """`kernel.train_epoch` and `kernel.evaluate`, as entries for Python."""
    here = Path(__file__).parent
    digest = source_digest(here, here.parent / "siren")

    def train_one_epoch(
        parameters: Any, state: Any, optimiser: Any, geometry: Any, scratch: Any, data: Any, batches: Any
    ) -> None:
        train_epoch(parameters, state, optimiser, geometry, scratch, data, batches)

    def evaluate_one(parameters: Any, geometry: Any, scratch: Any, data: Any, order: Any) -> Any:
        return evaluate(parameters, geometry, scratch, data, order)

    return compile_kept(train_one_epoch, digest), compile_kept(evaluate_one, digest)


def image_data(images: Labelled, levels: Float32[np.ndarray, " 256"]) -> ImageData:
    """Images as the kernel takes them; `levels` are what the 256 pixel values stand for."""
    pixels = np.ascontiguousarray(images.pixels.transpose(0, 3, 1, 2)).reshape(-1)
    return ImageData(pixels, levels, images.labels)


def working_memory(plan: Plan) -> tuple[Scratch, State]:
    """The kernel's memory for a network and its optimiser."""
    geometry = plan.geometry
    mask = int(geometry.sources[-1] * geometry.in_plane[-1])
    scratch = Scratch(*map(aligned_zeros, (plan.num_activations, plan.num_activations, plan.num_slopes, mask)))
    gradient, mean, square = (aligned_zeros(plan.num_parameters) for _ in range(3))
    return scratch, State(gradient, mean, square, np.ones(2))


def _initial(run: CnnRun, seed: int) -> Float32[np.ndarray, " parameters"]:
    """The state_dict's numbers, flattened behind one another."""
    parts: list[np.ndarray] = []
    for part, slot in enumerate(cnn_architecture(run.config).slots):
        if slot.role == "weight":
            parts.append(initial_weight(run.init_kind, run.init_std, slot.shape, seed, run.run, part).reshape(-1))
        else:
            parts.append(np.zeros(slot.shape, np.float32))
    return np.concatenate(parts)
