"""Checkpoint dtypes as numpy has them, and the step to float32 and back that loses no bit.

Floats of up to 16 bits widen exactly. Numpy and the processor may quiet a NaN on the way, so NaNs go by their bits.
"""

from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float32

from zootool.untrusted.lazy_tensor import NUMPY_DTYPES

_F32_EXPONENT = np.uint32(0x7F800000)
_F16_EXPONENT = np.uint16(0x7C00)
_F16_MANTISSA = np.uint16(0x03FF)


def raw_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype that holds a checkpoint dtype's bytes: its own, or unsigned integers where numpy lacks it."""
    return NUMPY_DTYPES[dtype]


def widen(values: np.ndarray, dtype: str) -> Float32[np.ndarray, "..."]:
    """Values of a real checkpoint dtype as float32. Exact for floats of up to 32 bits, rounded for others."""
    if dtype == "float32":
        return values
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    if dtype.startswith("float8"):
        return _float8_values(dtype)[values]
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


@cache
def _float8_values(dtype: str) -> Float32[np.ndarray, "256"]:
    bits = np.arange(256, dtype=np.uint8)
    if dtype == "float8_e5m2":
        # The upper half of a float16, NaNs with their bits.
        return widen((bits.astype(np.uint16) << 8).view(np.float16), "float16")
    import torch

    values = torch.from_numpy(bits).view(getattr(torch, dtype)).float().numpy()
    values[np.isnan(values)] = np.nan
    return values


def _wide_nans(bits: np.ndarray) -> np.ndarray:
    sign = (bits >> 15).astype(np.uint32) << 31
    return (sign | _F32_EXPONENT | (bits & _F16_MANTISSA).astype(np.uint32) << 13).view(np.float32)


def _thin_nans(bits: np.ndarray) -> np.ndarray:
    sign = (bits >> 16).astype(np.uint16) & np.uint16(0x8000)
    return (sign | _F16_EXPONENT | (bits >> 13).astype(np.uint16) & _F16_MANTISSA).view(np.float16)
