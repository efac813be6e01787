import numpy as np
import pytest
from numba import njit

from zootool.build.siren.lanes import NUM_LANES, fma_rows, load, splat, store, sum_lanes, total
from zootool.build.siren.products import add_weighted_rows, multiply, sine_cosine


@njit
def sines_of(z, high, low, sines, cosines):
    for i in range(0, len(z), NUM_LANES):
        sine, cosine = sine_cosine(load(z, i), splat(high), splat(low))
        store(sines, i, sine)
        store(cosines, i, cosine)


@njit
def product_of(out, initial, left, right, rows, columns, count):
    multiply((out, 0, columns), (initial, 0, 0), (left, 0, 1, rows), (right, 0, columns), rows, columns, count)


@njit
def weighted_sum_of(out, weights, rows, columns, count):
    add_weighted_rows(out, 0, weights, 0, rows, 0, columns, count)


@njit
def sums_of(array, out):
    z = splat(np.float32(0))
    column = (z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z)
    store(out, 0, sum_lanes(fma_rows(column, array, 0, NUM_LANES, splat(np.float32(1)))))
    return total(load(out, 0))


@pytest.mark.parametrize("largest", [0.05, 1.0, 100.0])
def test_sine_and_cosine_are_right_within_a_few_units_of_the_last_place(largest: float) -> None:
    omega = 30.0
    z = np.linspace(-largest, largest, 1 << 14).astype(np.float32)
    high = np.float32(omega / np.pi)
    low = np.float32(omega / np.pi - float(high))
    sines, cosines = np.empty_like(z), np.empty_like(z)
    sines_of(z, high, low, sines, cosines)
    exact = omega * z.astype(np.float64)
    assert np.abs(sines - np.sin(exact)).max() < 3e-7
    assert np.abs(cosines - np.cos(exact)).max() < 3e-7
    assert np.array_equal(sines, -sines[::-1])


@pytest.mark.parametrize("columns", [16, 32, 48, 80])
@pytest.mark.parametrize("rows", [8, 24])
def test_products_are_those_of_matrices(rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((5, rows)), rng.standard_normal((5, columns))
    bias, out = rng.standard_normal(columns), np.zeros((rows, columns), np.float32)
    a, b, c = (matrix.astype(np.float32).reshape(-1) for matrix in (bias, left, right))
    product_of(out.reshape(-1), a, b, c, rows, columns, 5)
    assert np.allclose(out, left.T @ right + bias, atol=1e-5)


def test_weighted_rows_are_added_to_what_is_there() -> None:
    rng = np.random.default_rng(0)
    weights, rows = rng.standard_normal(16).astype(np.float32), rng.standard_normal((16, 48)).astype(np.float32)
    out = np.ones(48, np.float32)
    weighted_sum_of(out, weights, rows.reshape(-1), 48, 16)
    assert np.allclose(out, 1 + weights @ rows, atol=1e-5)


def test_lanes_are_summed_in_their_rows() -> None:
    array = np.arange(NUM_LANES * NUM_LANES, dtype=np.float32)
    out = np.zeros(NUM_LANES, np.float32)
    assert sums_of(array, out) == array.sum()
    assert np.array_equal(out, array.reshape(NUM_LANES, -1).sum(axis=1))
