"""What is seen of a training while it runs: losses and scores that must be finite, and curves in metrics.jsonl."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dng.models.heads import non_finite_parameter
from zootool.errors import NumericalError
from zootool.files import write_bytes_atomic

_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends to a run's curves, from behind `step` on: what a stopped run wrote behind its last save is dropped."""

    def __init__(self, run_dir: Path, step: int) -> None:
        self._path = run_dir / _NAME
        kept = [line for line in read_metrics(run_dir) if line["step"] <= step] if self._path.exists() else []
        write_bytes_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode("utf-8"))
        self._board = _tensorboard(run_dir / "tensorboard", step)

    def write(self, line: dict[str, Any]) -> None:
        """Add a line; its key `step` says where."""
        with self._path.open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(line) + "\n")
        if self._board is not None:
            curves = {name: value for name, value in line.items() if name != "step"}
            for name, value in curves.items():
                self._board.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Hand over what TensorBoard still holds back."""
        if self._board is not None:
            self._board.close()


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    # Behind the last line break is nothing, or what a killed run had no time to finish.
    *lines, _ = (run_dir / _NAME).read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


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
