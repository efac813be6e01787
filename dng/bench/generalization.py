"""Predicting classifiers' accuracies from their weights: models against each other, each under every seed.

The models are the DNG-Encoder, trees on weight statistics, an MLP on flat weights, and published methods. Each gets the
same networks, learns from the split train, is picked on validation by Kendall's tau over its checkpoints, and reads the
test split once. A run keeps seed-S/MODEL.json, and beside it the training of what learns by updates.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import torch

from dng.bench.certainty import bootstrap_tau, score
from dng.bench.comparison import SPLITS, EqualBudget, as_of_now, train_method, updates_of
from dng.bench.generalization_data import TARGET, generalization_settings, read_accuracies
from dng.bench.generalization_page import (
    NAMES,
    GeneralizationResult,
    ModelResult,
    generalization_page,
    results_table,
)
from dng.bench.harness import SETTINGS, Benchmark, Case, called
from dng.bench.page import Page, Table
from dng.methods.building import build_method
from dng.methods.plain import FlatMLP, StatisticsTrees, known_columns, stack_statistics, weight_statistics
from dng.models.heads import count_parameters
from dng.models.model import Reader
from dng.runs.load import load
from dng.runs.on_zoo import HERE, Place, batches_per_epoch, fit_reader, train_reader
from dng.runs.tasks import Target, tau_to_pick_by
from dng.training.seed import seeded
from dng.zoo_data import Zoo
from zootool.progress import Reporter


@dataclass(frozen=True)
class Answer:
    """Predicted accuracies of the test networks by row of the store, how validation scored, and the model's size."""

    by_row: dict[str, float]
    validation_tau: float
    num_parameters: int
    picked: str
    seconds: float = 0.0


