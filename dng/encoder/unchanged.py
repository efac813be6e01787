"""Keeping what was computed from parameters alone, for as long as they stay the same."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class WhileUnchanged:
    """One value and the tensors that it was computed from.

    Without gradients, products of weights are the same for every batch and need not be made for each one. Where a
    gradient is to flow, and for tensors whose changes torch doesn't count, the value is computed each time.
    """

    def __init__(self) -> None:
        self._tensors: tuple[Tensor, ...] = ()
        self._state: tuple[object, ...] = ()
        self._value: Any = None

    def get(self, tensors: tuple[Tensor, ...], compute: Callable[[], Tensor], *settings: object) -> Tensor:
        """`compute()`, or its result from before if neither `tensors` nor `settings` have changed since."""
        has_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        if has_gradient or any(tensor.is_inference() for tensor in tensors):
            return compute()
        state = (*settings, *((tensor._version, tensor.data_ptr(), tensor.dtype) for tensor in tensors))
        same = len(tensors) == len(self._tensors) and all(a is b for a, b in zip(tensors, self._tensors, strict=True))
        if not same or state != self._state:
            # Kept for later training too, which can't use what was made in inference mode.
            with torch.inference_mode(False), torch.no_grad():
                self._value = compute()
            # The tensors are held too: an address can't come to mean another one meanwhile.
            self._tensors, self._state = tensors, state
        return self._value

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles of a model start without.
        return WhileUnchanged, ()
