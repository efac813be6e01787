"""One plain training loop for every model: seed, resume, mixed precision, best on validation.

What a run leaves in its folder:

    train.json           the settings
    last.safetensors     weights and optimiser state of the latest save, with step, best and data position as metadata
    best.safetensors     the weights that validation picked, with their step and score as metadata
    metrics.jsonl        a line per validation: step, loss, score, learning rate
    done.json            written last; a run with it is finished
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dng.checkpoint import load_tensors, save_tensors
from dng.heads import non_finite_parameter
from dng.seed import seeded
from zootool.errors import NumericalError, UsageError
from zootool.files import write_bytes_atomic, write_json_atomic
from zootool.progress import Reporter, silent


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one training (method, section 5).

    The learning rate warms up by min(1, warmup_start + warmup_per_step * step), and decays where `decay` says so.
    `higher_is_better` tells how validation scores compare. `clip` bounds the gradient's norm.
    """

    steps: int
    batch_size: int = 64
    lr: float = 1e-4
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    amsgrad: bool = False
    warmup_start: float = 1.0
    warmup_per_step: float = 0.0
    decay: Literal["none", "cosine"] = "none"
    validate_every: int = 2000
    clip: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    higher_is_better: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lr <= 0:
            raise UsageError(f"lr must be positive, got {self.lr}")

    def lr_factor(self, step: int) -> float:
        """What the learning rate is multiplied by at `step`, counted from 0."""
        warmed = min(1.0, self.warmup_start + self.warmup_per_step * step)
        return warmed if self.decay == "none" else warmed * (1 + math.cos(math.pi * step / self.steps)) / 2

    def is_better(self, score: float, best: float | None) -> bool:
        """Whether `score` beats `best`; anything beats None."""
        if best is None:
            return True
        return score > best if self.higher_is_better else score < best


@runtime_checkable
class Batches(Protocol):
    """An endless stream of batches that can be continued from a small state."""

    def __iter__(self) -> Iterator[Any]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Task(Protocol):
    """What is trained: a model, the loss of a batch, and a score on the validation split."""

    @property
    def model(self) -> nn.Module: ...

    def loss(self, batch: Any) -> Tensor: ...

    def validate(self) -> float: ...

    def describe(self, batch: Any) -> str: ...


@dataclass(frozen=True)
class TrainResult:
    """The step that validation picked and its score, and whether this call trained at all."""

    best_step: int
    best_score: float
    best_path: Path
    skipped: bool


def train(
    task: Task, batches: Batches, config: TrainConfig, run_dir: Path, stage: str = "training", report: Reporter = silent
) -> TrainResult:
    """Train `task.model` and leave it holding the weights that validation picked.

    A run that was stopped goes on from its last save and gives the same weights as one that wasn't; a finished run
    is loaded. Raises UsageError where `run_dir` holds a run with other settings, NumericalError on a loss that isn't
    finite.
    """
    _claim(run_dir, config)
    if not (run_dir / "done.json").exists():
        _Loop(task, batches, config, run_dir).run(stage, report)
        skipped = False
    else:
        skipped = True
    weights, note = load_tensors(run_dir / "best.safetensors")
    task.model.load_state_dict(weights)
    return TrainResult(note["step"], note["score"], run_dir / "best.safetensors", skipped)


class _Loop:
    """The state of a training between two steps."""

    def __init__(self, task: Task, batches: Batches, config: TrainConfig, run_dir: Path) -> None:
        self.task, self.batches, self.config, self.run_dir = task, batches, config, run_dir
        self.device = next(task.model.parameters()).device
        self.optimizer = _optimizer(task.model, config)
        self.step = 0
        self.best: float | None = None
        self.losses: list[Tensor] = []

    def run(self, stage: str, report: Reporter) -> None:
        self._resume()
        stream = iter(self.batches)
        while self.step < self.config.steps:
            self._train_step(next(stream))
            if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                self._validate()
            report(stage, self.step, self.config.steps)
        write_json_atomic(self.run_dir / "done.json", {"steps": self.step, "best_score": self.best})

    def _train_step(self, batch: Any) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * self.config.lr_factor(self.step)
        self.task.model.train()
        use_bfloat16 = self.config.precision == "bfloat16"
        # Dropout draws from the step's own seed, so that a resumed run draws what an uninterrupted one does.
        with seeded(self.config.seed, "step", self.step):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=use_bfloat16):
                loss = self.task.loss(batch)
            if not torch.isfinite(loss):
                raise NumericalError(
                    f"the loss is {loss.item()} at step {self.step}, on {self.task.describe(batch)}"
                    + _name_bad_parameter(self.task.model),
                    hint="lower the learning rate, or look at these networks with `zoo verify`",
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.task.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.losses.append(loss.detach())
        self.step += 1

    def _validate(self) -> None:
        self.task.model.eval()
        with torch.no_grad():
            score = float(self.task.validate())
        loss = torch.stack(self.losses).mean().item()
        self.losses.clear()
        if self.config.is_better(score, self.best):
            self.best = score
            note = {"step": self.step, "score": score}
            save_tensors(self.run_dir / "best.safetensors", self.task.model.state_dict(), note)
        line = {"step": self.step, "loss": loss, "score": score, "lr": self.optimizer.param_groups[0]["lr"]}
        # The line comes before the save: a resumed run drops the lines that its save doesn't know yet.
        with (self.run_dir / "metrics.jsonl").open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(line) + "\n")
        self._save()

    def _save(self) -> None:
        tensors = {f"model.{key}": value for key, value in self.task.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        note = {"step": self.step, "best": self.best, "batches": self.batches.state_dict()}
        save_tensors(self.run_dir / "last.safetensors", tensors, note)

    def _resume(self) -> None:
        path = self.run_dir / "last.safetensors"
        if not path.exists():
            (self.run_dir / "metrics.jsonl").unlink(missing_ok=True)
            return
        tensors, note = load_tensors(path)
        self.task.model.load_state_dict(_under("model.", tensors))
        state = self.optimizer.state_dict()
        for key, value in _under("optimizer.", tensors).items():
            index, name = key.split(".", 1)
            state["state"].setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(state)
        self.batches.load_state_dict(note["batches"])
        self.step, self.best = note["step"], note["best"]
        _drop_lines_behind(self.run_dir / "metrics.jsonl", self.step)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _claim(run_dir: Path, config: TrainConfig) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "train.json"
    wanted = asdict(config)
    if not path.exists():
        write_json_atomic(path, wanted)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    for key in wanted:
        if found.get(key) != wanted[key]:
            raise UsageError(
                f"{run_dir} holds a run with {key}={found.get(key)}, this one has {key}={wanted[key]}",
                hint="choose another folder, or remove that one",
            )


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    trained = [p for p in model.parameters() if p.requires_grad]
    return kinds[config.optimizer](trained, lr=config.lr, weight_decay=config.weight_decay, amsgrad=config.amsgrad)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _drop_lines_behind(path: Path, step: int) -> None:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    write_bytes_atomic(path, "".join(line + "\n" for line in kept).encode("utf-8"))


def _name_bad_parameter(model: nn.Module) -> str:
    name = non_finite_parameter(model)
    return f"; the parameter {name} is not finite either" if name else ""
