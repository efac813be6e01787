import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from dng.bench.encoder_presets import EncoderPreset
from dng.bench.generalization import run as module
from dng.bench.generalization.material import read_material
from dng.bench.generalization.report import mean_tau, results_table, write_report
from dng.bench.generalization.run import GeneralizationResult, predictions_of, read_answers, run_generalization
from dng.bench.generalization.scores import bootstrap_tau, last_of_runs, score
from dng.bench.generalization.settings import GeneralizationSettings, generalization_settings
from dng.config import HETEROGENEOUS_CNN_ENCODER
from dng.heads import count_parameters
from dng.predictors import AccuracyPredictor, PredictorConfig
from dng.symmetries import Symmetries
from dng.train import TrainConfig
from tests.dng.bench.cnn_zoos import NARROW, WIDE, write_run_zoo
from zootool.errors import BadDataError, UsageError
from zootool.zoo import Zoo

TRAINING = TrainConfig(steps=60, batch_size=32, lr=5e-3, validate_every=20)
ENCODER = replace(HETEROGENEOUS_CNN_ENCODER, dim=16, head_dim=4, num_frequencies=8, dropout=0.0)
TINY = GeneralizationSettings(EncoderPreset(ENCODER, 16, 0.0, TRAINING))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Zoo, Path, GeneralizationResult]:
    folder = tmp_path_factory.mktemp("generalization")
    zoo = write_run_zoo(folder / "cnns.zoo", NARROW, WIDE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "generalization_settings", lambda *_: TINY)
        result = run_generalization(zoo, "quick", ["dng", "statistics", "flat-mlp"], 2, folder / "run")
    return zoo, folder / "run", result


def test_every_model_finds_what_is_in_the_weights(finished: tuple[Zoo, Path, GeneralizationResult]) -> None:
    _, _, result = finished
    assert result.runs == {"train": 32, "validation": 14, "test": 14}
    assert result.networks == {"train": 64, "validation": 28, "test": 28}
    for model in result.models:
        assert len(model.last) == len(model.all_checkpoints) == 2
        assert mean_tau(model) > 0.5, model
        low, high = model.interval
        assert low <= mean_tau(model) <= high
    assert result.model("dng").num_parameters > 1000


def test_scores_are_those_of_the_predictions_on_last_checkpoints(
    finished: tuple[Zoo, Path, GeneralizationResult],
) -> None:
    zoo, out, result = finished
    nets = zoo.select(split="test").nets.to_pandas()
    predicted = predictions_of(read_answers(out, "statistics", 2), read_material(zoo))[1]
    is_last = (nets["training_step"] == 1).to_numpy()
    wanted = score(predicted[is_last], nets["test_accuracy"].to_numpy(np.float32)[is_last].astype(float))
    assert result.model("statistics").last[1].mae == pytest.approx(wanted.mae, abs=1e-6)
    assert result.model("statistics").last[1].kendall_tau == pytest.approx(wanted.kendall_tau)


def test_a_finished_run_is_skipped_and_an_unfinished_one_goes_on(
    finished: tuple[Zoo, Path, GeneralizationResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo, out, result = finished
    monkeypatch.setattr(module, "generalization_settings", lambda *_: TINY)
    again = run_generalization(zoo, "quick", ["dng", "statistics", "flat-mlp"], 2, out)
    assert again == replace(result, skipped=True)
    (out / "seed-1" / "flat-mlp.json").unlink()
    kept = (out / "seed-0" / "dng.json").stat().st_mtime_ns
    once_more = run_generalization(zoo, "quick", ["dng", "statistics", "flat-mlp"], 2, out)
    assert not once_more.skipped
    assert (out / "seed-0" / "dng.json").stat().st_mtime_ns == kept
    assert once_more.model("flat-mlp").last == result.model("flat-mlp").last


def test_the_report_shows_scores_zoo_and_verdict(finished: tuple[Zoo, Path, GeneralizationResult]) -> None:
    zoo, out, result = finished
    page = write_report(result, zoo, out).read_text(encoding="utf-8")
    table = results_table(result).markdown()
    assert "On this zoo the best tau on last checkpoints is that of the" in table
    for name in ("DNG-Encoder", "statistics + trees", "flat MLP"):
        assert name in page
        assert name in table
    assert page.count("<img") == 3
    assert "trained on networks varied by" in page
    paper = write_report(replace(result, preset="paper"), zoo, out).read_text(encoding="utf-8")
    assert "varied by" not in paper
    assert (out / "scatter.png").stat().st_size > 5000


def test_percents_are_converted_and_said(tmp_path: Path) -> None:
    accuracies = np.linspace(5, 95, 60).tolist()
    material = read_material(write_run_zoo(tmp_path / "x.zoo", NARROW, test_accuracy=accuracies))
    assert material.accuracies.max() == pytest.approx(0.95)
    assert "holds percents" in material.notes[0]


def test_duplicates_and_constant_networks_are_reported(tmp_path: Path) -> None:
    zoo = write_run_zoo(tmp_path / "x.zoo", NARROW)
    assert read_material(zoo).notes == ()
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

    assert read_material(open_zoo(tmp_path / "y.zoo")).notes == (
        "1 networks have the same weights as an earlier one",
        "1 networks are constant: each layer's weights are all equal",
    )


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"test_accuracy": None}, UsageError, "no column 'test_accuracy'"),
        ({"test_accuracy": [0.5] * 60}, BadDataError, "all networks of x have the test_accuracy 0.5"),
        ({"test_accuracy": [-0.5, *[0.5] * 59]}, BadDataError, "numbers from -0.5 to 0.5"),
        ({"test_accuracy": [150.0, *[0.5] * 59]}, BadDataError, "numbers from 0.5 to 150"),
        ({"test_accuracy": [None, *[0.5] * 59]}, BadDataError, "1 networks of x have no test_accuracy"),
        ({"test_accuracy": ["a"] * 60}, BadDataError, "not accuracies"),
        ({"split": ["train", "validation"] * 30}, BadDataError, "no networks in the split test"),
        ({"split": ["train", "validation", "test"] * 20}, BadDataError, "in more than one split"),
    ],
)
def test_zoos_that_cannot_be_judged_are_named(tmp_path: Path, columns: dict, error: type, message: str) -> None:
    zoo = write_run_zoo(tmp_path / "x.zoo", NARROW, **columns)
    with pytest.raises(error, match=message):
        read_material(zoo)


