import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from dng.bench import generalization as module
from dng.bench.certainty import MIN_TESTED, Scores, bootstrap_tau, chance_interval, last_of_runs, score
from dng.bench.generalization import Generalization
from dng.bench.generalization_data import PRESETS, GeneralizationSettings, generalization_settings, read_accuracies
from dng.bench.generalization_page import (
    GeneralizationResult,
    ModelResult,
    mean_tau,
    published_table,
    results_table,
    verdict,
)
from dng.bench.harness import measure, write_report
from dng.bench.published_numbers import published_column, published_taus
from dng.encoder.config import HETEROGENEOUS_CNN_ENCODER
from dng.methods import plain
from dng.methods.dynamic_graph import DNG, DNGConfig
from dng.models.heads import count_parameters
from dng.runs.presets import ReaderPreset
from dng.training.loop import TrainConfig
from dng.training.symmetries import Symmetries
from dng.zoo_data import EndlessBatches
from tests.dng.bench.cnn_zoos import NARROW, WIDE, write_run_zoo
from zootool.architecture import Architecture
from zootool.errors import BadDataError, NumericalError, UsageError
from zootool.graph import GraphBatch
from zootool.zoo import Zoo

TRAINING = TrainConfig(steps=60, batch_size=32, lr=5e-3, validate_every=20)
ENCODER = replace(HETEROGENEOUS_CNN_ENCODER, dim=16, head_dim=4, num_frequencies=8, dropout=0.0)
MODELS = ["dng", "statistics", "flat-mlp"]
TINY = GeneralizationSettings(ReaderPreset(DNGConfig(ENCODER, 16, 0.0), TRAINING))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Zoo, Path, GeneralizationResult]:
    folder = tmp_path_factory.mktemp("generalization")
    zoo = write_run_zoo(folder / "cnns.zoo", NARROW, WIDE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "generalization_settings", lambda *_: TINY)
        result = measure(Generalization(zoo, "quick", MODELS, 2), folder / "run")
    return zoo, folder / "run", result


def test_every_model_finds_what_is_in_the_weights(finished: tuple[Zoo, Path, GeneralizationResult]) -> None:
    _, _, result = finished
    assert result.runs == {"train": 32, "validation": 14, "test": 14}
    assert result.networks == {"train": 64, "validation": 28, "test": 28}
    for model in result.models:
        assert len(model.last) == len(model.all_checkpoints) == 2
        assert mean_tau(model) > (0.2 if model.model == "flat-mlp" else 0.5), model
        assert model.interval is not None
        low, high = model.interval
        assert low <= mean_tau(model) <= high
    assert result.model("dng").num_parameters > 1000


def test_scores_are_those_of_the_predictions_on_last_checkpoints(
    finished: tuple[Zoo, Path, GeneralizationResult],
) -> None:
    zoo, out, result = finished
    nets = zoo.select(split="test").nets.to_pandas()
    predicted = Generalization(zoo, "quick", MODELS, 2).predictions("statistics", out)[1]
    is_last = (nets["training_step"] == 1).to_numpy()
    wanted = score(predicted[is_last], nets["test_accuracy"].to_numpy(np.float32)[is_last].astype(float))
    assert result.model("statistics").last[1].mae == pytest.approx(wanted.mae, abs=1e-6)
    assert result.model("statistics").last[1].kendall_tau == pytest.approx(wanted.kendall_tau)


