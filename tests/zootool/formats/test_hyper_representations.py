import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.zootool.formats.converting import assert_claimed_by, assert_holds, column, converted, notes_of, save
from tests.zootool.formats.trained_here import (
    CNN3_SHAPES,
    CNN_SHAPES,
    PLACES,
    trial_output,
    trial_state,
    write_trial,
)
from zootool.errors import FormatError, MissingError, UsageError
from zootool.formats.hyper_representations import HyperRepresentations
from zootool.formats.options import ReadOptions


def states_of(seed: int, epochs: list[int], places: str = "plain") -> dict[int, Any]:
    shapes = CNN3_SHAPES if places == "cnn3" else CNN_SHAPES
    return {epoch: trial_state(1000 * seed + epoch, shapes, PLACES[places]) for epoch in epochs}


def named(trial: str, states: dict[int, Any], offset: int = 0) -> dict[str, Any]:
    return {f"{trial}/{epoch + offset:06d}": state for epoch, state in states.items()}


@pytest.mark.parametrize("name", ["checkpoint_{:06d}", "checkpoint_{}"])
@pytest.mark.parametrize("settings_name", ["params.json", "config.json"])
def test_trials_arrive_with_their_epochs(tmp_path: Path, name: str, settings_name: str) -> None:
    zoo_dir = tmp_path / "tune_zoo_mnist_uniform"
    kinds = {"a": ("plain", 0, "tanh"), "b": ("dropout", 0.1, "leakyrelu")}
    states, by_id = {}, {}
    for seed, (trial, (places, dropout, nlin)) in enumerate(kinds.items()):
        states[trial] = states_of(seed, [0, 1, 25], places)
        by_id |= named(trial, states[trial])
        write_trial(
            zoo_dir / trial, states[trial], list(range(26)), name=name, settings_name=settings_name,
            **{"model::dropout": dropout, "model::nlin": nlin},
        )  # fmt: skip
    assert_claimed_by("hyper-representations", zoo_dir)
    zoo = converted(zoo_dir, tmp_path / "x.zoo")
    assert_holds(zoo, by_id)
    assert column(zoo, "training_step")["b/000025"] == 25
    assert column(zoo, "test_accuracy")["b/000025"] == pytest.approx(0.275)
    assert column(zoo, "ggap")["b/000025"] == pytest.approx(0.25)
    assert column(zoo, "validation_loss")["a/000001"] == 2.5
    assert column(zoo, "train_loss")["a/000000"] is None
    assert column(zoo, "run_id")["a/000001"] == "a"
    assert column(zoo, "hp_model_dropout") == dict.fromkeys(named("a", states["a"]), 0) | dict.fromkeys(
        named("b", states["b"]), 0.1
    )
    assert column(zoo, "hp_optim_lr")["a/000000"] == 0.0003
    assert "hp_nested" not in zoo.nets
    assert zoo.info.sources[0].name == "mnist"
    images = torch.rand(2, 1, 28, 28)
    functions = {"a": torch.tanh, "b": functional.leaky_relu}
    for place, net_id in enumerate(column(zoo, "net_id")):
        wanted = trial_output(by_id[net_id], images, functions[net_id[0]], pooled=2)
        torch.testing.assert_close(zoo.module(place)(images), wanted, rtol=1e-5, atol=1e-6)


def test_the_cnn_for_colours_pools_three_times(tmp_path: Path) -> None:
    states = states_of(0, [0], "cnn3")
    write_trial(tmp_path / "z" / "t", states, [0], **{"model::nlin": "gelu", "dataset": "CIFAR10"})
    zoo = converted(tmp_path / "z", tmp_path / "x.zoo")
    images = torch.rand(2, 3, 32, 32)
    wanted = trial_output(states[0], images, functional.gelu, pooled=3)
    torch.testing.assert_close(zoo.module(0)(images), wanted, rtol=1e-5, atol=1e-6)
    assert zoo.info.sources[0].name == "cifar10"


