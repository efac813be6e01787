"""The curves of a training: metrics.jsonl, a line per validation, and TensorBoard's files where that is installed."""

import json
from pathlib import Path
from typing import Any

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
