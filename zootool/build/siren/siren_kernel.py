"""One SIREN's whole training as one compiled function: forward, backward and Adam for all steps.

Pixels go through in blocks, so that a block's activations, the weights and their gradients stay in the processor's
first two caches. Neurons lie along the vector lanes: widths are padded with zeros to multiples of 16, and padded
neurons stay zero. Pixels are padded likewise, with a share of zero in the loss.

The factor omega_0 that every sine brings to the chain rule is left out of the deltas, and comes in once per step as a
factor of each layer's gradient.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from zootool.build.siren.lanes import NUM_LANES, Lanes, fma, fma_rows, jit, load, splat, store, sum_lanes, total, typed
from zootool.build.siren.products import (
    ZERO,
    Adam,
    Moments,
    Numbers,
    add_weighted_rows,
    multiply,
    sine_cosine,
    update_by_adam,
    zeros,
)

# A block's sines, cosines and deltas of 32 neurons are 16 KB each.
PIXEL_BLOCK = typed(128)
_NOWHERE, _NO_STEP, _ONE_STEP = typed(0), typed(0), typed(1)


class Layout(NamedTuple):
    """Padded widths of all layers (the output's is its channels) and where their weights and biases start.

    The first layer's weight is (sources, targets), all others are (targets, sources).
    """

    widths: Int64[np.ndarray, " layers+1"]
    weights: Int64[np.ndarray, " layers"]
    biases: Int64[np.ndarray, " layers"]


class Task(NamedTuple):
    """An image, flat: targets (channels, pixels), coordinates (inputs, pixels), and each pixel's share in the loss.

    The share is 2 / (pixels * channels), zero for padding. `rows` and `columns` are the grid's axes; the rows go on
    until they cover the padding.
    """

    targets: Numbers
    coordinates: Numbers
    rows: Numbers
    columns: Numbers
    shares: Numbers


class Sines(NamedTuple):
    """omega_0, and omega_0 / pi as the sum of two float32."""

    omega_0: float
    high: np.float32
    low: np.float32


class AxisParts(NamedTuple):
    """Sines and cosines of the rows' and the columns' parts, each (coordinate, neuron)."""

    row_sines: Numbers
    row_cosines: Numbers
    column_sines: Numbers
    column_cosines: Numbers


class Scratch(NamedTuple):
    """The kernel's memory, flat. Activations are (layer, pixel, neuron), deltas (two in turn, pixel, neuron)."""

    sines: Numbers
    cosines: Numbers
    deltas: Numbers
    errors: Numbers
    transposed: Numbers
    zeros: Numbers
    loss: Numbers


@jit
def fit(parameters: Numbers, layout: Layout, task: Task, sines: Sines, adam: Adam, steps: int) -> np.float32:
    """Train `parameters` in place; returns the mean squared error at the final parameters."""
    scratch = _allocate(layout.widths, len(parameters), PIXEL_BLOCK)
    width = layout.widths[1]
    rows, columns = len(task.rows) * width, len(task.columns) * width
    parts = AxisParts(zeros(rows), zeros(rows), zeros(columns), zeros(columns))
    moments = Moments(zeros(len(parameters)), zeros(len(parameters)), zeros(len(parameters)))
    num_pixels = len(task.shares)
    decay1 = decay2 = 1.0
    for _ in range(steps):
        _prepare(parameters, layout, task, sines, scratch, parts)
        for start in range(0, num_pixels, PIXEL_BLOCK):
            count = min(PIXEL_BLOCK, num_pixels - start)
            _forward(parameters, layout, task, sines, scratch, parts, start, count)
            _backward(parameters, layout, task, scratch, moments.gradient, start, count)
        # Multiplied up, so that no library's pow decides about the last bit.
        decay1 *= adam.beta1
        decay2 *= adam.beta2
        _update_layers(parameters, layout, sines.omega_0, adam, moments, decay1, decay2)
    return _final_error(parameters, layout, task, sines, scratch, parts)


@jit
def _allocate(widths: Int64[np.ndarray, " layers+1"], num_parameters: int, num_pixels: int) -> Scratch:
    """Memory for networks of these padded widths and blocks of `num_pixels` pixels."""
    block = num_pixels * _largest(widths[1:-1])
    activations = (len(widths) - 2) * block
    errors, transposed = zeros(num_pixels * widths[-1]), zeros(num_parameters)
    sines, cosines, deltas = zeros(activations), zeros(activations), zeros(2 * block)
    return Scratch(sines, cosines, deltas, errors, transposed, zeros(block), zeros(NUM_LANES))


@jit
def _largest(numbers: Int64[np.ndarray, " numbers"]) -> int:
    # numpy's max costs more to compile than the whole of Adam.
    largest = numbers[0]
    for number in numbers:
        largest = max(largest, number)
    return largest


@jit
def _final_error(
    parameters: Numbers, layout: Layout, task: Task, sines: Sines, scratch: Scratch, parts: AxisParts
) -> np.float32:
    _prepare(parameters, layout, task, sines, scratch, parts)
    store(scratch.loss, _NOWHERE, splat(ZERO))
    for start in range(0, len(task.shares), PIXEL_BLOCK):
        count = min(PIXEL_BLOCK, len(task.shares) - start)
        _forward(parameters, layout, task, sines, scratch, parts, start, count)
    return total(load(scratch.loss, 0)) / np.float32(2)


@jit
def _prepare(parameters: Numbers, layout: Layout, task: Task, sines: Sines, scratch: Scratch, parts: AxisParts) -> None:
    """What all pixels of a step share: the first layer's parts by row and column, and the other weights transposed."""
    high, low = splat(sines.high), splat(sines.low)
    weight, bias = layout.weights[0], layout.biases[0]
    _tabulate(parts, task.rows, task.columns, parameters, weight, bias, layout.widths[1], high, low)
    # `multiply` takes its right side row by row, along the lanes: forward that is a weight's transpose.
    for layer in range(1, len(layout.weights) - 1):
        sources, targets, start = layout.widths[layer], layout.widths[layer + 1], layout.weights[layer]
        for source in range(sources):
            for target in range(targets):
                scratch.transposed[start + source * targets + target] = parameters[start + target * sources + source]


@jit
def _tabulate(
    parts: AxisParts,
    rows: Numbers,
    columns: Numbers,
    parameters: Numbers,
    weight: int,
    bias: int,
    width: int,
    high: Lanes,
    low: Lanes,
) -> None:
    """Fill `parts` for the first layer whose weight (2, width) and bias lie at these places of `parameters`."""
    for lane in range(0, width, NUM_LANES):
        for row in range(len(rows)):
            z = fma(splat(rows[row]), load(parameters, weight + lane), load(parameters, bias + lane))
            sine, cosine = sine_cosine(z, high, low)
            store(parts.row_sines, row * width + lane, sine)
            store(parts.row_cosines, row * width + lane, cosine)
        for column in range(len(columns)):
            z = fma(splat(columns[column]), load(parameters, weight + width + lane), splat(ZERO))
            sine, cosine = sine_cosine(z, high, low)
            store(parts.column_sines, column * width + lane, sine)
            store(parts.column_cosines, column * width + lane, cosine)


@jit
def _combine(
    sines: Numbers, cosines: Numbers, parts: AxisParts, num_columns: int, start: int, count: int, width: int
) -> None:
    """Sines and cosines (pixel, neuron) of the pixels start..start+count in row-major order."""
    row, column = start // num_columns * width, start % num_columns * width
    for pixel in range(0, count * width, width):
        for lane in range(0, width, NUM_LANES):
            sine, cosine = load(parts.column_sines, column + lane), load(parts.column_cosines, column + lane)
            row_sine, row_cosine = load(parts.row_sines, row + lane), load(parts.row_cosines, row + lane)
            store(sines, pixel + lane, row_sine * cosine + row_cosine * sine)
            store(cosines, pixel + lane, row_cosine * cosine - row_sine * sine)
        column += width
        if column == num_columns * width:
            row, column = row + width, 0


@jit
def _forward(
    parameters: Numbers,
    layout: Layout,
    task: Task,
    sines: Sines,
    scratch: Scratch,
    parts: AxisParts,
    start: int,
    count: int,
) -> None:
    """Sines and cosines of every hidden layer for a block of pixels, then the output's errors."""
    block = len(scratch.zeros)
    _combine(scratch.sines, scratch.cosines, parts, len(task.columns), start, count, layout.widths[1])
    for layer in range(1, len(layout.weights) - 1):
        sources, targets = layout.widths[layer], layout.widths[layer + 1]
        out, bias = (scratch.sines, layer * block, targets), (parameters, layout.biases[layer], _NO_STEP)
        before = (scratch.sines, (layer - 1) * block, sources, _ONE_STEP)
        multiply(out, bias, before, (scratch.transposed, layout.weights[layer], targets), count, targets, sources)
        _activate(scratch, layer * block, count * targets, sines)
    _compare(parameters, layout, task, scratch, start, count)


@jit
def _activate(scratch: Scratch, start: int, count: int, sines: Sines) -> None:
    high, low = splat(sines.high), splat(sines.low)
    for index in range(start, start + count, NUM_LANES):
        sine, cosine = sine_cosine(load(scratch.sines, index), high, low)
        store(scratch.sines, index, sine)
        store(scratch.cosines, index, cosine)


@jit
def _compare(parameters: Numbers, layout: Layout, task: Task, scratch: Scratch, start: int, count: int) -> None:
    """The output's errors times the pixels' shares, (channels, pixels of the block); adds to the loss."""
    last = len(layout.weights) - 1
    width, num_pixels = layout.widths[last], len(task.shares)
    sines_start = (last - 1) * len(scratch.zeros)
    loss = load(scratch.loss, 0)
    z = splat(ZERO)
    for pixel in range(0, count, NUM_LANES):
        for channel in range(layout.widths[last + 1]):
            # A vector of partial sums for each of sixteen pixels, which `sum_lanes` turns into one lane per pixel.
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
def _backward(
    parameters: Numbers, layout: Layout, task: Task, scratch: Scratch, gradient: Numbers, start: int, count: int
) -> None:
    """Add a block's part to the gradient, from the output to the first layer."""
    last, block = len(layout.weights) - 1, len(scratch.zeros)
    _output_gradient(layout, scratch, gradient, count)
    nothing = (scratch.zeros, _NOWHERE, _NO_STEP)
    width = layout.widths[last]
    errors, weight = (scratch.errors, _NOWHERE, _ONE_STEP, PIXEL_BLOCK), (parameters, layout.weights[last], width)
    multiply((scratch.deltas, _NOWHERE, width), nothing, errors, weight, count, width, layout.widths[last + 1])
    here = _NOWHERE
    for layer in range(last - 1, 0, -1):
        sources, targets = layout.widths[layer], layout.widths[layer + 1]
        _finish_deltas(scratch, here, layer * block, gradient, layout.biases[layer], count, targets)
        out, before = (gradient, layout.weights[layer], sources), (scratch.sines, (layer - 1) * block, sources)
        multiply(out, out, (scratch.deltas, here, _ONE_STEP, targets), before, targets, sources, count)
        deltas, weight = (scratch.deltas, here, targets, _ONE_STEP), (parameters, layout.weights[layer], sources)
        here = block - here  # the deltas of two layers are alive at a time: two halves take turns
        multiply((scratch.deltas, here, sources), nothing, deltas, weight, count, sources, targets)
    width = layout.widths[1]
    _finish_deltas(scratch, here, _NOWHERE, gradient, layout.biases[0], count, width)
    for i in range(layout.widths[0]):
        out, first = layout.weights[0] + i * width, i * len(task.shares) + start
        add_weighted_rows(gradient, out, task.coordinates, first, scratch.deltas, here, width, count)


@jit
def _output_gradient(layout: Layout, scratch: Scratch, gradient: Numbers, count: int) -> None:
    last = len(layout.weights) - 1
    width = layout.widths[last]
    sines_start = (last - 1) * len(scratch.zeros)
    for channel in range(layout.widths[last + 1]):
        first, out = channel * PIXEL_BLOCK, layout.weights[last] + channel * width
        add_weighted_rows(gradient, out, scratch.errors, first, scratch.sines, sines_start, width, count)
        errors = splat(ZERO)
        for pixel in range(0, count, NUM_LANES):
            errors = errors + load(scratch.errors, first + pixel)
        gradient[layout.biases[last] + channel] += total(errors)


@jit
def _finish_deltas(
    scratch: Scratch, start: int, cosines_start: int, gradient: Numbers, bias: int, count: int, width: int
) -> None:
    """Deltas times cosines, in place, and their sums over even and odd pixels into the bias's gradient."""
    deltas, cosines = scratch.deltas, scratch.cosines
    for column in range(0, width, NUM_LANES):
        # Two sums, so that an addition needn't wait for the one before it.
        even, odd = load(gradient, bias + column), splat(ZERO)
        for index in range(column, column + count * width, 2 * width):
            delta = load(deltas, start + index) * load(cosines, cosines_start + index)
            store(deltas, start + index, delta)
            even = even + delta
            delta = load(deltas, start + index + width) * load(cosines, cosines_start + index + width)
            store(deltas, start + index + width, delta)
            odd = odd + delta
        store(gradient, bias + column, even + odd)


@jit
def _update_layers(
    parameters: Numbers, layout: Layout, omega_0: float, adam: Adam, moments: Moments, decay1: float, decay2: float
) -> None:
    """One step of Adam for every layer, its gradient times omega_0 for each sine between it and the output."""
    gain = 1.0
    end = len(parameters)
    for layer in range(len(layout.weights) - 1, -1, -1):
        start = layout.weights[layer]
        update_by_adam(parameters, moments, adam, start, end, np.float32(gain), decay1, decay2)
        gain *= omega_0
        end = start
