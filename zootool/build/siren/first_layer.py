"""The first layer on a grid: sine and cosine of a pixel's sum from those of its row's and its column's part.

Pixels lie on a grid, so a neuron's sum is one number for the row (with the bias) and one for the column, and
sin(a + b) = sin a cos b + cos a sin b. That takes height + width sines instead of height * width.
"""

from typing import NamedTuple

from zootool.build.siren.lanes import NUM_LANES, Lanes, fma, jit, load, splat, store
from zootool.build.siren.products import ZERO, Numbers, sine_cosine


class AxisParts(NamedTuple):
    """Sines and cosines of the rows' and the columns' parts, each (coordinate, neuron)."""

    row_sines: Numbers
    row_cosines: Numbers
    column_sines: Numbers
    column_cosines: Numbers


@jit
def tabulate(
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
def combine(
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
