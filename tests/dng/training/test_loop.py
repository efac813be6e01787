import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dng.training.batches import TensorBatches
from dng.training.loop import TrainConfig, read_metrics, train
from dng.training.seed import seeded
from zootool.errors import NumericalError, UsageError

CONFIG = TrainConfig(steps=12, batch_size=4, lr=1e-2, validate_every=3, higher_is_better=False)


class Stopped(Exception):
    pass


class Regression:
    """Predicts a sum of inputs, through a dropout layer so that randomness matters."""

    def __init__(self, stop_after: int | None = None, scores: list[float] | None = None) -> None:
        with seeded(0):
            self.model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
            self.x = torch.randn(10, 3)
        self.y = self.x.sum(1, keepdim=True)
        self.stop_after, self.calls, self.scores = stop_after, 0, scores

    def batches(self) -> TensorBatches:
        return TensorBatches((self.x, self.y), 4, seed=1)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.calls += 1
        if self.calls == self.stop_after:
            raise Stopped
        return (self.model(batch[0]) - batch[1]).square().mean()

    def validate(self) -> float:
        if self.scores:
            return self.scores.pop(0)
        return (self.model(self.x) - self.y).square().mean().item()

    def describe(self, batch: tuple[Tensor, Tensor]) -> str:
        return f"{len(batch[0])} rows"


def weights(task: Regression) -> list[Tensor]:
    return [value.clone() for value in task.model.state_dict().values()]


@pytest.mark.parametrize("stop_after", [2, 5, 8, 12])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, stop_after: int, ema: float | None) -> None:
    config = replace(CONFIG, ema=ema)
    whole = Regression()
    train(whole, whole.batches(), config, tmp_path / "whole")
    stopped = Regression(stop_after)
    with pytest.raises(Stopped):
        train(stopped, stopped.batches(), config, tmp_path / "stopped")
    resumed = Regression()
    train(resumed, resumed.batches(), config, tmp_path / "stopped")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    assert read_metrics(tmp_path / "whole") == read_metrics(tmp_path / "stopped")


def test_the_model_holds_what_validation_picked(tmp_path: Path) -> None:
    task = Regression(scores=[3.0, 1.0, 2.0, 4.0])
    result = train(task, task.batches(), CONFIG, tmp_path)
    assert (result.best_step, result.best_score) == (6, 1.0)
    stopped = Regression(scores=[3.0, 1.0])
    train(stopped, stopped.batches(), replace(CONFIG, steps=6), tmp_path / "six")
    assert all(torch.equal(a, b) for a, b in zip(weights(task), weights(stopped), strict=True))


def test_a_finished_run_is_loaded_not_trained(tmp_path: Path) -> None:
    first = Regression()
    train(first, first.batches(), CONFIG, tmp_path)
    second = Regression()
    result = train(second, second.batches(), CONFIG, tmp_path)
    assert result.skipped
    assert second.calls == 0
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    task = Regression()
    train(task, task.batches(), CONFIG, tmp_path)
    with pytest.raises(UsageError, match=r"lr=0\.01, this one has lr=0\.1"):
        train(task, task.batches(), replace(CONFIG, lr=0.1), tmp_path)


def test_a_loss_that_is_not_finite_names_step_and_batch(tmp_path: Path) -> None:
    task = Regression()
    task.y[:] = float("inf")
    with pytest.raises(NumericalError, match="inf at step 0, on 4 rows"):
        train(task, task.batches(), CONFIG, tmp_path)


def test_the_learning_rate_warms_up(tmp_path: Path) -> None:
    task = Regression()
    config = replace(CONFIG, warmup_start=0.5, warmup_per_step=0.1)
    train(task, task.batches(), config, tmp_path)
    rates = [line["lr"] for line in read_metrics(tmp_path)]
    assert rates == pytest.approx([0.007, 0.01, 0.01, 0.01])


def test_the_learning_rate_decays_along_a_cosine(tmp_path: Path) -> None:
    config = replace(CONFIG, decay="cosine", validate_every=4)
    assert config.lr_factor(0) == 1
    assert config.lr_factor(6) == pytest.approx(0.5)
    assert config.lr_factor(12) == pytest.approx(0)
    task = Regression()
    train(task, task.batches(), config, tmp_path)
    # The rates of the steps 3, 7 and 11, which came before the validations.
    factors = [line["lr"] / CONFIG.lr for line in read_metrics(tmp_path)]
    assert factors == pytest.approx([0.85355, 0.37059, 0.01704], abs=1e-5)


