"""The state_dict inside a checkpoint: out of its wrappers, without its prefixes, its values checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from zootool.collect.lazy_tensor import LazyTensor
from zootool.errors import FormatError, NumericalError, printable

WRAPPERS = ("state_dict", "model", "model_state_dict", "params")
PREFIXES = ("module.", "_orig_mod.", "model.")

# The bits that are looked at, and what they are where a value is NaN or infinite.
_NON_FINITE_BITS = {
    "bfloat16": (0x7F80, 0x7F80), "float8_e5m2": (0x7C, 0x7C), "float8_e4m3fn": (0x7F, 0x7F),
    "float8_e4m3fnuz": (0xFF, 0x80), "float8_e5m2fnuz": (0xFF, 0x80), "float8_e8m0fnu": (0xFF, 0xFF),
}  # fmt: skip
_MAX_UNWRAPPED = 4


@dataclass(frozen=True)
class StateDict:
    """Tensors by their keys, in the file's order; what else stood among them; and what was taken off to get there.

    `stripped` holds wrappers such as "state_dict" and prefixes such as "module.", outermost first.
    """

    tensors: dict[str, LazyTensor]
    others: dict[str, Any]
    stripped: tuple[str, ...]

    @property
    def aliases(self) -> dict[str, str]:
        """Keys of tensors that are the same elements as an earlier one -> the key of that one."""
        first: dict[tuple[object, ...], str] = {}
        pairs = ((key, first.setdefault(tensor.identity, key)) for key, tensor in self.tensors.items())
        return {key: earlier for key, earlier in pairs if key != earlier}


@dataclass(frozen=True)
class CheckedTensors:
    """Values by key, and the keys of those that hold NaN or infinities."""

    arrays: dict[str, np.ndarray]
    non_finite: tuple[str, ...]


def find_state_dict(value: Any, *, wrapper: str | None = None, shown: str = "the checkpoint") -> StateDict:
    """The state_dict in a loaded value: itself, or what a known wrapper (or the one named) holds.

    `shown` names the file in errors.

    Raises FormatError where there is none, or where two wrappers hold one each and none is named.
    """
    stripped: list[str] = []
    try:
        while not _has_tensors(value):
            value = _unwrap(value, wrapper if not stripped else None, stripped)
    except FormatError as error:
        raise FormatError(f"{shown} {error.message}", hint=error.hint) from None
    keys = [key for key, item in value.items() if isinstance(item, LazyTensor)]
    prefix = _common_prefixes(keys, stripped)
    others = {str(key).removeprefix(prefix): item for key, item in value.items() if not isinstance(item, LazyTensor)}
    return StateDict({key[len(prefix) :]: value[key] for key in keys}, others, tuple(stripped))


def read_tensors(tensors: Mapping[str, LazyTensor], *, allow_non_finite: bool = False) -> CheckedTensors:
    """The values of every tensor, each finite unless `allow_non_finite`, which notes them instead.

    Raises NumericalError for NaN and infinities, IntegrityError for damaged bytes.
    """
    arrays = {key: tensor.read() for key, tensor in tensors.items()}
    non_finite = tuple(key for key, array in arrays.items() if not _is_finite(array, tensors[key].dtype))
    if non_finite and not allow_non_finite:
        raise NumericalError(
            f"{tensors[non_finite[0]].storage.source.shown} holds NaN or infinities in "
            f"{printable(non_finite[0], 80)} and {len(non_finite) - 1} other tensors",
            hint="this network diverged: leave it out, or allow such values",
        )
    return CheckedTensors(arrays, non_finite)


def _has_tensors(value: Any) -> bool:
    if not isinstance(value, dict):
        raise FormatError(f"holds a {type(value).__name__} where a state_dict is wanted")
    keys = [key for key, item in value.items() if isinstance(item, LazyTensor)]
    if any(type(key) is not str for key in keys):
        raise FormatError("holds tensors under keys that are no text, so no state_dict")
    return bool(keys)


def _unwrap(value: dict[Any, Any], wrapper: str | None, stripped: list[str]) -> Any:
    candidates = [wrapper] if wrapper is not None else WRAPPERS
    found = [key for key in candidates if isinstance(value.get(key), dict) and _holds_tensors(value[key])]
    if len(found) != 1 or len(stripped) == _MAX_UNWRAPPED:
        what = f"{len(found)} state_dicts ({', '.join(found)})" if found else "no state_dict"
        keys = printable(", ".join(str(key) for key in list(value)[:20]), 200)
        raise FormatError(f"holds {what} under the keys {keys}", hint="name the one that holds the weights")
    stripped.append(found[0])
    return value[found[0]]


def _holds_tensors(value: dict[Any, Any], depth: int = 0) -> bool:
    if any(isinstance(item, LazyTensor) for item in value.values()):
        return True
    inner = [item for key, item in value.items() if key in WRAPPERS and isinstance(item, dict)]
    return depth < _MAX_UNWRAPPED and any(_holds_tensors(item, depth + 1) for item in inner)


def _common_prefixes(keys: list[str], stripped: list[str]) -> str:
    whole = ""
    while True:
        prefix = next((p for p in PREFIXES if all(key.startswith(whole + p) for key in keys)), None)
        if prefix is None or any(key == whole + prefix for key in keys):
            return whole
        whole += prefix
        stripped.append(prefix)


def _is_finite(array: np.ndarray, dtype: str) -> bool:
    if dtype in _NON_FINITE_BITS:
        mask, bad = (array.dtype.type(bits) for bits in _NON_FINITE_BITS[dtype])
        return not bool(np.any((array & mask) == bad))
    if array.dtype.kind == "c":
        return bool(np.isfinite(array).all())
    if array.dtype.kind != "f":
        return True
    # A sum of squares is finite only where all values are, and takes a third of the time of looking at each.
    return (dtype != "float16" and _has_finite_squares(array.reshape(-1))) or bool(np.isfinite(array).all())


def _has_finite_squares(flat: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        return isfinite(float(flat.dot(flat)))