def test_an_mlp_is_linear_layers_in_a_row(tmp_path: Path) -> None:
    state = trial_state(0, [(5, 16), (4, 5)], (0, 2))
    write_trial(tmp_path / "z" / "t", {0: state}, [0])
    zoo = converted(tmp_path / "z", tmp_path / "x.zoo")
    assert zoo.info.kind == "mlp"
    x = torch.rand(3, 16)
    first, first_bias, second, second_bias = state.values()
    wanted = torch.tanh(x @ first.T + first_bias) @ second.T + second_bias
    torch.testing.assert_close(zoo.module(0)(x), wanted)


def test_a_layer_without_a_bias(tmp_path: Path) -> None:
    state = trial_state(0, [(5, 16), (4, 5)], (0, 2))
    del state["module_list.0.bias"]
    write_trial(tmp_path / "z" / "t", {0: state}, [0])
    assert_holds(converted(tmp_path / "z", tmp_path / "x.zoo"), {"t/000000": state})


@pytest.mark.parametrize(
    ("epochs", "iterations", "offset", "without"),
    [
        ([0, 1, 2], [0, 1, 2], 0, 0),
        ([0, 1, 2], [1, 2, 3], 1, 0),
        ([1, 2, 3], [1, 2, 3], 0, 0),
        ([5, 10], [*range(1, 51)], 0, 0),
        # The network before training has no line: an offset that leaves out the last one explains no more.
        ([0, 1, 2], [1, 2], 0, 1),
    ],
)
def test_epochs_are_matched_by_training_iteration(
    tmp_path: Path, epochs: list[int], iterations: list[int], offset: int, without: int
) -> None:
    states = states_of(0, epochs)
    write_trial(tmp_path / "z" / "t", states, iterations)
    zoo = converted(tmp_path / "z", tmp_path / "x.zoo")
    assert_holds(zoo, named("t", states, offset))
    steps, accuracies = column(zoo, "training_step"), column(zoo, "test_accuracy")
    for net_id, step in steps.items():
        if step in iterations:
            assert accuracies[net_id] == pytest.approx(0.25 + step / 1000)
        else:
            assert accuracies[net_id] is None
    assert sum(value is None for value in accuracies.values()) == without
    assert (f"{without:,} checkpoints have no line" in notes_of(zoo)) == bool(without)
    assert zoo.info.recipe["training_step"].endswith(f"plus {offset}")


def test_a_line_that_was_written_again_counts(tmp_path: Path) -> None:
    write_trial(tmp_path / "t", states_of(0, [1]), [1])
    line = json.loads((tmp_path / "t" / "result.json").read_text())
    with (tmp_path / "t" / "result.json").open("a") as file:
        file.write("\n" + json.dumps(line | {"test_acc": 0.75}) + "\n")
    assert HyperRepresentations.read(tmp_path, ReadOptions()).table["test_accuracy"].to_pylist() == [0.75]


def test_splits_are_drawn_by_trial(tmp_path: Path) -> None:
    for i in range(20):
        write_trial(tmp_path / f"t{i}", states_of(i, [0, 1]), [0, 1])
    table = HyperRepresentations.read(tmp_path, ReadOptions()).table
    of_trial: dict[str, set[str]] = {}
    for trial, split in zip(table["run_id"].to_pylist(), table["split"].to_pylist(), strict=True):
        of_trial.setdefault(trial, set()).add(split)
    assert sorted(next(iter(splits)) for splits in of_trial.values()).count("train") == 14
    assert all(len(splits) == 1 for splits in of_trial.values())
    assert "0.7 / 0.15 / 0.15" in HyperRepresentations.read(tmp_path, ReadOptions()).conventions["splits"]