@dataclass(eq=False)
class Generalization(Benchmark[GeneralizationResult]):
    """Every model under every seed on one zoo.

    Raises UsageError for unknown models and for published methods that can't take the zoo or the budget, and what
    `read_accuracies` raises.
    """

    name: ClassVar[str] = "generalization"

    zoo: Zoo
    preset: str
    models: Sequence[str]
    num_seeds: int
    target: str = TARGET
    num_parameters: int | None = None
    place: Place = HERE

    def __post_init__(self) -> None:
        for name in self.models:
            called("model", name, NAMES)
        self.data = read_accuracies(self.zoo, self.target)
        architectures, batches = self.zoo.architectures.values(), batches_per_epoch(self.zoo)
        self.chosen = generalization_settings(self.preset, architectures, batches, self.num_parameters)
        for name in self.models:
            if name not in ("dng", "statistics", "flat-mlp"):
                with torch.device("meta"):
                    build_method(name, architectures, 1, self.chosen.num_parameters)

    def settings(self) -> dict[str, dict[str, Any]]:
        asked = {"zoo_id": self.zoo.id, "preset": self.preset, "target": self.data.target}
        return {SETTINGS: asked | {"settings": self.chosen.plain()}}

    def cases(self) -> list[Case]:
        return [
            Case(self._file(name, seed), Answer, partial(self._answer, name, seed), as_of_now(name, f"seed-{seed}"))
            for name in self.models
            for seed in range(self.num_seeds)
        ]

    def _file(self, name: str, seed: int) -> str:
        return f"seed-{seed}/{name}.json"

    def _answer(self, name: str, seed: int, out: Path, report: Reporter) -> Answer:
        started = time.perf_counter()
        contend = self._trees if name == "statistics" else partial(self._trained, name)
        answer = contend(seed, out, report)
        return replace(answer, seconds=time.perf_counter() - started)

    def result(self, answers: Mapping[str, Answer], out: Path) -> GeneralizationResult:
        return GeneralizationResult(
            zoo_id=self.zoo.id,
            zoo_name=self.zoo.info.name,
            preset=self.preset,
            target=self.data.target,
            seeds=self.num_seeds,
            runs={name: self.data.num_runs(name) for name in SPLITS},
            networks={name: len(self.data.split(name)) for name in SPLITS},
            notes=self.data.notes,
            models=tuple(self._model_result(name, answers) for name in self.models),
            updates=updates_of(self.chosen.dng.training),
        )

    def _model_result(self, name: str, answers: Mapping[str, Answer]) -> ModelResult:
        found, test = [answers[self._file(name, seed)] for seed in range(self.num_seeds)], self.data.split("test")
        measured, last = self.data.accuracies[test].astype(np.float64), self.data.last("test")
        predicted = np.stack([self._in_order(answer) for answer in found])
        return ModelResult(
            model=name,
            last=tuple(score(row[last], measured[last]) for row in predicted),
            all_checkpoints=tuple(score(row, measured) for row in predicted),
            interval=bootstrap_tau(predicted[:, last], measured[last]),
            validation_tau=tuple(answer.validation_tau for answer in found),
            num_parameters=found[0].num_parameters,
            picked=tuple(answer.picked for answer in found),
            seconds=sum(answer.seconds for answer in found),
        )

    def predictions(self, name: str, out: Path) -> np.ndarray:
        """(seeds, test networks) kept predictions of a model, in the order of the test split."""
        files = {self._file(name, seed) for seed in range(self.num_seeds)}
        return np.stack([self._in_order(case.read(out)) for case in self.cases() if case.file in files])

    def _in_order(self, answer: Answer) -> np.ndarray:
        rows = self.zoo.rows[self.data.split("test")].tolist()
        return np.array([answer.by_row[str(row)] for row in rows], np.float64)

    def tables(self, result: GeneralizationResult) -> list[Table]:
        return [results_table(result)]

    def notes(self, result: GeneralizationResult) -> Sequence[str]:
        return result.notes

    def page(self, result: GeneralizationResult, out: Path) -> Page:
        first_seed = {model: self.predictions(model, out)[0] for model in self.models}
        return generalization_page(result, self.data, first_seed)

    def machine_readable(self, result: GeneralizationResult) -> dict[str, Any]:
        return {"scores": {model.model: _means(result, model) for model in result.models}, **asdict(result)}

    def _trained(self, name: str, seed: int, out: Path, report: Reporter) -> Answer:
        """A method that learns by updates; published ones exactly as the DNG-Encoder does, the flat MLP on the CPU."""
        chosen, place, folder = self.chosen, self.place, out / f"seed-{seed}" / name
        target = Target(self.data.target, torch.from_numpy(self.data.accuracy_by_row), 1)
        config = replace(chosen.dng.training, seed=seed)
        if name == "dng":
            settings = replace(chosen.dng, training=config)
            result = train_reader(self.zoo, target, settings, folder, place, report)
            model = load(folder).to(place.device)
            assert isinstance(model, Reader), "accuracies are predicted by a reader"
        elif name == "flat-mlp":
            place, config = HERE, replace(chosen.flat_mlp, seed=seed)
            with seeded(seed, "flat MLP"):
                model = FlatMLP(self.zoo.architectures.values(), 1)
            model.predicts = target.predicts
            stage = "training the flat MLP"
            result = fit_reader(model, self.zoo, target, config, folder, place=place, report=report, stage=stage)
        else:
            budget, symmetries = EqualBudget(config, chosen.num_parameters), chosen.dng.symmetries
            trained = train_method(
                name, self.zoo, target, budget, out, symmetries=symmetries, place=place, report=report
            )
            model, result = trained.model, trained.result
        model.eval()
        by_row: dict[str, float] = {}
        with torch.no_grad():
            for batch in self.data.batches("test", device=place.device):
                by_row |= dict(zip(map(str, batch.rows.tolist()), model.predict(batch).tolist(), strict=True))
        return Answer(by_row, result.best_score, count_parameters(model), f"step {result.best_step}")

    def _trees(self, seed: int, out: Path, report: Reporter) -> Answer:
        """Gradient-boosted trees on layer-wise statistics; validation picks settings and number of trees."""
        batches = {name: self.data.batches(name) for name in SPLITS}
        rows = {name: np.concatenate([batch.rows.numpy() for batch in batches[name]]) for name in SPLITS}
        measured = {name: self.data.accuracy_by_row[rows[name]] for name in SPLITS}
        # Put together over all splits, so that every split has the same columns.
        joined = stack_statistics([weight_statistics(batch) for name in SPLITS for batch in batches[name]])
        ends = np.cumsum([len(rows[name]) for name in SPLITS])
        features = dict(zip(SPLITS, np.split(joined, ends[:-1]), strict=True))
        known = known_columns(features["train"])
        train_features, validation, test = (features[name][:, known] for name in SPLITS)
        best: tuple[float, Any, int] | None = None
        for settings, model in StatisticsTrees(seed).fit(train_features, measured["train"]):
            for count, predicted in enumerate(model.staged_predict(validation), start=1):
                if count % 10:
                    continue
                tau = tau_to_pick_by(torch.from_numpy(predicted), torch.from_numpy(measured["validation"]))
                if best is None or tau > best[0]:
                    best = tau, (settings, model), count
        assert best is not None, "there are candidates"
        tau, (settings, model), count = best
        predicted = np.clip(list(model.staged_predict(test))[count - 1], 0, 1).tolist()
        picked = f"{count} trees, rate {settings.learning_rate:g}, {settings.max_leaf_nodes} leaves"
        by_row = dict(zip(map(str, rows["test"].tolist()), predicted, strict=True))
        return Answer(by_row, tau, count * settings.max_leaf_nodes, picked)


def _means(result: GeneralizationResult, model: ModelResult) -> dict[str, Any]:
    """A model's scores over the seeds for machines: none where something objects to them."""
    means = {name: _mean([getattr(found, name) for found in model.last]) for name in ("kendall_tau", "r2", "mae")}
    means["kendall_tau_all_checkpoints"] = _mean([found.kendall_tau for found in model.all_checkpoints])
    objection = result.objection(model.model)
    if objection:
        means |= {name: None for name in means if name != "mae"}
    return means | {"interval": model.interval, "objection": objection}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