def test_a_zoo_of_few_networks_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="has 12 networks"):
        read_material(write_run_zoo(tmp_path / "x.zoo", NARROW, count=12))


def test_unknown_models_and_presets_are_named(tmp_path: Path) -> None:
    write_run_zoo(tmp_path / "x.zoo", NARROW)
    for arguments, message in ((["--model", "dmg"], "no model 'dmg'"), (["--preset", "quik"], "no preset 'quik'")):
        done = CliRunner().invoke(app, ["bench", "generalization", "--zoo", str(tmp_path / "x.zoo"), *arguments])
        assert (done.exit_code, message in done.output) == (2, True), done.output


def test_the_command_prints_scores_for_machines(tmp_path: Path) -> None:
    write_run_zoo(tmp_path / "x.zoo", NARROW)
    command = ["bench", "generalization", "--zoo", str(tmp_path / "x.zoo"), "--model", "statistics", "--seeds", "1",
               "--out", str(tmp_path / "run"), "--json"]  # fmt: skip
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    scores = json.loads(done.stdout)["scores"]["statistics"]
    assert scores["kendall_tau"] > 0.5
    assert set(scores) == {"kendall_tau", "r2", "mae", "kendall_tau_all_checkpoints", "interval"}


def test_the_last_checkpoint_of_a_run_is_that_of_its_largest_step() -> None:
    runs, steps = np.array(["b", "a", "b", "a", "c"]), np.array([5, 3, 2, 9, 0])
    assert last_of_runs(runs, steps).tolist() == [0, 3, 4]


def test_the_interval_narrows_with_certainty() -> None:
    measured = np.linspace(0, 1, 40)
    noisy = measured + np.random.default_rng(0).normal(0, 0.5, (2, 40))
    low, high = bootstrap_tau(noisy, measured)
    assert 0.05 < high - low < 0.6
    assert bootstrap_tau(np.stack([measured]), measured) == pytest.approx((1.0, 1.0))


def test_settings_follow_the_zoo_and_the_preset() -> None:
    paper = generalization_settings("paper", [NARROW, WIDE], lambda _: 10)
    assert paper.dng.encoder.shared
    quick = generalization_settings("quick", [NARROW, WIDE], lambda _: 10)
    assert quick.dng.encoder.dim < 128
    assert quick.dng.training.steps < paper.dng.training.steps or math.isfinite(quick.dng.training.lr)


def test_published_rows_belong_to_published_zoos() -> None:
    assert published_row("small-cnn-zoo", ("cifar10",))["DNG-Encoder"] == 0.936
    assert published_row("cnn-wild-park", ())["NG-T"] == 0.817
    assert published_row("", ("digits",)) == {}
    assert published_row("small-cnn-zoo", ("mnist",)) == {}


def test_published_methods_compete_at_equal_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = write_run_zoo(tmp_path / "cnns.zoo", NARROW, WIDE)
    monkeypatch.setattr(module, "generalization_settings", lambda *_: replace(TINY, num_parameters=20_000))
    result = run_generalization(zoo, "quick", ["stat-nn"], 1, tmp_path / "run")
    assert abs(result.model("stat-nn").num_parameters - 20_000) <= 1_000
    assert mean_tau(result.model("stat-nn")) > 0.5
    assert "StatNN" in write_report(result, zoo, tmp_path / "run").read_text(encoding="utf-8")


def test_a_method_that_cant_take_the_zoo_stops_before_any_training(tmp_path: Path) -> None:
    zoo = write_run_zoo(tmp_path / "cnns.zoo", NARROW, WIDE)
    with pytest.raises(UsageError, match="nft can't take the zoo"):
        run_generalization(zoo, "quick", ["dng", "nft"], 1, tmp_path / "run")
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
        run_generalization(zoo, "quick", ["dng"], 1, tmp_path / name)
        found[name] = read_answers(tmp_path / name, "dng", 1)[0]["by_row"]
    assert found["plain"] != found["varied"]


def test_presets_differ_in_size_and_in_symmetries() -> None:
    quick, demo, paper = (generalization_settings(name, [NARROW], lambda _: 10) for name in ("quick", "demo", "paper"))
    assert quick.dng.symmetries == demo.dng.symmetries == Symmetries()
    assert paper.dng.symmetries is None
    assert paper.num_parameters is None
    for chosen in (quick, demo):
        config = PredictorConfig(1, chosen.dng.encoder, chosen.dng.head_dim)
        assert chosen.num_parameters == count_parameters(AccuracyPredictor(NARROW, config))
    assert demo.dng.training.steps < quick.dng.training.steps
    assert generalization_settings("quick", [NARROW], lambda _: 10, 5_000).num_parameters == 5_000