def test_a_finished_run_is_skipped_and_an_unfinished_one_goes_on(
    finished: tuple[Zoo, Path, GeneralizationResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo, out, result = finished
    monkeypatch.setattr(module, "generalization_settings", lambda *_: TINY)
    again = measure(Generalization(zoo, "quick", MODELS, 2), out)
    assert again == replace(result, skipped=True)
    (out / "seed-1" / "flat-mlp.json").unlink()
    kept = (out / "seed-0" / "dng.json").stat().st_mtime_ns
    once_more = measure(Generalization(zoo, "quick", MODELS, 2), out)
    assert not once_more.skipped
    assert (out / "seed-0" / "dng.json").stat().st_mtime_ns == kept
    assert once_more.model("flat-mlp").last == result.model("flat-mlp").last


def test_the_report_shows_scores_zoo_and_verdict(finished: tuple[Zoo, Path, GeneralizationResult]) -> None:
    zoo, out, result = finished
    bench = Generalization(zoo, "quick", MODELS, 2)
    page = write_report(bench, result, out).read_text(encoding="utf-8")
    table = results_table(result).markdown()
    assert "On this zoo the best tau on last checkpoints is that of the" in table
    for name in ("DNG-Encoder", "statistics + trees", "flat MLP"):
        assert name in page
        assert name in table
    assert page.count("<img") == 3
    assert "trained on networks varied by" in page
    paper = write_report(bench, replace(result, preset="paper"), out).read_text(encoding="utf-8")
    assert "varied by" not in paper
    assert (out / "scatter.png").stat().st_size > 5000


def test_percents_are_converted_and_said(tmp_path: Path) -> None:
    accuracies = np.linspace(5, 95, 60).tolist()
    material = read_accuracies(write_run_zoo(tmp_path / "x.zoo", NARROW, score=accuracies), "score")
    assert material.accuracies.max() == pytest.approx(0.95)
    assert "holds percents" in material.notes[0]


def test_duplicates_and_constant_networks_are_reported(tmp_path: Path) -> None:
    zoo = write_run_zoo(tmp_path / "x.zoo", NARROW)
    assert read_accuracies(zoo).notes == ()
    from zootool.store import write_store
    from zootool.store.blocks import Block, MemorySource, SourceInfo

    table = zoo.nets.to_arrow(["net_id", "split", "test_accuracy", "run_id", "training_step"])
    parts = [zoo.tensors(i)[1] for i in range(len(zoo))]
    tensors = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    for tensor in tensors.values():
        tensor[3] = 0.25
        tensor[7] = tensor[8]
    write_store(tmp_path / "y.zoo", MemorySource(SourceInfo("y"), [Block(NARROW, tensors, table)]))
    from zootool import open_zoo

    assert read_accuracies(open_zoo(tmp_path / "y.zoo")).notes == (
        "1 networks have the same weights as an earlier one",
        "1 networks are constant: each layer's weights are all equal",
    )


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"test_accuracy": None}, UsageError, "no column 'test_accuracy'"),
        ({"test_accuracy": [0.5] * 60}, BadDataError, "all networks of x have the test_accuracy 0.5"),
        ({"score": [-0.5, *[0.5] * 59]}, BadDataError, "numbers from -0.5 to 0.5"),
        ({"score": [150.0, *[0.5] * 59]}, BadDataError, "numbers from 0.5 to 150"),
        ({"test_accuracy": [None, *[0.5] * 59]}, BadDataError, "1 networks of x have no test_accuracy"),
        ({"score": ["a"] * 60}, BadDataError, "not accuracies"),
        ({"split": ["train", "validation"] * 30}, BadDataError, "no networks in the split test"),
        ({"split": ["train", "validation", "test"] * 20}, BadDataError, "in more than one split"),
    ],
)
def test_zoos_that_cannot_be_judged_are_named(tmp_path: Path, columns: dict, error: type, message: str) -> None:
    zoo = write_run_zoo(tmp_path / "x.zoo", NARROW, **columns)
    with pytest.raises(error, match=message):
        read_accuracies(zoo, "score" if "score" in columns else "test_accuracy")


def test_a_zoo_of_few_networks_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="has 12 networks"):
        read_accuracies(write_run_zoo(tmp_path / "x.zoo", NARROW, count=12))


def test_unknown_models_and_presets_are_named(tmp_path: Path) -> None:
    write_run_zoo(tmp_path / "x.zoo", NARROW)
    for arguments, message in ((["--model", "dmg"], "no model 'dmg'"), (["--preset", "quik"], "no preset 'quik'")):
        done = CliRunner().invoke(app, ["bench", "generalization", "--zoo", str(tmp_path / "x.zoo"), *arguments])
        assert (done.exit_code, message in done.output) == (2, True), done.output


def test_the_command_prints_scores_for_machines(tmp_path: Path) -> None:
    write_run_zoo(tmp_path / "x.zoo", NARROW, WIDE)
    command = ["bench", "generalization", "--zoo", str(tmp_path / "x.zoo"), "--model", "statistics", "--seeds", "1",
               "--out", str(tmp_path / "run"), "--json"]  # fmt: skip
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    scores = json.loads(done.stdout)["scores"]["statistics"]
    assert scores["kendall_tau"] > 0.5
    assert set(scores) == {"kendall_tau", "r2", "mae", "kendall_tau_all_checkpoints", "interval", "objection"}
    assert scores["objection"] == ""


