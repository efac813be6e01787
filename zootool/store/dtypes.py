"""Checkpoint dtypes as numpy has them, and the step to float32 and back that loses no bit.

float16 and bfloat16 widen exactly. Numpy and the processor may quiet a NaN on the way, so NaNs go by their bits.
"""

from typing import Any

import numpy as np
from jaxtyping import Float32

_F32_EXPONENT = np.uint32(0x7F800000)
_F16_EXPONENT = np.uint16(0x7C00)
_F16_MANTISSA = np.uint16(0x03FF)


def raw_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype that holds a checkpoint dtype's bytes: its own, and uint16 for bfloat16."""
    return np.dtype("<u2") if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<")


def widen(values: np.ndarray, dtype: str) -> Float32[np.ndarray, "..."]:
    """Values of a checkpoint dtype as float32. Exact for float16 and bfloat16, rounded for float64 and integers."""
    if dtype == "float32":
        return values
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        wide = values.astype(np.float32)
    if dtype == "float16":
        nan = np.isnan(values)
        wide[nan] = _wide_nans(np.ascontiguousarray(values[nan]).view(np.uint16))
    return wide


def narrow(values: Float32[np.ndarray, "..."], dtype: str) -> np.ndarray:
    """The inverse of `widen` for float32, float16 and bfloat16."""
    if dtype == "float32":
        return values
    if dtype == "bfloat16":
        return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)
    with np.errstate(invalid="ignore"):
        thin = values.astype(np.float16)
    nan = np.isnan(values)
    thin[nan] = _thin_nans(np.ascontiguousarray(values[nan]).view(np.uint32))
    return thin


def _wide_nans(bits: np.ndarray) -> np.ndarray:
    sign = (bits >> 15).astype(np.uint32) << 31
    return (sign | _F32_EXPONENT | (bits & _F16_MANTISSA).astype(np.uint32) << 13).view(np.float32)


def _thin_nans(bits: np.ndarray) -> np.ndarray:
    sign = (bits >> 16).astype(np.uint16) & np.uint16(0x8000)
    return (sign | _F16_EXPONENT | (bits >> 13).astype(np.uint16) & _F16_MANTISSA).view(np.float16)
