"""Tensors of many networks of one architecture <-> rows of the store's flat arrays, bit for bit."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, UInt8

from zootool.architecture import ARRAYS, Architecture, ArrayName, ParameterSlot
from zootool.errors import FormatError, printable
from zootool.store.dtypes import narrow, raw_dtype, widen

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, np.ndarray]
"""state_dict key -> array of (networks, *shape) in the dtype that `raw_dtype` gives."""

Rows = Mapping[ArrayName, np.ndarray]
"""What some networks take of each array: (networks, array_length) float32, uint8 in `exact`."""

DIGEST_BYTES = 32


def pack(architecture: Architecture, tensors: Tensors) -> Rows:
    """Lay the networks' tensors out as the architecture's slots say. Raises FormatError for a wrong key or shape."""
    _check_tensors(architecture, tensors)
    count = len(next(iter(tensors.values())))
    return {array: _pack_array(architecture, array, tensors, count) for array in ARRAYS}


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


def _pack_array(architecture: Architecture, array: ArrayName, tensors: Tensors, count: int) -> np.ndarray:
    dtype = np.uint8 if array == "exact" else np.float32
    out = np.empty((count, architecture.array_length(array)), dtype=dtype)
    for slot in architecture.stored_slots(array):
        out[:, slot.start : slot.start + slot.length] = _stored(slot, tensors[slot.key])
    return out


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
