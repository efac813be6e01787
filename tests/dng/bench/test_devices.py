"""Benchmarks on another device than the CPU: all tensors of a training meet there, and the numbers are the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from dng.bench import generalization as generalization_module
from dng.bench.comparison import ClassifierComparison, EqualBudget
from dng.bench.generalization import Generalization
from dng.bench.generalization_data import GeneralizationSettings
from dng.bench.generalization_page import GeneralizationResult
from dng.bench.harness import measure
from dng.bench.inr_classification import INRClassification
from dng.runs.on_zoo import HERE, Place
from dng.training.loop import TrainConfig
from dng.training.symmetries import Symmetries
from tests.dng.bench.cnn_zoos import NARROW, write_run_zoo
from tests.dng.bench.elsewhere import DEVICE, Elsewhere
from tests.dng.bench.test_generalization import TINY as TINY_PREDICTION
from tests.dng.bench.zoos import TINY
from zootool.zoo import Zoo

THERE = Place(DEVICE)
TRAINING = TrainConfig(steps=2, batch_size=16, lr=1e-3, validate_every=1)
SHORT = replace(
    TINY,
    reconstruction=replace(TRAINING, higher_is_better=False),
    classification=TRAINING,
    encoder_only=replace(TINY.encoder_only, training=TRAINING),
)


@pytest.mark.parametrize("method", ["dng", "dng-probes", "nfn-hnp", "nfn-np", "nft", "ng-gnn-probes", "ng-t"])
def test_a_comparison_of_methods(method: str, digits_zoo: Zoo, tmp_path: Path) -> None:
    def accuracies(out: Path, place: Place) -> list[tuple[float, float]]:
        bench = ClassifierComparison(digits_zoo, "tiny", [method], EqualBudget(TRAINING, 110_000), 1, place)
        found = measure(bench, out)
        return [(answer.test_accuracy, answer.validation_accuracy) for answer in found.methods[0].answers]

    here = accuracies(tmp_path / "here", HERE)
    with Elsewhere() as mode:
        assert accuracies(tmp_path / "there", THERE) == here
    assert_trained_there(mode)


def test_a_prediction_of_accuracies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = replace(TINY_PREDICTION.dng, training=TRAINING, symmetries=Symmetries())
    few = GeneralizationSettings(encoder, 20_000)
    monkeypatch.setattr(generalization_module, "generalization_settings", lambda *_: few)
    zoo = write_run_zoo(tmp_path / "cnns.zoo", NARROW)

    def run(out: Path, place: Place) -> GeneralizationResult:
        return measure(Generalization(zoo, "quick", ["dng", "stat-nn"], 1, place=place), out)

    here = run(tmp_path / "here", HERE)
    with Elsewhere() as mode:
        there = run(tmp_path / "there", THERE)
    for name in ("dng", "stat-nn"):
        assert there.model(name).last == here.model(name).last
    assert_trained_there(mode)


@pytest.mark.parametrize("ablation", ["none", "encoder-only"])
def test_inr2jls(ablation: str, digits_zoo: Zoo, tmp_path: Path) -> None:
    preset = SHORT.with_ablation(ablation)
    here = measure(INRClassification(digits_zoo, "tiny", preset), tmp_path / "here")
    with Elsewhere() as mode:
        there = measure(INRClassification(digits_zoo, "tiny", preset, place=THERE), tmp_path / "there")
    assert replace(there, seconds=here.seconds) == here
    assert_trained_there(mode)


def assert_trained_there(mode: Elsewhere) -> None:
    """Every training's gradients were computed on the device."""
    assert "backward" in mode.computed_there
    assert "backward" not in mode.computed_here
