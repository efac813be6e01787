"""The memory that the kernel works in, allocated once per network."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from zootool.build.siren.lanes import NUM_LANES, jit
from zootool.build.siren.products import Numbers


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
def allocate(widths: Int64[np.ndarray, " layers+1"], num_parameters: int, num_pixels: int) -> Scratch:
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
def zeros(size: int) -> Numbers:
    """Zeros that begin on a cache line: vectors that cross one take twice as long to load."""
    memory = np.zeros(size + NUM_LANES, np.float32)
    start = -(memory.ctypes.data // 4) % NUM_LANES
    return memory[start : start + size]
