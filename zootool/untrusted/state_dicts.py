"""The state_dict inside a checkpoint: out of its wrappers, without its prefixes, its values checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from zootool.errors import FormatError, NumericalError, printable
from zootool.untrusted.find_weights import find_weights
from zootool.untrusted.lazy_tensor import LazyTensor

PREFIXES = (
    "module.", "_orig_mod.", "model.", "_module.", "_forward_module.", "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)  # fmt: skip
"""What torch and libraries around it put before every key of a network: no name of the network's own."""

# The bits that are looked at, and what they are where a value is NaN or infinite.
_NON_FINITE_BITS = {
    "bfloat16": (0x7F80, 0x7F80), "float8_e5m2": (0x7C, 0x7C), "float8_e4m3fn": (0x7F, 0x7F),
    "float8_e4m3fnuz": (0xFF, 0x80), "float8_e5m2fnuz": (0xFF, 0x80), "float8_e8m0fnu": (0xFF, 0xFF),
}  # fmt: skip


@dataclass(frozen=True)
class StateDict:
    """Tensors by their keys, in the file's order; what else stood among them; and what was taken off to get there.

    `stripped` holds wrappers such as "state_dict" and prefixes such as "module.", outermost first; `place` are the
    wrappers joined by dots, and `passed_over` the places of other state_dicts in the file.
    """

    tensors: dict[str, LazyTensor]
    others: dict[str, Any]
    stripped: tuple[str, ...]
    place: str = ""
    passed_over: tuple[str, ...] = ()

    @property
    def choice(self) -> str | None:
        """A sentence on which state_dict of several this is, None where there was one."""
        if not self.passed_over:
            return None
        others = ", ".join(self.passed_over)
        place = printable(self.place, 80) or "the file itself"
        return f"the weights are those of {place}; passed over: {others} (--weights KEY takes another)"

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


def find_state_dict(value: Any, *, weights: str | None = None, shown: str = "the checkpoint") -> StateDict:
    """The state_dict in a loaded value, or in what the key or dotted path `weights` leads to.

    `shown` names the file in errors. Raises FormatError where there is none, and where several might be meant.
    """
    try:
        found = find_weights(value, weights)
    except FormatError as error:
        raise FormatError(f"{shown} {error.message}", hint=error.hint) from None
    stripped = list(found.path)
    keys = [key for key, item in found.value.items() if isinstance(item, LazyTensor)]
    if any(type(key) is not str for key in keys):
        raise FormatError(f"{shown} holds tensors under keys that are no text, so no state_dict")
    prefix = _common_prefixes(keys, stripped)
    others = {
        str(key).removeprefix(prefix): item for key, item in found.value.items() if not isinstance(item, LazyTensor)
    }
    tensors = {key[len(prefix) :]: found.value[key] for key in keys}
    return StateDict(tensors, others, tuple(stripped), ".".join(found.path), found.passed_over)


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
