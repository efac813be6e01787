import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from dng.bench import comparison as module
from dng.bench.certainty import accuracy_interval, percent
from dng.bench.comparison import (
    ClassifierComparison,
    Comparison,
    EqualBudget,
    classification_budget,
    comparison_table,
    train_method,
)
from dng.bench.harness import measure, run
from dng.methods.registry import METHODS
from dng.models.model import Reader
from dng.runs.tasks import Target, read_target
from dng.training.loop import TrainConfig, TrainResult
from tests.dng.bench.cnn_zoos import NARROW, WIDE, write_run_zoo
from zootool import open_zoo
from zootool.errors import BadDataError, UsageError
from zootool.zoo import Zoo

TRAINING = TrainConfig(steps=60, batch_size=32, lr=1e-2, optimizer="adamw", validate_every=20)
BUDGET = EqualBudget(TRAINING, 20_000)
FEW = replace(BUDGET, training=replace(TRAINING, steps=2, validate_every=1), num_parameters=60_000)
COUNT = 120


@pytest.fixture(scope="module")
def labelled_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CNNs of one architecture whose label, one of three, can be read off their output biases."""
    path = tmp_path_factory.mktemp("labelled") / "cnns.zoo"
    write_run_zoo(path, NARROW, count=COUNT, label=[3 * i // COUNT for i in range(COUNT)])
    return path


@pytest.fixture(scope="module")
def labelled(labelled_path: Path) -> Zoo:
    return open_zoo(labelled_path)


@pytest.fixture(scope="module")
def compared(labelled: Zoo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    out = tmp_path_factory.mktemp("comparison")
    return out, run(ClassifierComparison(labelled, "tiny", ["dng", "nfn-hnp"], BUDGET, 2), out)


def test_methods_of_equal_size_learn_from_the_weights(compared: tuple[Path, Comparison]) -> None:
    _, found = compared
    assert [result.method for result in found.methods] == ["dng", "nfn-hnp"]
    assert found.networks == {"train": 60, "validation": 30, "test": 30}
    for result in found.methods:
        for answer in result.answers:
            assert abs(answer.num_parameters - 20_000) <= 1_000
            assert answer.lr == 1e-2
        assert min(result.accuracies) > 0.6, "chance is a third"


def test_a_finished_comparison_is_left_alone(
    labelled: Zoo, compared: tuple[Path, Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, found = compared
    monkeypatch.setattr(module, "fit_reader", None)
    again = measure(ClassifierComparison(labelled, "tiny", ["dng", "nfn-hnp"], BUDGET, 2), out)
    assert again.skipped
    assert again.methods == found.methods
    with pytest.raises(UsageError, match=r"holds a run with budget\.training\.lr=0.01"):
        measure(
            ClassifierComparison(labelled, "tiny", ["dng"], replace(BUDGET, training=replace(TRAINING, lr=1e-3)), 2),
            out,
        )


def test_what_a_method_gave_before_it_changed_is_refused(
    labelled: Zoo, compared: tuple[Path, Comparison], tmp_path: Path
) -> None:
    out, found = compared
    old = tmp_path / "old"
    shutil.copytree(out, old)
    path = old / "seed-0" / "nfn-hnp" / "method.json"
    plain = json.loads(path.read_text())
    del plain["revision"]
    path.write_text(json.dumps(plain))
    for part in ("answer.json", "done.json"):
        with pytest.raises(UsageError, match="seed-0/nfn-hnp holds a run with revision=None, this one has revision=1"):
            measure(ClassifierComparison(labelled, "tiny", ["dng", "nfn-hnp"], BUDGET, 2), old)
        (old / "seed-0" / "nfn-hnp" / part).unlink()
    assert measure(ClassifierComparison(labelled, "tiny", ["dng"], BUDGET, 2), old).methods == found.methods[:1]


def test_the_table_says_what_the_most_frequent_class_alone_gives(compared: tuple[Path, Comparison]) -> None:
    _, found = compared
    assert found.largest_class == pytest.approx(1 / 3)
    note = comparison_table(replace(found, largest_class=0.412)).note
    assert "Always the most frequent test class would be right in 41.2%" in note


def test_an_interrupted_comparison_goes_on(
    labelled: Zoo, compared: tuple[Path, Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = compared
    with monkeypatch.context() as patch:
        calls = []

        def stop_at_the_second(*arguments: Any, **options: Any) -> TrainResult:
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return fit(*arguments, **options)

        fit = module.fit_reader
        patch.setattr(module, "fit_reader", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            measure(ClassifierComparison(labelled, "tiny", ["dng", "nfn-hnp"], BUDGET, 2), tmp_path)
    assert (tmp_path / "seed-0" / "dng" / "answer.json").exists()
    assert not (tmp_path / "results.json").exists()
    found = measure(ClassifierComparison(labelled, "tiny", ["dng", "nfn-hnp"], BUDGET, 2), tmp_path)
    assert [result.accuracies for result in found.methods] == [result.accuracies for result in whole.methods]


def test_learning_rates_are_tried_once_and_the_best_on_validation_serves_all_seeds(
    labelled: Zoo, tmp_path: Path
) -> None:
    budget = replace(BUDGET, learning_rates=(1e-9, 1e-2), trial_steps=60)
    target = read_target(labelled, "label")
    rates = [train_method("dng", labelled, target, budget.with_seed(seed), tmp_path).lr for seed in (0, 1)]
    assert rates == [1e-2, 1e-2]
    scores = json.loads((tmp_path / "trials" / "dng" / "learning-rates.json").read_text())
    assert scores["0.01"] > scores["1e-09"]
    assert not list((tmp_path / "trials" / "dng").glob("*/seed*"))


@pytest.mark.parametrize("name", [name for name, known in METHODS.items() if "inr" in known.presets])
def test_every_method_is_trained_and_gives_logits(name: str, digits_zoo: Zoo, tmp_path: Path) -> None:
    zoo = digits_zoo.take(digits_zoo.nets.groupby("split").head(16).index.to_numpy())
    found = measure(ClassifierComparison(zoo, "tiny", [name], replace(FEW, num_parameters=110_000), 1), tmp_path)
    assert 0 <= found.methods[0].accuracies[0] <= 1


@pytest.mark.parametrize("name", ["ng-gnn", "ng-t", "stat-nn", "dng"])
def test_methods_for_zoos_of_any_shape_predict_accuracies(name: str, tmp_path: Path) -> None:
    zoo = write_run_zoo(tmp_path / "cnns.zoo", NARROW, WIDE)
    target = read_target(zoo, "test_accuracy")
    trained = train_method(name, zoo, target, replace(FEW, num_parameters=None), tmp_path / "run")
    assert isinstance(trained.model, Reader)


def test_what_a_method_cant_take_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    zoo = write_run_zoo(tmp_path / "cnns.zoo", NARROW, WIDE, label=list(range(60)))
    with pytest.raises(UsageError, match="nfn-hnp can't take the zoo"):
        measure(ClassifierComparison(zoo, "tiny", ["dng", "nfn-hnp"], FEW, 1), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="there is no method 'dgn'"):
        measure(ClassifierComparison(zoo, "tiny", ["dgn"], FEW, 1), tmp_path / "run")


def test_networks_of_a_missing_split_are_asked_for(labelled: Zoo, tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="no networks in the split test"):
        ClassifierComparison(labelled.select(split=["train", "validation"]), "tiny", ["dng"], FEW, 1)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="number of parameters, got 0"):
        EqualBudget(TRAINING, 0)
    with pytest.raises(UsageError, match="need trial_steps"):
        EqualBudget(TRAINING, 1000, (1e-3, 1e-2))
    with pytest.raises(UsageError, match="no preset 'cup'") as caught:
        classification_budget("cup")
    assert "cpu" in str(caught.value.hint)


def test_the_table_names_methods_and_budget(compared: tuple[Path, Comparison]) -> None:
    out, found = compared
    table = comparison_table(found)
    assert [row[0] for row in table.rows] == ["DNG-Encoder", "NFN (HNP)"]
    assert percent(found.methods[0].accuracies) in table.rows[0]
    assert "60 steps of 32 networks" in table.note
    assert "| DNG-Encoder |" in (out / "table.md").read_text()
    low, high = accuracy_interval(fmean(found.methods[0].accuracies), found.networks["test"])
    assert table.rows[0][3] == f"{100 * low:.1f} - {100 * high:.1f}"
    few = comparison_table(replace(found, networks=found.networks | {"test": 3}))
    assert few.rows[0][2] == "3 test networks: too few"
    assert percent([0.5]) == "50.0"
    assert percent([0.5, 0.7]) == "60.0 ± 14.1"


def test_the_command_compares_methods(labelled_path: Path, tmp_path: Path) -> None:
    command = [
        "bench",
        "inr-classification",
        "--zoo",
        str(labelled_path),
        "--out",
        str(tmp_path / "run"),
        "--model",
    ]
    done = CliRunner().invoke(app, [*command, "dng", "--budget", "20000", "--steps", "2", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["methods"][0]["answers"][0]["num_parameters"] < 21_000
    wrong = CliRunner().invoke(app, [*command, "dng", "--control", "shuffled-labels"])
    assert wrong.exit_code == 2
    assert "takes no --control" in wrong.output


def test_targets_of_all_rows_are_looked_up_by_row(labelled: Zoo, tmp_path: Path) -> None:
    """Labels shuffled over the networks can't be learnt: what is learnt above comes from the right rows."""
    target = read_target(labelled, "label")
    order = torch.randperm(len(target.by_row), generator=torch.Generator().manual_seed(0))
    shuffled = Target("label", target.by_row[order], target.num_outputs)
    assert train_method("dng", labelled, shuffled, BUDGET, tmp_path).result.best_score < 0.6