def test_a_tau_of_few_runs_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "MAX_TREES", 20)
    split = [("train", "train", "train", "test" if i < 12 else "validation")[i // 2 % 4] for i in range(60)]
    zoo = write_run_zoo(tmp_path / "x.zoo", NARROW, split=split[:12] + ["validation"] * 8 + ["test"] * 2 + split[22:])
    bench = Generalization(zoo, "quick", ["statistics"], 1)
    result = measure(bench, tmp_path / "run")
    assert result.runs["test"] < MIN_TESTED
    table = results_table(result)
    assert table.rows[0][1] == f"{result.runs['test']} test runs: too few"
    assert (table.rows[0][3], table.rows[0][5]) == ("-", "-")
    assert "No tau is quoted. 95 % of random orders of" in table.note
    page = write_report(bench, result, tmp_path / "run").read_text(encoding="utf-8")
    assert f"{result.model('statistics').last[0].kendall_tau:.3f}" not in page.replace(table.rows[0][2], "")
    command = ["bench", "generalization", "--zoo", str(tmp_path / "x.zoo"), "--model", "statistics", "--seeds", "1",
               "--out", str(tmp_path / "run"), "--json"]  # fmt: skip
    scores = json.loads(CliRunner().invoke(app, command).stdout)["scores"]["statistics"]
    assert (scores["kendall_tau"], scores["objection"]) == (None, table.rows[0][1])


def test_a_prediction_without_spread_is_called_that(finished: tuple[Zoo, Path, GeneralizationResult]) -> None:
    _, _, result = finished
    measured = np.linspace(0, 1, 20)
    constant = score(np.full(20, 0.5), measured)
    assert (constant.kendall_tau, constant.undefined) == (None, "constant prediction")
    assert bootstrap_tau(np.full((1, 20), 0.5), measured) is None
    flat = score(measured, np.full(20, 0.5))
    assert (flat.kendall_tau, flat.r2, flat.undefined) == (None, None, "equal accuracies")
    model = replace(result.model("dng"), last=(constant, constant), all_checkpoints=(constant, constant), interval=None)
    shown = replace(result, models=(model, *result.models[1:]))
    assert results_table(shown).rows[0][1:3] == ("constant prediction", "-")
    assert results_table(shown).rows[0][5] == "constant prediction"
    assert "best tau on last checkpoints is that of the DNG-Encoder" not in verdict(shown)
    half = replace(model, last=(constant, result.model("dng").last[0]))
    assert replace(shown, models=(half,)).objection("dng") == "constant prediction under 1 of 2 seeds"


def test_an_interval_that_spans_nearly_all_quotes_nothing(finished: tuple[Zoo, Path, GeneralizationResult]) -> None:
    _, _, result = finished
    wide = replace(result.model("dng"), interval=(-0.3, 0.8))
    assert replace(result, models=(wide,)).objection("dng") == "14 test runs: too few"
    assert result.objection("dng") == ""


def test_predictions_that_are_not_finite_are_named() -> None:
    with pytest.raises(NumericalError, match="2 test networks get no finite prediction"):
        score(np.array([0.1, np.nan, np.inf]), np.array([0.1, 0.2, 0.3]))


def test_random_orders_of_three_reach_everything() -> None:
    assert chance_interval(3) == (-1.0, 1.0)
    low, high = chance_interval(90)
    assert -0.16 < low < -0.12 < 0.12 < high < 0.16


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("architectures", [[NARROW], [NARROW, WIDE]])
def test_every_preset_gives_all_the_same_updates(preset: str, architectures: list[Architecture]) -> None:
    settings = generalization_settings(preset, architectures, lambda _: 7)
    shared, flat = settings.dng.training, settings.flat_mlp
    for name in ("steps", "batch_size", "validate_every", "decay", "warmup_start", "warmup_per_step", "clip"):
        assert getattr(flat, name) == getattr(shared, name)


def test_all_that_learn_by_updates_see_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where batches are smaller than asked for, because networks of different shape share none."""
    zoo = write_run_zoo(tmp_path / "cnns.zoo", NARROW, WIDE)
    short = replace(TINY.dng, training=replace(TRAINING, steps=7, validate_every=7))
    settings = replace(TINY, dng=short, num_parameters=20_000)
    monkeypatch.setattr(module, "generalization_settings", lambda *_: settings)
    seen: list[list[list[int]]] = []

    class Watched(EndlessBatches):
        def __iter__(self) -> Iterator[Any]:
            seen.append([])
            convert = self.convert

            def watch(batch: GraphBatch) -> Any:
                seen[-1].append(batch.rows.tolist())
                return convert(batch)

            self.convert = watch
            return super().__iter__()

    monkeypatch.setattr("dng.runs.on_zoo.EndlessBatches", Watched)
    measure(Generalization(zoo, "quick", ["dng", "flat-mlp", "stat-nn"], 1), tmp_path / "run")
    assert len(seen) == 3
    assert len(seen[0]) == 7
    assert seen[0] == seen[1] == seen[2]


def test_the_last_checkpoint_of_a_run_is_that_of_its_largest_step() -> None:
    runs, steps = np.array(["b", "a", "b", "a", "c"]), np.array([5, 3, 2, 9, 0])
    assert last_of_runs(runs, steps).tolist() == [0, 3, 4]


def test_the_interval_narrows_with_certainty() -> None:
    measured = np.linspace(0, 1, 40)
    noisy = measured + np.random.default_rng(0).normal(0, 0.5, (2, 40))
    found = bootstrap_tau(noisy, measured)
    assert found is not None
    low, high = found
    assert 0.05 < high - low < 0.6
    assert bootstrap_tau(np.stack([measured]), measured) == pytest.approx((1.0, 1.0))


def test_settings_follow_the_zoo_and_the_preset() -> None:
    paper = generalization_settings("paper", [NARROW, WIDE], lambda _: 10)
    assert paper.dng.config.encoder.shared
    quick = generalization_settings("quick", [NARROW, WIDE], lambda _: 10)
    assert quick.dng.config.encoder.dim < 128
    assert quick.dng.training.steps < paper.dng.training.steps or math.isfinite(quick.dng.training.lr)


def test_published_rows_belong_to_published_zoos() -> None:
    assert published_taus("cifar10")["dng"] == "0.936 ± 0.000"
    assert published_taus("cnn-wild-park")["ng-t"] == "0.8170 ± 0.0070"
    assert published_taus(None) == published_taus("mnist") == {}


@pytest.mark.parametrize(
    ("found", "image_set", "column", "scored"),
    [
        ("small-cnn-zoo", "cifar10", "cifar10", "last checkpoints"),
        ("cnn-wild-park", "cifar10", "cnn-wild-park", "all checkpoints"),
        ("small-cnn-zoo", "mnist", None, None),
        ("", "cifar10", None, None),
    ],
)
def test_a_published_tau_stands_beside_ours_over_the_same_checkpoints(
    tmp_path: Path, found: str, image_set: str, column: str | None, scored: str | None
) -> None:
    zoo = write_run_zoo(tmp_path / "x.zoo", NARROW, WIDE, published=(found, image_set))
    assert published_column(zoo) == column
    last, everything = Scores(0.5, 0.1, 0.1), Scores(0.7, 0.1, 0.1)
    model = ModelResult("dng", (last,), (everything,), (0.4, 0.6), (0.5,), 10, ("step 1",), 1.0)
    result = GeneralizationResult("id", "x", "quick", "test_accuracy", 1, {"test": 14}, {}, (), (model,))
    table = published_table(result, zoo)
    if scored is None or column is None:
        assert table is None
        return
    assert table is not None
    assert scored in table.caption
    ours = "0.500" if scored == "last checkpoints" else "0.700"
    assert table.rows[0] == ("DNG-Encoder", ours, published_taus(column)["dng"])


def test_published_methods_compete_at_equal_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = write_run_zoo(tmp_path / "cnns.zoo", NARROW, WIDE)
    monkeypatch.setattr(module, "generalization_settings", lambda *_: replace(TINY, num_parameters=20_000))
    bench = Generalization(zoo, "quick", ["stat-nn"], 1)
    result = measure(bench, tmp_path / "run")
    assert abs(result.model("stat-nn").num_parameters - 20_000) <= 1_000
    assert mean_tau(result.model("stat-nn")) > 0.5
    assert "StatNN" in write_report(bench, result, tmp_path / "run").read_text(encoding="utf-8")


def test_a_method_that_cant_take_the_zoo_stops_before_any_training(tmp_path: Path) -> None:
    zoo = write_run_zoo(tmp_path / "cnns.zoo", NARROW, WIDE)
    with pytest.raises(UsageError, match="nft can't take the zoo"):
        measure(Generalization(zoo, "quick", ["dng", "nft"], 1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_networks_are_varied_where_the_settings_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = write_run_zoo(tmp_path / "cnns.zoo", NARROW)
    found = {}
    for name, symmetries in (("plain", None), ("varied", Symmetries(relabel=False, mirror=False))):
        short = replace(TINY.dng, training=replace(TRAINING, steps=3, validate_every=3), symmetries=symmetries)
        settings = replace(TINY, dng=short)
        monkeypatch.setattr(module, "generalization_settings", lambda *_, settings=settings: settings)
        bench = Generalization(zoo, "quick", ["dng"], 1)
        measure(bench, tmp_path / name)
        found[name] = bench.predictions("dng", tmp_path / name).tolist()
    assert found["plain"] != found["varied"]


def test_presets_differ_in_size_and_in_symmetries() -> None:
    quick, demo, paper = (generalization_settings(name, [NARROW], lambda _: 10) for name in ("quick", "demo", "paper"))
    assert quick.dng.symmetries == demo.dng.symmetries == Symmetries()
    assert paper.dng.symmetries is None
    assert paper.num_parameters is None
    for chosen in (quick, demo):
        assert chosen.num_parameters == count_parameters(DNG([NARROW], 1, chosen.dng.config))
    assert demo.dng.training.steps < quick.dng.training.steps
    assert generalization_settings("quick", [NARROW], lambda _: 10, 5_000).num_parameters == 5_000
