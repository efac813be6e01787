"""The compiled training of one CNN: forward, backward and update, a block of 32 images at a time.

A block's numbers stay in the cache of one processor, and what differs between networks (optimiser, batches, dropout,
architecture) costs nothing, because nothing is shared with another network. Each product is a tile of registers: for
an output 8 channels x 32 images, for a weight's gradient 16 targets x 16 images. Sums have one fixed order, so a
network's bits depend on neither company nor threads.

`multiply`, lanes and tiles are those of the SIREN kernel.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from zootool.build.classifier.elementwise import Optimiser, State, activate_lanes, keep_mask, update
from zootool.build.classifier.geometry import BLOCK, Geometry
from zootool.build.siren.lanes import (
    NUM_LANES,
    TILE_ROWS,
    fma_outer,
    fma_rows,
    jit,
    load,
    splat,
    store,
    store_tile,
    sum_lanes,
    total,
    typed,
)
from zootool.build.siren.products import ONE, ZERO, Numbers, multiply

_CHUNK = 16
"""Positions whose gradients are summed up before they are added to the weight's: they fit the first cache."""

_NO_STEP, _ONE_STEP = typed(0), typed(1)
_WIDTH = typed(BLOCK)


class ImageData(NamedTuple):
    """Images, flat (image, channel, row, column), what each of the 256 pixel values stands for, and the classes."""

    pixels: UInt8[np.ndarray, " numbers"]
    levels: Numbers
    labels: Int64[np.ndarray, " images"]


class Scratch(NamedTuple):
    """The kernel's memory: activations, their gradients, slopes (then gradients before the activation), dropout."""

    acts: Numbers
    deltas: Numbers
    slopes: Numbers
    mask: Numbers


class Batches(NamedTuple):
    """An epoch: its images in order, how many to a step, and the Philox words that dropout is drawn from."""

    order: Int64[np.ndarray, " images"]
    size: int
    dropout: float
    seed: int
    run: int
    epoch: int


@jit
def train_epoch(
    parameters: Numbers,
    state: State,
    optimiser: Optimiser,
    geometry: Geometry,
    scratch: Scratch,
    data: ImageData,
    batches: Batches,
) -> None:
    """Make the steps of one epoch, in place."""
    count = len(batches.order)
    for start in range(0, count, batches.size):
        stop = min(start + batches.size, count)
        for block in range(start, stop, BLOCK):
            width = min(BLOCK, stop - block)
            load_block(geometry, scratch, data, batches.order, block, width)
            if batches.dropout == 0:
                scratch.mask[:] = ONE
            else:
                keep_mask(scratch.mask, batches.dropout, batches.seed, batches.run, batches.epoch, block)
            forward(parameters, geometry, scratch)
            compare(geometry, scratch, data, batches.order, block, width, np.float32(1 / (stop - start)))
            backward(parameters, state.gradient, geometry, scratch)
        update(parameters, state, optimiser)


@jit
def evaluate(
    parameters: Numbers,
    geometry: Geometry,
    scratch: Scratch,
    data: ImageData,
    order: Int64[np.ndarray, " images"],
) -> tuple[float, float]:
    """Mean cross-entropy and the fraction of images whose largest output is their class's, without dropout."""
    loss, hits = 0.0, 0
    scratch.mask[:] = ONE
    for block in range(0, len(order), BLOCK):
        width = min(BLOCK, len(order) - block)
        load_block(geometry, scratch, data, order, block, width)
        forward(parameters, geometry, scratch)
        more_loss, more_hits = compare(geometry, scratch, data, order, block, width, ONE)
        loss += more_loss
        hits += more_hits
    return loss / max(1, len(order)), hits / max(1, len(order))


