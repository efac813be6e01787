import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dng.batches import TensorBatches
from dng.seed import seeded
from dng.train import TrainConfig, read_metrics, train
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
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    whole = Regression()
    train(whole, whole.batches(), CONFIG, tmp_path / "whole")
    stopped = Regression(stop_after)
    with pytest.raises(Stopped):
        train(stopped, stopped.batches(), CONFIG, tmp_path / "stopped")
    resumed = Regression()
    train(resumed, resumed.batches(), CONFIG, tmp_path / "stopped")
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
