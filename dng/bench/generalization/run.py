"""Running generalisation prediction: every contender under every seed, each kept as soon as it is done."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dng.bench.certainty import too_few
from dng.bench.comparison.training import check_revision
from dng.bench.generalization.contenders import CONTENDERS, PUBLISHED, Contest
from dng.bench.generalization.material import Material, read_material
from dng.bench.generalization.scores import Scores, bootstrap_tau, last_of_runs, score
from dng.bench.generalization.settings import GeneralizationSettings, generalization_settings
from dng.bench.table import updates_of
from dng.data import Zoo
from dng.methods.build import build_method
from dng.runs.on_zoo import HERE, Place, batches_per_epoch
from dng.training.claim import claim, read_json
from zootool.errors import UsageError, did_you_mean
from zootool.files import write_json_atomic
from zootool.progress import Reporter, silent

MAX_WIDTH = 1.0
"""Half of all that a tau can be: an interval as wide as that tells next to nothing."""

RESULTS = "results.json"
SETTINGS = "settings.json"


@dataclass(frozen=True)
class ModelResult:
    """One contender over the seeds: scores on each test run's last checkpoint, and on all checkpoints.

    `interval` is a 95 % bootstrap interval over test runs of the mean tau on last checkpoints, None where most draws
    rank nothing.
    """

    model: str
    last: tuple[Scores, ...]
    all_checkpoints: tuple[Scores, ...]
    interval: tuple[float, float] | None
    validation_tau: tuple[float, ...]
    num_parameters: int
    picked: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class GeneralizationResult:
    """What the benchmark measured on one zoo."""

    zoo_id: str
    zoo_name: str
    preset: str
    target: str
    seeds: int
    runs: dict[str, int]
    networks: dict[str, int]
    notes: tuple[str, ...]
    models: tuple[ModelResult, ...]
    updates: str = ""
    skipped: bool = False

    def model(self, name: str) -> ModelResult:
        """The result of the contender `name`."""
        return next(found for found in self.models if found.model == name)

    def objection(self, name: str) -> str:
        """Why the tau of the contender `name` on last checkpoints is no number to quote, or nothing."""
        found = self.model(name)
        undefined = [scores.undefined for scores in found.last if scores.undefined]
        if undefined:
            where = f" under {len(undefined)} of {self.seeds} seeds" if len(undefined) < self.seeds else ""
            return undefined[0] + where
        is_wide = found.interval is None or found.interval[1] - found.interval[0] > MAX_WIDTH
        return too_few(self.runs["test"], "test runs", is_wide)


def run_generalization(
    zoo: Zoo,
    preset: str,
    models: Sequence[str],
    num_seeds: int,
    out: Path,
    *,
    target: str = "test_accuracy",
    num_parameters: int | None = None,
    place: Place = HERE,
    report: Reporter = silent,
) -> GeneralizationResult:
    """Run the benchmark on `zoo` and leave every answer and results.json in `out`; finished parts are kept.

    Raises UsageError for unknown models or another benchmark in `out`, and what `read_material` raises.
    """
    for name in models:
        if name not in CONTENDERS:
            raise UsageError(f"there is no model {name!r}", hint=did_you_mean(name, CONTENDERS))
    material = read_material(zoo, target)
    settings = generalization_settings(preset, zoo.architectures.values(), batches_per_epoch(zoo), num_parameters)
    _check_published(models, material, settings)
    plain = settings.plain()
    claim(out / SETTINGS, {"zoo_id": zoo.id, "preset": preset, "target": target, "settings": plain})
    done_before = True
    for name in models:
        for seed in range(num_seeds):
            path = _answer_path(out, name, seed)
            check_revision(name, out, seed)
            if not path.exists():
                done_before = False
                contest = Contest(material, settings, seed, path.parent, place, report)
                _answer(name, contest, path)
    result = GeneralizationResult(
        zoo_id=zoo.id,
        zoo_name=zoo.info.name,
        preset=preset,
        target=target,
        seeds=num_seeds,
        runs={name: material.num_runs(name) for name in ("train", "validation", "test")},
        networks={name: len(material.split(name)) for name in ("train", "validation", "test")},
        notes=material.notes,
        models=tuple(_result(name, read_answers(out, name, num_seeds), material) for name in models),
        updates=updates_of(settings.dng.training),
        skipped=done_before,
    )
    write_json_atomic(out / RESULTS, asdict(result))
    return result


def _check_published(models: Sequence[str], material: Material, settings: GeneralizationSettings) -> None:
    """Raise UsageError for a method that can't take the zoo or the budget before any is trained."""
    for name in models:
        if name in PUBLISHED:
            with torch.device("meta"):
                build_method(name, material.zoo.architectures.values(), 1, settings.num_parameters)


def read_answers(out: Path, model: str, num_seeds: int) -> list[dict[str, Any]]:
    """What a contender answered under every seed."""
    return [read_json(_answer_path(out, model, seed)) for seed in range(num_seeds)]


def _answer_path(out: Path, model: str, seed: int) -> Path:
    return out / f"seed-{seed}" / f"{model}.json"


def predictions_of(answers: Sequence[dict[str, Any]], material: Material) -> np.ndarray:
    """(seeds, test networks) predicted accuracies, in the order of the test split."""
    rows = material.zoo.rows[material.split("test")].tolist()
    return np.array([[answer["by_row"][str(row)] for row in rows] for answer in answers], np.float64)


def _answer(name: str, contest: Contest, path: Path) -> None:
    started = time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    answer = CONTENDERS[name](contest)
    plain = asdict(answer) | {"seconds": time.perf_counter() - started}
    write_json_atomic(path, plain | {"by_row": {str(row): value for row, value in answer.by_row.items()}})


def _result(name: str, answers: Sequence[dict[str, Any]], material: Material) -> ModelResult:
    test = material.split("test")
    measured = material.accuracies[test].astype(np.float64)
    predicted = predictions_of(answers, material)
    last = last_of_runs(material.runs[test], material.steps[test])
    return ModelResult(
        model=name,
        last=tuple(score(row[last], measured[last]) for row in predicted),
        all_checkpoints=tuple(score(row, measured) for row in predicted),
        interval=bootstrap_tau(predicted[:, last], measured[last]),
        validation_tau=tuple(answer["validation_tau"] for answer in answers),
        num_parameters=answers[0]["num_parameters"],
        picked=tuple(answer["picked"] for answer in answers),
        seconds=sum(answer["seconds"] for answer in answers),
    )
