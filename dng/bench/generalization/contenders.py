"""Who predicts accuracies: the DNG-Encoder, trees on weight statistics, an MLP on flat weights, published methods.

Each gets the same networks, learns from the split train, is picked on validation by Kendall's tau over its checkpoints,
and reads the test split once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dng.bench.comparison.settings import EqualBudget
from dng.bench.comparison.training import train_method
from dng.bench.generalization.material import Material
from dng.bench.generalization.settings import GeneralizationSettings
from dng.methods.plain import FlatMLP, StatisticsTrees, known_columns, stack_statistics, weight_statistics
from dng.methods.registry import METHODS, PREDICTORS
from dng.models.heads import count_parameters
from dng.models.model import Reader
from dng.runs.load import load
from dng.runs.on_zoo import HERE, Place, fit_reader, train_reader
from dng.runs.tasks import Target, tau_to_pick_by
from dng.training.seed import seeded
from dng.training.train import TrainResult
from zootool.progress import Reporter


@dataclass(frozen=True, eq=False)
class Contest:
    """What every contender is given: the networks, the settings, a seed, a folder of its own, and a place to train.

    Trees and the flat MLP are trained on the CPU wherever that is.
    """

    material: Material
    settings: GeneralizationSettings
    seed: int
    out: Path
    place: Place
    report: Reporter


@dataclass(frozen=True, eq=False)
class Answer:
    """Predicted accuracies of the test networks by row of the store, how validation scored, and the model's size."""

    by_row: dict[int, float]
    validation_tau: float
    num_parameters: int
    picked: str


def dng(contest: Contest) -> Answer:
    """The DNG-Encoder with an MLP head."""
    material, chosen = contest.material, contest.settings.dng
    chosen = replace(chosen, training=replace(chosen.training, seed=contest.seed))
    target = Target(material.target, torch.from_numpy(material.accuracy_by_row), 1)
    result = train_reader(material.zoo, target, chosen, contest.out / "dng", contest.place, contest.report)
    model = load(contest.out / "dng").to(contest.place.device)
    assert isinstance(model, Reader), "accuracies are predicted by a predictor"
    return Answer(_predictions(model, contest), result.best_score, count_parameters(model), _step(result))


def statistics(contest: Contest) -> Answer:
    """Gradient-boosted trees on layer-wise statistics; validation picks settings and number of trees."""
    features, rows = _by_split(contest.material, lambda batch: weight_statistics(batch), stack_statistics)
    known = known_columns(features["train"])
    features = {name: found[:, known] for name, found in features.items()}
    measured = {name: contest.material.accuracy_by_row[rows[name]] for name in rows}
    best: tuple[float, Any, int] | None = None
    for settings, model in StatisticsTrees(contest.seed).fit(features["train"], measured["train"]):
        for count, predicted in enumerate(model.staged_predict(features["validation"]), start=1):
            if count % 10:
                continue
            tau = tau_to_pick_by(torch.from_numpy(predicted), torch.from_numpy(measured["validation"]))
            if best is None or tau > best[0]:
                best = tau, (settings, model), count
    assert best is not None, "there are candidates"
    (settings, model), count = best[1], best[2]
    staged = list(model.staged_predict(features["test"]))[count - 1]
    predicted = np.clip(staged, 0, 1).tolist()
    picked = f"{count} trees, rate {settings.learning_rate:g}, {settings.max_leaf_nodes} leaves"
    leaves = count * settings.max_leaf_nodes
    return Answer(dict(zip(rows["test"].tolist(), predicted, strict=True)), best[0], leaves, picked)


def flat_mlp(contest: Contest) -> Answer:
    """An MLP on all weights behind one another."""
    material = contest.material
    config = replace(contest.settings.flat_mlp, seed=contest.seed)
    target = Target(material.target, torch.from_numpy(material.accuracy_by_row), 1)
    with seeded(contest.seed, "flat MLP"):
        model = FlatMLP(material.zoo.architectures.values(), 1)
    model.predicts = "accuracy"
    folder, stage = contest.out / "flat-mlp", "training the flat MLP"
    result = fit_reader(model, material.zoo, target, config, folder, place=HERE, report=contest.report, stage=stage)
    model.eval()
    by_row = _predictions(model, replace(contest, place=HERE))
    return Answer(by_row, result.best_score, count_parameters(model), _step(result))


def published(name: str) -> Callable[[Contest], Answer]:
    """A published method, trained exactly as the DNG-Encoder is."""

    def contend(contest: Contest) -> Answer:
        material, settings = contest.material, contest.settings
        target = Target(material.target, torch.from_numpy(material.accuracy_by_row), 1)
        budget = EqualBudget(replace(settings.dng.training, seed=contest.seed), settings.num_parameters)
        folder, symmetries = contest.out.parent, settings.dng.symmetries
        trained = train_method(
            name,
            material.zoo,
            target,
            budget,
            folder,
            symmetries=symmetries,
            place=contest.place,
            report=contest.report,
        )
        by_row = _predictions(trained.model, contest)
        return Answer(by_row, trained.result.best_score, count_parameters(trained.model), _step(trained.result))

    return contend


PUBLISHED = tuple(name for name in PREDICTORS if name not in ("dng", "statistics", "flat-mlp"))
CONTENDERS: dict[str, Callable[[Contest], Answer]] = {
    "dng": dng,
    "statistics": statistics,
    "flat-mlp": flat_mlp,
    **{name: published(name) for name in PUBLISHED},
}
NAMES = {name: METHODS[name].title for name in PREDICTORS}
"""What reports call them."""


@torch.no_grad()
def _predictions(model: Reader, contest: Contest) -> dict[int, float]:
    by_row: dict[int, float] = {}
    for batch in contest.material.batches("test", device=contest.place.device):
        by_row |= dict(zip(batch.rows.tolist(), model.predict(batch).tolist(), strict=True))
    return by_row


def _step(result: TrainResult) -> str:
    return f"step {result.best_step}"


def _by_split(
    material: Material, features_of: Callable[[Any], np.ndarray], stack: Callable[[list[np.ndarray]], np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Features and rows of each split; `stack` joins the batches of all, so that every split has the same columns."""
    batches = {name: material.batches(name) for name in ("train", "validation", "test")}
    parts = {name: [features_of(batch) for batch in batches[name]] for name in batches}
    joined = stack([part for name in parts for part in parts[name]])
    ends = np.cumsum([sum(map(len, parts[name])) for name in parts])
    features = dict(zip(parts, np.split(joined, ends[:-1]), strict=True))
    rows = {name: np.concatenate([batch.rows.numpy() for batch in batches[name]]) for name in batches}
    return features, rows
