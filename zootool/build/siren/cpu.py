"""The CPU backend: each network's training is one call of the compiled kernel, one thread per processor.

Networks share nothing, so a network's bits depend on neither threads nor batch. Threads of Python with the GIL
released stand where a parallel loop inside the kernel could: they let progress and Ctrl-C through between networks, and
live beside forked processes and other callers.
"""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import cache
from hashlib import sha256
from itertools import pairwise
from math import pi
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from zootool.build.siren import kernel, lanes, products
from zootool.build.siren.lanes import NUM_LANES
from zootool.build.siren.settings import FitSettings


def fit_on_cpu(
    initial: Float32[np.ndarray, "networks parameters"],
    targets: Float32[np.ndarray, "networks pixels channels"],
    settings: FitSettings,
    *,
    threads: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Float32[np.ndarray, "networks parameters"], Float32[np.ndarray, " networks"]]:
    """The trained parameters and the mean squared errors at them; `advance(1)` is called after each network."""
    fit = _compiled()
    layout, places = _packing(settings)
    packed = np.zeros((len(initial), int(layout.biases[-1]) + _padded(settings.num_channels)), np.float32)
    packed[:, places] = initial
    losses = np.empty(len(initial), np.float32)
    optimiser, task = _optimiser(settings), _empty_task(settings)

    def fit_one(index: int) -> None:
        shown = np.zeros((settings.num_channels, len(task.shares)), np.float32)
        shown[:, : settings.num_pixels] = targets[index].T
        losses[index] = fit(packed[index], layout, task._replace(targets=shown.reshape(-1)), optimiser)

    _run(fit_one, len(initial), threads, advance)
    return packed[:, places], losses


def _run(work: Callable[[int], None], count: int, threads: int, advance: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(max(1, threads)) as pool:
        running = {pool.submit(work, index) for index in range(count)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                advance(len(done))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _packing(settings: FitSettings) -> tuple[kernel.Layout, np.ndarray]:
    """The kernel's padded layout, and the place in it of every flat parameter."""
    widths = settings.widths
    padded = [widths[0], *map(_padded, settings.hidden), widths[-1]]
    weights, biases, places, start = [], [], [], 0
    for layer, (sources, targets) in enumerate(pairwise(widths)):
        first = layer == 0
        row = padded[1] if first else padded[layer]
        grid = (
            np.arange(targets)[:, None] + row * np.arange(sources)
            if first
            else row * np.arange(targets)[:, None] + np.arange(sources)
        )
        weights.append(start)
        places.append(start + grid.reshape(-1))
        start += row * (sources if first else padded[layer + 1])
        biases.append(start)
        places.append(start + np.arange(targets))
        start += _padded(targets)
    return kernel.Layout(np.array(padded), np.array(weights), np.array(biases)), np.concatenate(places)


def _optimiser(settings: FitSettings) -> kernel.Optimiser:
    half_turns = settings.omega_0 / pi
    high = np.float32(half_turns)
    low = np.float32(half_turns - float(high))
    adam = (settings.lr, settings.beta1, settings.beta2, settings.eps)
    return kernel.Optimiser(settings.steps, *map(float, adam), float(settings.omega_0), high, low)


def _empty_task(settings: FitSettings) -> kernel.Task:
    num_pixels = settings.num_pixels
    coordinates = np.zeros((settings.widths[0], _padded(num_pixels)), np.float32)
    coordinates[:, :num_pixels] = settings.coordinates().T
    shares = np.zeros(_padded(num_pixels), np.float32)
    shares[:num_pixels] = 2 / (num_pixels * settings.num_channels)
    return kernel.Task(np.zeros(0, np.float32), coordinates.reshape(-1), shares)


def _padded(size: int) -> int:
    return -(-size // NUM_LANES) * NUM_LANES


@cache
def _compiled() -> Callable[..., np.float32]:
    sources = b"".join(Path(module.__file__).read_bytes() for module in (kernel, lanes, products))
    return kernel.compile_fit(sha256(sources).hexdigest())
