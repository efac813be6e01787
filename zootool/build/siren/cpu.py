"""The CPU backend: each network's training is one call of the compiled kernel, one thread per processor.

Networks share nothing, so a network's bits depend on neither threads nor batch.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from zootool.build.siren.lanes import NUM_LANES, compile_kept, source_digest
from zootool.build.siren.products import Adam
from zootool.build.siren.settings import FitSettings
from zootool.build.siren.siren_kernel import Layout, Sines, Task, fit
from zootool.engines.engine import run_on_threads


def fit_on_cpu(
    initial: Float32[np.ndarray, "networks parameters"],
    targets: Float32[np.ndarray, "networks pixels channels"],
    settings: FitSettings,
    *,
    threads: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Float32[np.ndarray, "networks parameters"], Float32[np.ndarray, " networks"]]:
    """The trained parameters and the mean squared errors at them; `advance(n)` is called when n more are done."""
    fit_network = compiled_fit()
    layout, places = _packing(settings)
    packed = np.zeros((len(initial), int(layout.biases[-1]) + _padded(settings.num_channels)), np.float32)
    packed[:, places] = initial
    losses = np.empty(len(initial), np.float32)
    task, half_turns = _shared_task(settings), settings.omega_0 / pi
    high = np.float32(half_turns)
    sines = Sines(float(settings.omega_0), high, np.float32(half_turns - float(high)))
    adam = Adam(float(settings.lr), float(settings.beta1), float(settings.beta2), float(settings.eps))

    def fit_one(index: int) -> int:
        padded = np.zeros((settings.num_channels, len(task.shares)), np.float32)
        padded[:, : settings.num_pixels] = targets[index].T
        own_task = task._replace(targets=padded.reshape(-1))
        losses[index] = fit_network(packed[index], layout, own_task, sines, adam, settings.steps)
        return 1

    run_on_threads(fit_one, len(initial), threads, advance)
    return packed[:, places], losses


@cache
def compiled_fit() -> Callable[..., np.float32]:
    """`kernel.fit`, as an entry for Python."""

    def fit_network(parameters: Any, layout: Any, task: Any, sines: Any, adam: Any, steps: Any) -> Any:
        return fit(parameters, layout, task, sines, adam, steps)

    return compile_kept(fit_network, source_digest(Path(__file__).parent))


def _packing(settings: FitSettings) -> tuple[Layout, Int64[np.ndarray, " parameters"]]:
    """The kernel's padded layout, and the place in it of every flat parameter."""
    widths = settings.widths
    padded = (widths[0], *map(_padded, settings.hidden), widths[-1])
    weights, biases, places, start = [], [], [], 0
    for layer, (sources, targets) in enumerate(pairwise(widths)):
        matrix = np.arange(padded[layer] * padded[layer + 1])
        matrix = matrix.reshape(sources, -1).T if layer == 0 else matrix.reshape(-1, padded[layer])
        weights.append(start)
        biases.append(start + matrix.size)
        places += [weights[-1] + matrix[:targets, :sources].reshape(-1), biases[-1] + np.arange(targets)]
        start = biases[-1] + _padded(targets)
    return Layout(np.array(padded), np.array(weights), np.array(biases)), np.concatenate(places)


def _shared_task(settings: FitSettings) -> Task:
    """The task without targets: what is the same for every image."""
    num_pixels = settings.num_pixels
    coordinates = np.zeros((settings.widths[0], _padded(num_pixels)), np.float32)
    coordinates[:, :num_pixels] = settings.coordinates().T
    shares = np.zeros(_padded(num_pixels), np.float32)
    shares[:num_pixels] = 2 / (num_pixels * settings.num_channels)
    rows, columns = settings.axes()
    covering = np.zeros(-(-len(shares) // len(columns)), np.float32)
    covering[: len(rows)] = rows
    return Task(np.zeros(0, np.float32), coordinates.reshape(-1), covering, columns, shares)


def _padded(size: int) -> int:
    return -(-size // NUM_LANES) * NUM_LANES
