"""Tensors of many networks of one architecture <-> rows of the store's flat arrays, bit for bit.

Floats of up to 16 bits widen exactly to float32. Numpy and the processor may quiet a NaN on the way, so NaNs go by
their bits.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from zootool.architecture import ARRAYS, Architecture, ArrayName, ParameterSlot
from zootool.errors import FormatError, printable
from zootool.untrusted.lazy_tensor import NUMPY_DTYPES

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, np.ndarray]
"""state_dict key -> array of (networks, *shape) in the dtype that `raw_dtype` gives."""

Rows = Mapping[ArrayName, np.ndarray]
"""What some networks take of each array: (networks, array_length) float32, uint8 in `exact`."""

DIGEST_BYTES = 32

_F32_EXPONENT = np.uint32(0x7F800000)
_F16_EXPONENT = np.uint16(0x7C00)
_F16_MANTISSA = np.uint16(0x03FF)


def pack(architecture: Architecture, tensors: Tensors) -> Rows:
    """Lay the networks' tensors out as the architecture's slots say. Raises FormatError for a wrong key or shape."""
    _check_tensors(architecture, tensors)
    count = len(next(iter(tensors.values())))
    rows: dict[ArrayName, np.ndarray] = {}
    for array in ARRAYS:
        dtype = np.uint8 if array == "exact" else np.float32
        rows[array] = np.empty((count, architecture.array_length(array)), dtype=dtype)
        for slot in architecture.stored_slots(array):
            rows[array][:, slot.start : slot.start + slot.length] = _stored(slot, tensors[slot.key])
    return rows


def unpack(architecture: Architecture, rows: Rows) -> dict[str, np.ndarray]:
    """The inverse of `pack`: every state_dict entry as (networks, *shape), tied entries included, in slot order."""
    tensors = {}
    for slot in architecture.slots:
        if not slot.rounded:
            stored = rows[slot.array][:, slot.start : slot.start + slot.length]
            tensors[slot.key] = _restored(slot, stored)
    return tensors


def digests_of(rows: Rows) -> UInt8[np.ndarray, "networks 32"]:
    """SHA-256 of each network's edges, nodes, extras and exact bytes, in that order."""
    parts = [np.ascontiguousarray(part).view(np.uint8) for part in rows.values() if part.shape[1]]
    out = bytearray()
    for network in zip(*parts, strict=True):
        digest = hashlib.sha256(network[0])
        for part in network[1:]:
            digest.update(part)
        out += digest.digest()
    return np.frombuffer(out, dtype=np.uint8).reshape(len(rows["edges"]), DIGEST_BYTES)


def are_finite(rows: Rows) -> Bool[np.ndarray, " networks"]:
    """Which networks hold finite numbers alone."""
    finite = np.ones(len(rows["edges"]), dtype=bool)
    for array in ("edges", "nodes", "extras"):
        with np.errstate(over="ignore", invalid="ignore"):
            suspects = np.flatnonzero(~np.isfinite(rows[array].sum(axis=1)))
        # A sum of finite numbers may overflow, so only the rows that it points at are looked at closely.
        finite[suspects] &= np.isfinite(rows[array][suspects]).all(axis=1)
    return finite


def as_torch(architecture: Architecture, tensors: Tensors) -> "dict[str, torch.Tensor]":
    """One network's tensors as a state_dict of fresh ones in the checkpoint's dtypes, in slot order.

    Tied entries share their storage.
    """
    import torch

    state: dict[str, torch.Tensor] = {}
    for slot in architecture.slots:
        if slot.alias_of is not None and slot.alias_of in state:
            state[slot.key] = state[slot.alias_of]
        else:
            tensor = torch.from_numpy(np.array(tensors[slot.key], order="C"))
            state[slot.key] = tensor.view(getattr(torch, slot.dtype))
    return state


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


def _stored(slot: ParameterSlot, tensor: np.ndarray) -> np.ndarray:
    if slot.order is not None:
        tensor = tensor.transpose(0, *(axis + 1 for axis in slot.order))
    flat = tensor.reshape(len(tensor), -1)
    if slot.array == "exact":
        return np.ascontiguousarray(flat).view(np.uint8).reshape(len(tensor), -1)
    return widen(flat, slot.dtype)


def _restored(slot: ParameterSlot, stored: np.ndarray) -> np.ndarray:
    if slot.array == "exact":
        stored = np.ascontiguousarray(stored).view(raw_dtype(slot.dtype))
    else:
        stored = narrow(stored, slot.dtype)
    order = slot.order or tuple(range(len(slot.shape)))
    ordered = stored.reshape(len(stored), *(slot.shape[axis] for axis in order))
    back = np.argsort(order).tolist()
    return ordered.transpose(0, *(axis + 1 for axis in back))


def _check_tensors(architecture: Architecture, tensors: Tensors) -> None:
    wanted = {slot.key: slot for slot in architecture.slots}
    if wanted.keys() != tensors.keys():
        odd = sorted(wanted.keys() ^ tensors.keys())[0]
        state = "is missing" if odd in wanted else "isn't in the architecture"
        raise FormatError(f"the tensor {printable(odd)!r} {state}")
    counts = {len(tensor) for tensor in tensors.values()}
    if len(counts) != 1:
        raise FormatError(f"the tensors are of {sorted(counts)} networks: every one must have the same leading axis")
    for key, slot in wanted.items():
        if tensors[key].shape[1:] != slot.shape or tensors[key].dtype != raw_dtype(slot.dtype):
            raise FormatError(
                f"{printable(key)!r} is {tensors[key].dtype} {tensors[key].shape[1:]}, "
                f"the architecture says {slot.dtype} {slot.shape}"
            )
        # What is stored once must be equal, down to the bits of its NaNs.
        if slot.alias_of is not None and tensors[key].tobytes() != tensors[slot.alias_of].tobytes():
            raise FormatError(f"{printable(key)!r} should be tied to {printable(slot.alias_of)!r}, but differs from it")


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
