"""One plain training loop for every model: seed, resume, mixed precision, best on validation.

What a run leaves in its folder:

    train.json           the settings
    last.safetensors     weights, their average and the optimiser's state, with step, best and data position
    best.safetensors     the weights that validation picked, with their step and score
    metrics.jsonl        a line per validation: step, loss, score, learning rate
    done.json            written last; a run with it is finished
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dng.training.checkpoint import load_tensors, put_weights, save_tensors
from dng.training.distributed import ALONE, Ranks, Shard
from dng.training.metrics import LossWatch, MetricsLog, checked_score, read_metrics
from dng.training.optimizer import WeightAverage, build_optimizer, load_optimizer, optimizer_tensors, set_learning_rate
from dng.training.same_settings import claim
from dng.training.seed import seeded
from zootool.errors import UsageError
from zootool.files import write_json_atomic
from zootool.progress import Reporter, silent

__all__ = ["Batches", "Task", "TrainConfig", "TrainResult", "finished", "read_metrics", "train"]

_SETTINGS, _LAST, _BEST, _DONE = "train.json", "last.safetensors", "best.safetensors", "done.json"


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one training (method, section 5).

    The learning rate warms up by min(1, warmup_start + warmup_per_step * step), and decays where `decay` says so.
    `higher_is_better` tells how validation scores compare. `clip` bounds the gradient's norm. With `ema`, a decay,
    the moving average of the weights is what is validated and picked.
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
    ema: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lr <= 0:
            raise UsageError(f"lr must be positive, got {self.lr}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise UsageError(f"ema must be in [0, 1), got {self.ema}")

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
    """An endless stream of batches that can be continued from a small state; of several ranks each gets `Shard`s."""

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
    task: Task,
    batches: Batches,
    config: TrainConfig,
    run_dir: Path,
    stage: str = "training",
    report: Reporter = silent,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Train `task.model` and leave it holding the weights that validation picked.

    A run that was stopped goes on from its last save and gives the same weights as one that wasn't; a finished run
    is loaded. Of several ranks the first validates and writes. Raises UsageError where `run_dir` holds a run with
    other settings, FormatError where it holds weights of another model, NumericalError on a loss or score that isn't
    finite.
    """
    claim(run_dir / _SETTINGS, asdict(config), ranks)
    done = finished(run_dir)
    if done is None:
        _Loop(task, batches, config, run_dir, ranks).run(stage, report)
        ranks.wait()
    weights, note = load_tensors(run_dir / _BEST)
    put_weights(task.model, weights, run_dir / _BEST)
    return done or TrainResult(note["step"], note["score"], run_dir / _BEST, skipped=False)


def finished(run_dir: Path) -> TrainResult | None:
    """What validation picked in the finished run in `run_dir`; None where there is none."""
    if not (run_dir / _DONE).exists():
        return None
    _, note = load_tensors(run_dir / _BEST)
    return TrainResult(note["step"], note["score"], run_dir / _BEST, skipped=True)


class _Loop:
    """The state of a training between two steps."""

    def __init__(self, task: Task, batches: Batches, config: TrainConfig, run_dir: Path, ranks: Ranks) -> None:
        self.task, self.batches, self.config, self.run_dir, self.ranks = task, batches, config, run_dir, ranks
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.optimizer = build_optimizer(
            config.optimizer, self.parameters, config.lr, config.weight_decay, config.amsgrad
        )
        self.average = None if config.ema is None else WeightAverage(task.model, config.ema)
        self.watch = LossWatch(task.model, task.describe)
        self.step = 0
        self.best: float | None = None
        self.losses: list[Tensor] = []

    def run(self, stage: str, report: Reporter) -> None:
        self._resume()
        self.ranks.check_same("step", self.step, self.device)
        metrics = MetricsLog(self.run_dir, self.step) if self.ranks.is_first else None
        stream = iter(self.batches)
        while self.step < self.config.steps:
            self._train_step(next(stream))
            if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                self.watch.settle()
                if metrics is not None:
                    self._validate(metrics)
            report(stage, self.step, self.config.steps)
        if metrics is not None:
            metrics.close()
            write_json_atomic(self.run_dir / _DONE, {"steps": self.step, "best_score": self.best})

    def _train_step(self, given: Any) -> None:
        shard = given if isinstance(given, Shard) else Shard(given, 1.0)
        set_learning_rate(self.optimizer, self.config.lr * self.config.lr_factor(self.step))
        self.task.model.train()
        # Dropout draws from the step's own seed, so that a resumed run draws what an uninterrupted one does.
        with seeded(self.config.seed, "step", self.step, *self.ranks.seed_keys):
            loss = self._backward(shard)
        loss = self.ranks.average(self.parameters, loss, shard.share)
        self.watch.see(self.step, shard.batch, loss)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.step)
        if self.ranks.is_first:
            self.losses.append(loss)
        self.step += 1

    def _backward(self, shard: Shard) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        if shard.share == 0:
            return torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            loss = self.task.loss(shard.batch)
        loss.backward()
        return loss.detach()

    def _validate(self, metrics: MetricsLog) -> None:
        self.task.model.eval()
        with self._weights_to_pick():
            with torch.no_grad():
                score = checked_score(float(self.task.validate()), self.step)
            if self.config.is_better(score, self.best):
                self.best = score
                note = {"step": self.step, "score": score}
                save_tensors(self.run_dir / _BEST, self.task.model.state_dict(), note)
        loss = torch.stack(self.losses).mean().item()
        self.losses.clear()
        lr = self.optimizer.param_groups[0]["lr"]
        # The line comes before the save: a resumed run drops the lines that its save doesn't know yet.
        metrics.write({"step": self.step, "loss": loss, "score": score, "lr": lr})
        self._save()

    def _weights_to_pick(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.in_place()

    def _save(self) -> None:
        tensors = {f"model.{key}": value for key, value in self.task.model.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer)
        tensors |= {} if self.average is None else self.average.tensors()
        note = {"step": self.step, "best": self.best, "batches": self.batches.state_dict()}
        save_tensors(self.run_dir / _LAST, tensors, note)

    def _resume(self) -> None:
        path = self.run_dir / _LAST
        if not path.exists():
            return
        tensors, note = load_tensors(path)
        weights = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
        put_weights(self.task.model, weights, path)
        load_optimizer(self.optimizer, tensors)
        if self.average is not None:
            self.average.load(tensors)
        self.batches.load_state_dict(note["batches"])
        self.step, self.best = note["step"], note["best"]
