"""One SIREN's whole training as one compiled function: forward, backward and Adam for all steps.

Pixels go through in blocks of 32, so that a block's activations, the weights and their gradients stay in the
processor's first cache. Neurons lie along the vector lanes: widths are padded with zeros to multiples of 16, and
padded neurons stay zero. Pixels are padded likewise, with a share of zero in the loss.

The factor omega_0 that every sine brings to the chain rule is left out of the deltas and applied once per step to each
layer's gradient. A gradient is summed over the pixels in rising order, whatever the block.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from zootool.build.siren.lanes import NUM_LANES, fma, fma_rows, load, splat, sqrt, store, sum_lanes
from zootool.build.siren.products import ZERO, add_weighted_rows, jit, multiply, sine_cosine

PIXEL_BLOCK = 32


class Layout(NamedTuple):
    """Padded widths of all layers (the output's is its channels) and where their weights and biases start.

    The first layer's weight is (sources, targets), all others are (targets, sources).
    """

    widths: np.ndarray
    weights: np.ndarray
    biases: np.ndarray


class Task(NamedTuple):
    """An image: targets (channels, pixels), coordinates (inputs, pixels) and 2 / (pixels channels) for real pixels."""

    targets: np.ndarray
    coordinates: np.ndarray
    shares: np.ndarray


class Optimiser(NamedTuple):
    """Adam's numbers and omega_0; `high` + `low` is omega_0 / pi to twice float32's precision."""

    steps: int
    lr: float
    beta1: float
    beta2: float
    eps: float
    omega_0: float
    high: np.float32
    low: np.float32


class Scratch(NamedTuple):
    """The kernel's own memory. Activations are (layer, pixel, neuron), deltas (two turns, pixel, neuron)."""

    sines: np.ndarray
    cosines: np.ndarray
    deltas: np.ndarray
    errors: np.ndarray
    transposed: np.ndarray
    gradient: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    zeros: np.ndarray
    loss: np.ndarray


def compile_fit(source_digest: str) -> Callable[..., np.float32]:
    """`fit_network` compiled once per machine; compiled anew where `source_digest` differs from the kept code's."""

    def fit_network(parameters: Any, layout: Any, task: Any, optimiser: Any) -> Any:
        # Numba keeps compiled code by this function's file and closure; the digest stands for the files it calls.
        _ = source_digest
        return fit(parameters, layout, task, optimiser)

    try:
        return njit(nogil=True, error_model="numpy", cache=True)(fit_network)
    except RuntimeError:  # no folder to keep it in can be written to
        return njit(nogil=True, error_model="numpy")(fit_network)


@jit
def fit(parameters, layout, task, optimiser):
    """Train `parameters` in place; returns the mean squared error at the final parameters."""
    scratch = _allocate(parameters, layout)
    num_pixels = len(task.shares)
    decay1 = decay2 = 1.0
    for _ in range(optimiser.steps):
        _transpose_weights(parameters, layout, scratch)
        for start in range(0, num_pixels, PIXEL_BLOCK):
            count = min(PIXEL_BLOCK, num_pixels - start)
            _forward(parameters, layout, task, optimiser, scratch, start, count)
            _backward(parameters, layout, task, scratch, start, count)
        decay1 *= optimiser.beta1
        decay2 *= optimiser.beta2
        _update(parameters, layout, optimiser, scratch, decay1, decay2)
    return _final_error(parameters, layout, task, optimiser, scratch)


@jit
def _allocate(parameters, layout):
    num_hidden = len(layout.weights) - 1
    block = PIXEL_BLOCK * layout.widths[1:-1].max()
    size = len(parameters)
    return Scratch(
        np.zeros(num_hidden * block, np.float32),
        np.zeros(num_hidden * block, np.float32),
        np.zeros(2 * block, np.float32),
        np.zeros(PIXEL_BLOCK * layout.widths[-1], np.float32),
        np.zeros(size, np.float32),
        np.zeros(size, np.float32),
        np.zeros(size, np.float32),
        np.zeros(size, np.float32),
        np.zeros(block, np.float32),
        np.zeros(NUM_LANES, np.float32),
    )


@jit
def _final_error(parameters, layout, task, optimiser, scratch):
    _transpose_weights(parameters, layout, scratch)
    scratch.loss[:] = ZERO
    for start in range(0, len(task.shares), PIXEL_BLOCK):
        _forward(parameters, layout, task, optimiser, scratch, start, min(PIXEL_BLOCK, len(task.shares) - start))
    return scratch.loss.sum() / np.float32(2)


@jit
def _transpose_weights(parameters, layout, scratch):
    for layer in range(1, len(layout.weights) - 1):
        sources, targets, start = layout.widths[layer], layout.widths[layer + 1], layout.weights[layer]
        for source in range(sources):
            for target in range(targets):
                scratch.transposed[start + source * targets + target] = parameters[start + target * sources + source]


@jit
def _forward(parameters, layout, task, optimiser, scratch, start, count):
    """Sines and cosines of every hidden layer for a block of pixels, then the output's errors."""
    num_hidden = len(layout.weights) - 1
    block = len(scratch.zeros)
    sines = scratch.sines
    _enter(parameters, layout, task, sines, start, count)
    _activate(scratch, 0, count * layout.widths[1], optimiser)
    for layer in range(1, num_hidden):
        sources, targets = layout.widths[layer], layout.widths[layer + 1]
        multiply(
            (sines, layer * block, targets),
            (parameters, layout.biases[layer], 0),
            (sines, (layer - 1) * block, sources, 1),
            (scratch.transposed, layout.weights[layer], targets),
            count,
            targets,
            sources,
        )
        _activate(scratch, layer * block, count * targets, optimiser)
    _compare(parameters, layout, task, scratch, start, count)


@jit
def _enter(parameters, layout, task, out, start, count):
    """The first layer's sums before the sine."""
    num_inputs, width = layout.widths[0], layout.widths[1]
    for pixel in range(count):
        for column in range(0, width, NUM_LANES):
            z = load(parameters, layout.biases[0] + column)
            for i in range(num_inputs):
                coordinate = splat(task.coordinates[i * len(task.shares) + start + pixel])
                z = fma(coordinate, load(parameters, layout.weights[0] + i * width + column), z)
            store(out, pixel * width + column, z)


@jit
def _activate(scratch, start, count, optimiser):
    high, low = splat(optimiser.high), splat(optimiser.low)
    for index in range(start, start + count, NUM_LANES):
        sine, cosine = sine_cosine(load(scratch.sines, index), high, low)
        store(scratch.sines, index, sine)
        store(scratch.cosines, index, cosine)


@jit
def _compare(parameters, layout, task, scratch, start, count):
    """The output's errors times the pixels' shares, (channels, pixels of the block), and the loss so far."""
    last = len(layout.weights) - 1
    width, channels, num_pixels = layout.widths[last], layout.widths[last + 1], len(task.shares)
    sines_start = (last - 1) * len(scratch.zeros)
    loss = load(scratch.loss, 0)
    z = splat(ZERO)
    for pixel in range(0, count, NUM_LANES):
        for channel in range(channels):
            sums = (z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z)
            for column in range(0, width, NUM_LANES):
                weight = load(parameters, layout.weights[last] + channel * width + column)
                sums = fma_rows(sums, scratch.sines, sines_start + pixel * width + column, width, weight)
            output = sum_lanes(sums) + splat(parameters[layout.biases[last] + channel])
            difference = output - load(task.targets, channel * num_pixels + start + pixel)
            error = difference * load(task.shares, start + pixel)
            store(scratch.errors, channel * PIXEL_BLOCK + pixel, error)
            loss = fma(difference, error, loss)
    store(scratch.loss, 0, loss)


@jit
def _backward(parameters, layout, task, scratch, start, count):
    """Add a block's share to the gradient, from the output to the first layer."""
    last = len(layout.weights) - 1
    block, width = len(scratch.zeros), layout.widths[last]
    gradient, deltas = scratch.gradient, scratch.deltas
    nothing = (scratch.zeros, 0, 0)
    _leave(layout, scratch, count)
    errors = (scratch.errors, 0, 1, PIXEL_BLOCK)
    weight = (parameters, layout.weights[last], width)
    multiply((deltas, 0, width), nothing, errors, weight, count, width, layout.widths[last + 1])
    here = 0
    for layer in range(last - 1, 0, -1):
        sources, targets = layout.widths[layer], layout.widths[layer + 1]
        _finish_delta(scratch, here, layer * block, count, targets, layout.biases[layer])
        out = (gradient, layout.weights[layer], sources)
        activations = (scratch.sines, (layer - 1) * block, sources)
        multiply(out, out, (deltas, here, 1, targets), activations, targets, sources, count)
        weight = (parameters, layout.weights[layer], sources)
        multiply((deltas, block - here, sources), nothing, (deltas, here, targets, 1), weight, count, sources, targets)
        here = block - here
    width = layout.widths[1]
    _finish_delta(scratch, here, 0, count, width, layout.biases[0])
    for i in range(layout.widths[0]):
        first = i * len(task.shares) + start
        add_weighted_rows(gradient, layout.weights[0] + i * width, task.coordinates, first, deltas, here, width, count)


@jit
def _leave(layout, scratch, count):
    """The output layer's gradient."""
    last = len(layout.weights) - 1
    width, gradient = layout.widths[last], scratch.gradient
    sines_start = (last - 1) * len(scratch.zeros)
    for channel in range(layout.widths[last + 1]):
        first, out = channel * PIXEL_BLOCK, layout.weights[last] + channel * width
        add_weighted_rows(gradient, out, scratch.errors, first, scratch.sines, sines_start, width, count)
        bias = layout.biases[last] + channel
        for pixel in range(count):
            gradient[bias] += scratch.errors[first + pixel]


@jit
def _finish_delta(scratch, start, cosines_start, count, width, bias):
    """Deltas times cosines, in place, and their sums over the pixels into the bias's gradient."""
    for column in range(0, width, NUM_LANES):
        even, odd = load(scratch.gradient, bias + column), splat(ZERO)
        for offset in range(column, column + count * width, 2 * width):
            delta = load(scratch.deltas, start + offset) * load(scratch.cosines, cosines_start + offset)
            store(scratch.deltas, start + offset, delta)
            even = even + delta
            offset += width
            delta = load(scratch.deltas, start + offset) * load(scratch.cosines, cosines_start + offset)
            store(scratch.deltas, start + offset, delta)
            odd = odd + delta
        store(scratch.gradient, bias + column, even + odd)


@jit
def _update(parameters, layout, optimiser, scratch, decay1, decay2):
    """One step of Adam (Kingma and Ba 2015), in the order of torch's operations; leaves the gradient at zero.

    `decay1` and `decay2` are the betas to the power of the step, multiplied up so that no library's pow comes in.
    """
    step_size = np.float32(optimiser.lr / (1 - decay1))
    root = np.float32(np.sqrt(1 - decay2))
    gain = 1.0
    end = len(parameters)
    for layer in range(len(layout.weights) - 1, -1, -1):
        start = layout.weights[layer]
        _update_layer(parameters, scratch, optimiser, start, end, np.float32(gain), step_size, root)
        gain *= optimiser.omega_0
        end = start


@jit
def _update_layer(parameters, scratch, optimiser, start, end, gain, step_size, root):
    new_mean = splat(np.float32(1 - optimiser.beta1))
    old_square, new_square = splat(np.float32(optimiser.beta2)), splat(np.float32(1 - optimiser.beta2))
    eps = splat(np.float32(optimiser.eps))
    for index in range(start, end, NUM_LANES):
        gradient = load(scratch.gradient, index) * splat(gain)
        mean = load(scratch.mean, index)
        mean = fma(gradient - mean, new_mean, mean)
        square = fma(gradient * gradient, new_square, load(scratch.square, index) * old_square)
        change = mean / (sqrt(square) / splat(root) + eps)
        store(parameters, index, load(parameters, index) - splat(step_size) * change)
        store(scratch.mean, index, mean)
        store(scratch.square, index, square)
        store(scratch.gradient, index, splat(ZERO))