@jit
def load_block(
    geometry: Geometry, scratch: Scratch, data: ImageData, order: Int64[np.ndarray, " images"], block: int, width: int
) -> None:
    """Put `width` images, from order[block] on, into the first layer's input."""
    channels, row_step, plane = geometry.sources[0], geometry.in_row[0], geometry.in_plane[0]
    columns = geometry.image_columns
    rows = geometry.image_size // columns
    for image in range(width):
        pixel = order[block + image] * channels * geometry.image_size
        for channel in range(channels):
            for row in range(rows):
                place = geometry.image_start + channel * plane + row * row_step + image
                for _ in range(columns):
                    scratch.acts[place] = data.levels[data.pixels[pixel]]
                    place += BLOCK
                    pixel += 1


@jit
def forward(parameters: Numbers, geometry: Geometry, scratch: Scratch) -> None:
    """Every layer's output and slopes for the block in the first layer's input."""
    last = len(geometry.sources) - 1
    for layer in range(last):
        _convolve(parameters, geometry, scratch.acts, layer)
        _activate(geometry, scratch, layer)
    _to_head(geometry, scratch)
    _convolve(parameters, geometry, scratch.acts, last)


@jit
def _convolve(parameters: Numbers, geometry: Geometry, acts: Numbers, layer: int) -> None:
    width = -(-geometry.targets[layer] // NUM_LANES) * NUM_LANES
    count = geometry.sources[layer] * geometry.kernel_height[layer] * geometry.kernel_width[layer]
    taps, offsets = geometry.taps[layer], geometry.offsets
    ones = (splat(ONE), splat(ONE))
    for row in range(geometry.rows[layer]):
        for column in range(geometry.columns[layer]):
            place = geometry.in_start[layer] + geometry.stride[layer] * (row * geometry.in_row[layer] + column * BLOCK)
            out = geometry.out_start[layer] + row * geometry.out_row[layer] + column * BLOCK
            for target in range(0, geometry.targets[layer], TILE_ROWS):
                z: Any = splat(ZERO)
                tile = (z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z)
                # The bias times ones, as that is the tile's own instruction.
                tile = fma_outer(tile, parameters, geometry.biases[layer] + target, _ONE_STEP, ones)
                weight = geometry.weights[layer] + target
                for k in range(taps, taps + count):
                    source = place + offsets[k]
                    columns = (load(acts, source), load(acts, source + NUM_LANES))
                    tile = fma_outer(tile, parameters, weight, _ONE_STEP, columns)
                    weight += width
                store_tile(tile, acts, out + target * geometry.out_plane[layer], geometry.out_plane[layer])


@jit
def _activate(geometry: Geometry, scratch: Scratch, layer: int) -> None:
    """The residual, the activation and its slope, in the layer's output."""
    residual, code = geometry.residual[layer], geometry.activation[layer]
    length = geometry.columns[layer] * BLOCK
    place = geometry.slopes[layer]
    for target in range(geometry.targets[layer]):
        adds = residual >= 0 and target < geometry.targets[residual]
        for row in range(geometry.rows[layer]):
            out = geometry.out_start[layer] + target * geometry.out_plane[layer] + row * geometry.out_row[layer]
            source = out
            if adds:
                source = geometry.out_start[residual] + target * geometry.out_plane[residual]
                source += row * geometry.out_row[residual]
            for index in range(0, length, NUM_LANES):
                x = load(scratch.acts, out + index)
                if adds:
                    x = x + load(scratch.acts, source + index)
                y, slope = activate_lanes(code, x)
                store(scratch.acts, out + index, y)
                store(scratch.slopes, place + index, slope)
            place += length


@jit
def _to_head(geometry: Geometry, scratch: Scratch) -> None:
    """The last layer's input: means of the map where it is pooled, times the dropout's mask."""
    last, acts = len(geometry.sources) - 1, scratch.acts
    start = geometry.in_start[last]
    if geometry.pooled_positions > 0:
        size, count = geometry.pooled_positions * BLOCK, geometry.pooled_positions
        for channel in range(geometry.sources[last]):
            source = geometry.out_start[last - 1] + channel * size
            for half in range(0, BLOCK, NUM_LANES):
                mean = splat(ZERO)
                for index in range(source + half, source + size, BLOCK):
                    mean = mean + load(acts, index)
                store(acts, start + channel * BLOCK + half, mean / splat(np.float32(count)))
    for index in range(0, len(scratch.mask), NUM_LANES):
        store(acts, start + index, load(acts, start + index) * load(scratch.mask, index))


@jit
def compare(
    geometry: Geometry,
    scratch: Scratch,
    data: ImageData,
    order: Int64[np.ndarray, " images"],
    block: int,
    width: int,
    share: np.float32,
) -> tuple[float, int]:
    """Summed cross-entropy and hits of a block; the gradient at the outputs, times `share`, goes into the slopes."""
    last = len(geometry.sources) - 1
    classes, out, place = geometry.targets[last], geometry.out_start[last], geometry.slopes[last]
    acts, slopes = scratch.acts, scratch.slopes
    loss, hits = 0.0, 0
    slopes[place : place + classes * BLOCK] = ZERO
    for image in range(width):
        label, best = data.labels[order[block + image]], 0
        for k in range(1, classes):
            if acts[out + k * BLOCK + image] > acts[out + best * BLOCK + image]:
                best = k
        # Less the largest, so that no exponential overflows; in double precision, as a loss is a sum over many images.
        largest, sum_ = float(acts[out + best * BLOCK + image]), 0.0
        for k in range(classes):
            sum_ += np.exp(float(acts[out + k * BLOCK + image]) - largest)
        loss += np.log(sum_) + largest - float(acts[out + label * BLOCK + image])
        hits += 1 if best == label else 0
        for k in range(classes):
            probability = np.exp(float(acts[out + k * BLOCK + image]) - largest) / sum_
            slopes[place + k * BLOCK + image] = np.float32(probability - (1.0 if k == label else 0.0)) * share
    return loss, hits


@jit
def backward(parameters: Numbers, gradient: Numbers, geometry: Geometry, scratch: Scratch) -> None:
    """Add a block's part to the gradient, from the outputs to the first layer."""
    last = len(geometry.sources) - 1
    # What several layers read (a residual's source, a pixel under overlapping kernels) adds up what each hands back.
    scratch.deltas[:] = ZERO
    for layer in range(last, -1, -1):
        if layer < last:
            _finish_deltas(geometry, scratch, layer)
        _bias_gradient(gradient, geometry, scratch.slopes, layer)
        _weight_gradient(gradient, geometry, scratch, layer)
        if layer > 0:
            _source_deltas(parameters, geometry, scratch, layer)
        if layer == last:
            _from_head(geometry, scratch)


@jit
def _from_head(geometry: Geometry, scratch: Scratch) -> None:
    last, deltas = len(geometry.sources) - 1, scratch.deltas
    start = geometry.in_start[last]
    for index in range(0, len(scratch.mask), NUM_LANES):
        store(deltas, start + index, load(deltas, start + index) * load(scratch.mask, index))
    if geometry.pooled_positions > 0:
        size, count = geometry.pooled_positions * BLOCK, splat(np.float32(geometry.pooled_positions))
        for channel in range(geometry.sources[last]):
            source = geometry.out_start[last - 1] + channel * size
            for half in range(0, BLOCK, NUM_LANES):
                delta = load(deltas, start + channel * BLOCK + half) / count
                for index in range(source + half, source + size, BLOCK):
                    store(deltas, index, delta)


@jit
def _finish_deltas(geometry: Geometry, scratch: Scratch, layer: int) -> None:
    """Gradients at the layer's output times its slopes, in the slopes; a residual's source gets them too."""
    residual, length = geometry.residual[layer], geometry.columns[layer] * BLOCK
    place, deltas = geometry.slopes[layer], scratch.deltas
    for target in range(geometry.targets[layer]):
        adds = residual >= 0 and target < geometry.targets[residual]
        for row in range(geometry.rows[layer]):
            out = geometry.out_start[layer] + target * geometry.out_plane[layer] + row * geometry.out_row[layer]
            source = out
            if adds:
                source = geometry.out_start[residual] + target * geometry.out_plane[residual]
                source += row * geometry.out_row[residual]
            for index in range(0, length, NUM_LANES):
                delta = load(deltas, out + index) * load(scratch.slopes, place + index)
                store(scratch.slopes, place + index, delta)
                if adds:
                    store(deltas, source + index, load(deltas, source + index) + delta)
            place += length


@jit
def _bias_gradient(gradient: Numbers, geometry: Geometry, deltas: Numbers, layer: int) -> None:
    size = geometry.rows[layer] * geometry.columns[layer] * BLOCK
    for target in range(geometry.targets[layer]):
        start = geometry.slopes[layer] + target * size
        # Two sums, so that an addition needn't wait for the one before it.
        even, odd = splat(ZERO), splat(ZERO)
        for index in range(start, start + size, BLOCK):
            even = even + load(deltas, index)
            odd = odd + load(deltas, index + NUM_LANES)
        gradient[geometry.biases[layer] + target] += total(even + odd)


@jit
def _weight_gradient(gradient: Numbers, geometry: Geometry, scratch: Scratch, layer: int) -> None:
    columns = geometry.columns[layer]
    step = max(1, _CHUNK // columns)
    for first in range(0, geometry.rows[layer], step):
        stop = min(first + step, geometry.rows[layer])
        for target in range(0, geometry.targets[layer], NUM_LANES):
            _add_rows(gradient, geometry, scratch, layer, target, first, stop)


@jit
def _add_rows(
    gradient: Numbers, geometry: Geometry, scratch: Scratch, layer: int, target: int, first: int, stop: int
) -> None:
    """Sixteen targets' part of the gradient of the layer's weights that output rows first..stop have."""
    columns = geometry.columns[layer]
    plane = geometry.rows[layer] * columns * BLOCK
    width = -(-geometry.targets[layer] // NUM_LANES) * NUM_LANES
    count = geometry.sources[layer] * geometry.kernel_height[layer] * geometry.kernel_width[layer]
    start = geometry.slopes[layer] + target * plane
    row_step, column_step = geometry.stride[layer] * geometry.in_row[layer], geometry.stride[layer] * BLOCK
    for k in range(count):
        z: Any = splat(ZERO)
        sums = (z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z)
        for row in range(first, stop):
            source = geometry.in_start[layer] + geometry.offsets[geometry.taps[layer] + k] + row * row_step
            delta = start + row * columns * BLOCK
            for _ in range(columns):
                sums = fma_rows(sums, scratch.slopes, delta, plane, load(scratch.acts, source))
                more = load(scratch.acts, source + NUM_LANES)
                sums = fma_rows(sums, scratch.slopes, delta + NUM_LANES, plane, more)
                source += column_step
                delta += BLOCK
        place = geometry.weights[layer] + k * width + target
        store(gradient, place, load(gradient, place) + sum_lanes(sums))


@jit
def _source_deltas(parameters: Numbers, geometry: Geometry, scratch: Scratch, layer: int) -> None:
    """Add the gradient at the layer's input, tap by tap, to what is there."""
    height, width, in_row = geometry.kernel_height[layer], geometry.kernel_width[layer], geometry.in_row[layer]
    padded = -(-geometry.targets[layer] // NUM_LANES) * NUM_LANES
    rows = -(-geometry.sources[layer] // TILE_ROWS) * TILE_ROWS
    plane = geometry.rows[layer] * geometry.columns[layer] * BLOCK
    delta = geometry.slopes[layer]
    for row in range(geometry.rows[layer]):
        for column in range(geometry.columns[layer]):
            corner = geometry.in_start[layer] + geometry.stride[layer] * (row * in_row + column * BLOCK)
            right = (scratch.slopes, delta, plane)
            for tap_row in range(height):
                for tap in range(width):
                    place = corner + tap_row * in_row + tap * BLOCK
                    out = (scratch.deltas, place, geometry.in_plane[layer])
                    weight = geometry.weights[layer] + (tap_row * width + tap) * padded
                    left = (parameters, weight, height * width * padded, _ONE_STEP)
                    multiply(out, out, left, right, rows, _WIDTH, geometry.targets[layer])
            delta += BLOCK
