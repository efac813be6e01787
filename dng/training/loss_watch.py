"""Stopping a training whose loss left the finite numbers, without making a GPU wait at every step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dng.models.heads import non_finite_parameter
from zootool.errors import NumericalError

_LOWER_RATE = "lower the learning rate, or look at these networks with `zoo verify`"


@dataclass(frozen=True)
class _Seen:
    step: int
    batch: Any
    loss: Tensor
    copied: torch.cuda.Event | None


class LossWatch:
    """Looks at the loss of every step: at once on a CPU, one step later on a GPU, while that computes the next one."""

    def __init__(self, model: nn.Module, describe: Callable[[Any], str]) -> None:
        self._model = model
        self._describe = describe
        self._waiting: _Seen | None = None

    def see(self, step: int, batch: Any, loss: Tensor) -> None:
        """Take note of the mean loss of `batch`. Raises NumericalError naming step and batch."""
        if loss.device.type != "cuda":
            self._check(_Seen(step, batch, loss, None))
            return
        on_cpu = loss.detach().to("cpu", non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self.settle()
        self._waiting = _Seen(step, batch, on_cpu, copied)

    def settle(self) -> None:
        """Look at what hasn't been looked at yet. Raises NumericalError."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._check(waiting)

    def _check(self, seen: _Seen) -> None:
        if seen.copied is not None:
            seen.copied.synchronize()
        if torch.isfinite(seen.loss):
            return
        # A GPU has taken its step by now, and has spread the damage over all parameters.
        name = non_finite_parameter(self._model) if seen.copied is None else None
        raise NumericalError(
            f"the loss is {seen.loss.item()} at step {seen.step}, on {self._describe(seen.batch)}"
            + (f"; the parameter {name} is not finite either" if name else ""),
            hint=_LOWER_RATE,
        )


def checked_score(score: float, step: int) -> float:
    """A validation's score. Raises NumericalError where it isn't finite: nothing could be compared with it."""
    if not math.isfinite(score):
        raise NumericalError(f"the validation score is {score} at step {step}", hint=_LOWER_RATE)
    return score