def test_steps_are_training_iterations(tmp_path: Path) -> None:
    write_trial(tmp_path / "t", states_of(0, [0, 1, 2]), [1, 2, 3])
    assert HyperRepresentations.read(tmp_path, ReadOptions(steps=(3,))).table["net_id"].to_pylist() == ["t/000003"]
    with pytest.raises(UsageError, match="step 0: there are 1, 2, 3"):
        HyperRepresentations.read(tmp_path, ReadOptions(steps=(0,)))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"model::nlin": "swish\x1b[2J"}, "the activation 'swish"),
        ({"model::nlin": 5}, "the activation '5'"),
        ({"model/nlin": 1, "model::nlin ": 2}, "would become the column"),
    ],
)
def test_settings_of_another_form_are_refused(tmp_path: Path, settings: dict[str, Any], problem: str) -> None:
    write_trial(tmp_path / "t", states_of(0, [0]), [0], **settings)
    with pytest.raises(FormatError, match=problem) as caught:
        HyperRepresentations.read(tmp_path, ReadOptions())
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"training_iteration": 0, "test_acc": 97.5}, r"test_acc is 97\.5"),
        ({"training_iteration": 1e300}, "training_iteration is '1e"),
        ({"test_acc": 0.5}, "training_iteration is 'None'"),
        ({"training_iteration": 0, "test_loss": "high"}, "test_loss is 'high'"),
        ([1], "a line that is no object"),
    ],
)
def test_results_of_another_form_are_refused(tmp_path: Path, line: Any, problem: str) -> None:
    write_trial(tmp_path / "t", states_of(0, [0]), [0])
    (tmp_path / "t" / "result.json").write_text(json.dumps(line) + "\n")
    with pytest.raises(FormatError, match=problem):
        HyperRepresentations.read(tmp_path, ReadOptions())


def test_a_line_that_is_cut_off_is_named(tmp_path: Path) -> None:
    write_trial(tmp_path / "t", states_of(0, [0, 1]), [0, 1])
    path = tmp_path / "t" / "result.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FormatError, match=r"result\.json line 2"):
        HyperRepresentations.read(tmp_path, ReadOptions())


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (trial_state(0, [(8, 1, 7, 7), (10, 8)], (0, 3)), r"convolutions of \(7,\)"),
        (trial_state(0, [(5, 16), (4, 6)], (0, 2)), r"a layer of \(4, 6\) behind one of 5 nodes"),
        ({"0.weight": torch.zeros(3, 4), "0.bias": torch.zeros(2)}, "don't fit together"),
        (trial_state(0, [(5, 16), (4, 6, 1, 1)], (0, 2)), r"convolutions of \(1,\)"),
        ({"bn.running_mean": torch.zeros(3)}, "wanted are layers in a row"),
        ({"a.bias": torch.zeros(3), "a.weight": torch.zeros(3, 3)}, "wanted are layers in a row"),
        ({"a.weight": torch.zeros(3, 3), "b.bias": torch.zeros(3)}, "has 'b.bias' of"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, state: Any, problem: str) -> None:
    write_trial(tmp_path / "t", {0: state}, [0])
    with pytest.raises(FormatError, match=problem):
        HyperRepresentations.read(tmp_path, ReadOptions())


def test_a_trial_whose_networks_change_is_refused(tmp_path: Path) -> None:
    write_trial(tmp_path / "z" / "t", states_of(0, [0, 1]), [0, 1])
    save(trial_state(0, CNN_SHAPES, PLACES["dropout"]), tmp_path / "z" / "t" / "checkpoint_000001" / "checkpoints")
    with pytest.raises(FormatError, match="checkpoint_000001"):
        converted(tmp_path / "z", tmp_path / "x.zoo")


def test_trials_whose_names_could_rewrite_a_terminal_are_refused(tmp_path: Path) -> None:
    write_trial(tmp_path / "t\x1b[2J", states_of(0, [0]), [0])
    with pytest.raises(FormatError, match="no control characters") as caught:
        HyperRepresentations.read(tmp_path, ReadOptions())
    assert "\x1b" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert not HyperRepresentations.detect(tmp_path)
    with pytest.raises(FormatError, match="holds no trials"):
        HyperRepresentations.read(tmp_path, ReadOptions())
    write_trial(tmp_path / "t", states_of(0, [0]), [0])
    (tmp_path / "t" / "params.json").unlink()
    assert not HyperRepresentations.detect(tmp_path)
    with pytest.raises(MissingError, match=r"params\.json or result\.json"):
        HyperRepresentations.read(tmp_path, ReadOptions())
    write_trial(tmp_path / "t", states_of(0, [0]), [0], name="checkpoint_{}")
    with pytest.raises(FormatError, match="are of one epoch"):
        HyperRepresentations.read(tmp_path, ReadOptions())