def test_optimisers_and_clipping_have_an_effect(tmp_path: Path) -> None:
    losses = []
    decayed = replace(CONFIG, optimizer="adamw", weight_decay=5.0)
    clipped = replace(CONFIG, clip=1e-12)
    for index, config in enumerate([CONFIG, decayed, clipped]):
        task = Regression()
        train(task, task.batches(), config, tmp_path / str(index))
        losses.append(read_metrics(tmp_path / str(index))[-1]["loss"])
    assert len(set(losses)) == 3


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="steps must be at least 1, got 0"):
        TrainConfig(steps=0)


def test_epochs_cover_everything_once_in_a_new_order() -> None:
    stream = iter(TensorBatches((torch.arange(10),), 4, seed=0))
    epochs = [torch.cat([next(stream)[0] for _ in range(3)]).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]


def test_no_batch_of_one_is_left_over() -> None:
    stream = iter(TensorBatches((torch.arange(9),), 4, seed=0))
    assert [len(next(stream)[0]) for _ in range(3)] == [4, 5, 4]


def test_metrics_are_json_lines(tmp_path: Path) -> None:
    task = Regression()
    train(task, task.batches(), CONFIG, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 6, 9, 12]


def test_the_picked_weights_are_the_moving_average(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=3, validate_every=1, ema=0.15)
    after_each_step = []
    for steps in (1, 2, 3):
        task = Regression()
        train(task, task.batches(), replace(config, steps=steps, ema=None, validate_every=steps), tmp_path / str(steps))
        after_each_step.append(weights(task))
    averaged = Regression(scores=[3.0, 2.0, 1.0])
    average = weights(averaged)
    train(averaged, averaged.batches(), config, tmp_path / "averaged")
    for decay, trained in zip((1 / 10, 0.15, 0.15), after_each_step, strict=True):
        average = [decay * a + (1 - decay) * b for a, b in zip(average, trained, strict=True)]
    torch.testing.assert_close(weights(averaged), average)


def test_a_score_that_is_not_finite_stops(tmp_path: Path) -> None:
    task = Regression(scores=[1.0, float("nan")])
    with pytest.raises(NumericalError, match="the validation score is nan at step 6"):
        train(task, task.batches(), CONFIG, tmp_path)


def test_a_line_that_a_killed_run_left_unfinished_is_dropped(tmp_path: Path) -> None:
    stopped = Regression(stop_after=8)
    with pytest.raises(Stopped):
        train(stopped, stopped.batches(), CONFIG, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as sink:
        sink.write('{"step": 9, "lo')
    resumed = Regression()
    train(resumed, resumed.batches(), CONFIG, tmp_path)
    assert [line["step"] for line in read_metrics(tmp_path)] == [3, 6, 9, 12]


def test_tensorboard_gets_the_curves_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            written.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

        def close(self) -> None:
            written.append("closed")

    installed = types.ModuleType("torch.utils.tensorboard")
    monkeypatch.setattr(installed, "SummaryWriter", Writer, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", installed)
    task = Regression()
    train(task, task.batches(), replace(CONFIG, steps=3), tmp_path)
    curves = [("loss", 3), ("score", 3), ("lr", 3)]
    assert written == [(str(tmp_path / "tensorboard"), 1), *curves, "closed"]


def test_without_tensorboard_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    task = Regression()
    train(task, task.batches(), CONFIG, tmp_path)
    assert not (tmp_path / "tensorboard").exists()


def test_bfloat16_computes_otherwise_and_keeps_float32_weights(tmp_path: Path) -> None:
    task, exact = Regression(), Regression()
    train(task, task.batches(), replace(CONFIG, precision="bfloat16"), tmp_path / "bfloat16")
    train(exact, exact.batches(), CONFIG, tmp_path / "float32")
    assert all(value.dtype == torch.float32 for value in weights(task))
    losses = [read_metrics(tmp_path / name)[-1]["loss"] for name in ("bfloat16", "float32")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
