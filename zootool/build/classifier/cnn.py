"""Training CNNs: each is one call of the compiled kernel per epoch, in a thread of its own."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from zootool.build.classifier.compiled import compiled_evaluation, compiled_training
from zootool.build.classifier.draws import CnnRun
from zootool.build.classifier.geometry import Plan, plan_of
from zootool.build.classifier.initial import initial_weight
from zootool.build.classifier.kernel import Batches, ImageData, Scratch
from zootool.build.classifier.streams import ORDER, SUBSET
from zootool.build.classifier.trained import Checkpoint, Labelled
from zootool.build.classifier.updates import OPTIMISER_CODES, Optimiser, State
from zootool.build.philox import random_words
from zootool.build.siren.lanes import NUM_LANES
from zootool.nets.cnn import cnn_architecture


@dataclass(frozen=True)
class CnnTraining:
    """How every network of a zoo is trained: seed, images to a step, and the epochs after which it is recorded."""

    seed: int
    batch_size: int
    checkpoints: tuple[int, ...]


def train_cnn(run: CnnRun, training: CnnTraining, train: ImageData, test: ImageData) -> list[Checkpoint]:
    """Train one network on its part of `train`; what it is at every checkpoint.

    A network's numbers follow from the seed and its run alone.
    """
    plan = plan_of(run.config)
    scratch, state = working_memory(plan)
    parameters = aligned_zeros(plan.num_parameters)
    parameters[:] = plan.pack(_initial(run, training.seed))
    chosen = _subset(run, training.seed, len(train.labels))
    optimiser = Optimiser(OPTIMISER_CODES[run.optimiser], run.lr, run.l2)
    judged = [(train, chosen), (test, np.arange(len(test.labels)))]
    found = []
    for epoch in range(training.checkpoints[-1] + 1):
        if epoch > 0:
            order = chosen[shuffled(len(chosen), training.seed, run.run, epoch)]
            batches = Batches(order, training.batch_size, run.dropout, training.seed, run.run, epoch)
            compiled_training()(parameters, state, optimiser, plan.geometry, scratch, train, batches)
        if epoch in training.checkpoints:
            metrics = [compiled_evaluation()(parameters, plan.geometry, scratch, *pair) for pair in judged]
            found.append(Checkpoint(epoch, parameters[plan.places], *metrics[0], *metrics[1]))
    return found


def shuffled(count: int, seed: int, run: int, epoch: int, purpose: int = ORDER) -> Int64[np.ndarray, " count"]:
    """The numbers below `count` in a network's own order for an epoch."""
    words = random_words(seed, np.array([[run, epoch, purpose]], np.uint32), count)[0]
    return np.argsort(words, kind="stable")


def image_data(images: Labelled, levels: Float32[np.ndarray, " 256"]) -> ImageData:
    """Images as the kernel takes them; `levels` are what the 256 pixel values stand for."""
    pixels = np.ascontiguousarray(images.pixels.transpose(0, 3, 1, 2)).reshape(-1)
    return ImageData(pixels, levels, images.labels)


def grey(pixels: UInt8[np.ndarray, "images height width channels"]) -> UInt8[np.ndarray, "images height width 1"]:
    """(299 R + 587 G + 114 B) / 1000, rounded; grey images as they are. Raises ValueError for other channels."""
    if pixels.shape[-1] == 1:
        return pixels
    if pixels.shape[-1] != 3:
        raise ValueError(f"images of {pixels.shape[-1]} channels have no grey")
    weighted = pixels.astype(np.uint32) @ np.array([299, 587, 114], np.uint32)
    return ((weighted + 500) // 1000).astype(np.uint8)[..., None]


def working_memory(plan: Plan) -> tuple[Scratch, State]:
    """The kernel's memory for a network and its optimiser."""
    geometry = plan.geometry
    mask = int(geometry.sources[-1] * geometry.in_plane[-1])
    scratch = Scratch(*map(aligned_zeros, (plan.num_activations, plan.num_activations, plan.num_slopes, mask)))
    gradient, mean, square = (aligned_zeros(plan.num_parameters) for _ in range(3))
    return scratch, State(gradient, mean, square, np.ones(2))


def aligned_zeros(size: int) -> Float32[np.ndarray, " size"]:
    """Zeros that begin on a cache line: vectors that cross one take twice as long to load."""
    memory = np.zeros(size + NUM_LANES, np.float32)
    start = -(memory.ctypes.data // 4) % NUM_LANES
    return memory[start : start + size]


def _initial(run: CnnRun, seed: int) -> Float32[np.ndarray, " parameters"]:
    """The state_dict's numbers, flattened behind one another."""
    parts: list[np.ndarray] = []
    for part, slot in enumerate(cnn_architecture(run.config).slots):
        if slot.role == "weight":
            parts.append(initial_weight(run.init_kind, run.init_std, slot.shape, seed, run.run, part).reshape(-1))
        else:
            parts.append(np.zeros(slot.shape, np.float32))
    return np.concatenate(parts)


def _subset(run: CnnRun, seed: int, count: int) -> Int64[np.ndarray, " images"]:
    """The training images that the network sees, in ascending order: at least one."""
    size = max(1, round(run.train_fraction * count))
    return np.sort(shuffled(count, seed, run.run, 0, SUBSET)[:size])
