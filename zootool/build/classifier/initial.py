"""The numbers that networks start from, each tensor from its own Philox stream."""

import numpy as np
from jaxtyping import Float32, Float64

from zootool.build.classifier.streams import INITIAL
from zootool.build.philox import random_words, uniform

_TRUNCATED_STD = 0.8796256610342398
"""The deviation of a normal distribution that is cut at two deviations."""


def initial_weight(
    kind: str, std: float, shape: tuple[int, ...], seed: int, run: int, part: int
) -> Float32[np.ndarray, "..."]:
    """A weight (targets, sources, *kernel) of tensor `part` of a network.

    "normal" and "truncated_normal" (cut at two deviations) have the deviation `std`, "glorot_normal" and "he_normal"
    that of Glorot and Bengio (2010) and of He et al. (2015), "orthogonal" orthonormal rows or columns (Saxe et al.
    2014).
    """
    targets, fan_in = shape[0], int(np.prod(shape[1:]))
    fan_out = targets * fan_in // shape[1]
    count = targets * fan_in
    if kind == "orthogonal":
        flat = _orthonormal(_normals(count, seed, run, part).reshape(targets, fan_in))
    elif kind == "truncated_normal":
        flat = std * _truncated(count, seed, run, part)
    else:
        deviations = {"normal": std, "glorot_normal": (2 / (fan_in + fan_out)) ** 0.5, "he_normal": (2 / fan_in) ** 0.5}
        flat = deviations[kind] * _normals(count, seed, run, part)
    return flat.reshape(shape).astype(np.float32)


def uniform_numbers(bound: float, shape: tuple[int, ...], seed: int, run: int, part: int) -> Float32[np.ndarray, "..."]:
    """Numbers of [-bound, bound) for tensor `part` of a network."""
    words = random_words(seed, np.array([[run, part, INITIAL]], np.uint32), int(np.prod(shape)))
    return uniform(words[0]).reshape(shape) * np.float32(bound)


def _normals(count: int, seed: int, run: int, part: int) -> Float64[np.ndarray, " numbers"]:
    """Standard normal numbers, by Box and Muller."""
    half = -(-count // 2)
    words = random_words(seed, np.array([[run, part, INITIAL]], np.uint32), 2 * half).astype(np.float64)[0]
    # Counted from 1, since there is no logarithm of 0.
    radius, angle = np.sqrt(-2 * np.log((words[:half] + 1) / 2**32)), 2 * np.pi * words[half:] / 2**32
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def _truncated(count: int, seed: int, run: int, part: int) -> Float64[np.ndarray, " numbers"]:
    """Normal numbers within two deviations, whose own deviation is 1; about one in twenty is drawn in vain."""
    spare = 2 * count + 64
    numbers = _normals(spare, seed, run, part)
    return numbers[np.abs(numbers) < 2][:count] / _TRUNCATED_STD


def _orthonormal(matrix: Float64[np.ndarray, "rows columns"]) -> Float64[np.ndarray, "rows columns"]:
    """Gram and Schmidt's orthonormal rows, or columns where those are fewer; no LAPACK decides about the bits."""
    if matrix.shape[0] > matrix.shape[1]:
        return _orthonormal(matrix.T).T
    rows: list[np.ndarray] = []
    for row in matrix:
        for _ in range(2):  # once more, for what rounding has left
            for other in rows:
                row = row - (row * other).sum() * other
        rows.append(row / np.sqrt((row * row).sum()))
    return np.stack(rows)
