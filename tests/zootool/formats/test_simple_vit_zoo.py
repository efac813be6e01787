import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.zootool.formats.converting import assert_claimed_by, assert_holds, column, converted, notes_of, save
from tests.zootool.formats.trained_here import (
    VIT_CONFIG,
    VIT_SETTINGS,
    old_vit_output,
    old_vit_state,
    vit_results,
    vit_state,
    write_vits,
)
from tests.zootool.nets.modules import SimpleVit
from zootool.errors import FormatError, MissingError, UsageError
from zootool.formats.options import ReadOptions
from zootool.formats.simple_vit_zoo import SimpleVitZoo
from zootool.zoo.export import export

MODELS = [(1, 0), (2, 1), (3, 2), (10, 23)]


def write_stat(root: Path, name: str, content: Any) -> None:
    (root / "stat" / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def vits(tmp_path: Path) -> Path:
    root = tmp_path / "cifar10_vit"
    write_vits(root, MODELS)
    # As two processes leave it: the file without numbers is the last one's.
    write_stat(root, "results_0_2.json", vit_results(MODELS[:2]))
    write_stat(root, "results_2_10.json", vit_results(MODELS[2:]))
    write_stat(root, "results.json", vit_results(MODELS[2:]))
    write_stat(root, "splits.json", {"train": [1, 2], "val": [3], "test": [10]})
    return root


def test_networks_accuracies_and_splits_arrive(vits: Path, tmp_path: Path) -> None:
    assert_claimed_by("simple-vit-zoo", vits)
    zoo = converted(vits, tmp_path / "x.zoo")
    states = {f"{model:06d}-{epoch:04d}": vit_state(100 * model + epoch) for model, epoch in MODELS}
    assert_holds(zoo, states)
    assert list(column(zoo, "test_accuracy").values()) == pytest.approx([0.31, 0.32, 0.33, 0.40])
    assert list(column(zoo, "train_accuracy").values()) == pytest.approx([0.41, 0.42, 0.43, 0.50])
    assert list(column(zoo, "split").values()) == ["train", "train", "validation", "test"]
    assert list(column(zoo, "training_step").values()) == [0, 1, 2, 23]
    assert "3 results files were merged" in notes_of(zoo)
    assert "percent" in notes_of(zoo)
    images = torch.rand(2, 3, 32, 32)
    for place, net_id in enumerate(column(zoo, "net_id")):
        vit = SimpleVit(VIT_CONFIG)
        vit.load_state_dict(states[net_id])
        torch.testing.assert_close(zoo.module(place)(images), vit(images), rtol=1e-4, atol=1e-5)


def test_older_networks_are_read_as_what_they_are(tmp_path: Path) -> None:
    root = tmp_path / "old"
    states = write_vits(root, MODELS[:2], old_vit_state)
    write_stat(root, "results.json", vit_results(MODELS))
    zoo = converted(root, tmp_path / "x.zoo")
    assert_holds(zoo, states)
    images = torch.rand(2, 3, 32, 32)
    for place, state in enumerate(states.values()):
        torch.testing.assert_close(zoo.module(place)(images), old_vit_output(state, images), rtol=1e-4, atol=1e-5)
    export(zoo, tmp_path / "out", "torch")
    for net_id, state in states.items():
        exported = torch.load(tmp_path / "out" / f"{net_id}.pth", weights_only=True)
        assert set(exported) == set(state), "the file's own keys"
        assert all(torch.equal(exported[key], state[key]) for key in state)


def test_a_zoo_of_two_versions_is_refused(vits: Path, tmp_path: Path) -> None:
    save(old_vit_state(3), vits / "vit_models" / "model_3_2.pth")
    with pytest.raises(FormatError, match=r"model_3_2\.pth"):
        converted(vits, tmp_path / "x.zoo")


def test_splits_of_the_last_shard_alone_leave_the_others_without(vits: Path, tmp_path: Path) -> None:
    write_stat(vits, "splits.json", {"train": [3], "val": [], "test": [10, 11]})
    zoo = converted(vits, tmp_path / "x.zoo")
    assert list(column(zoo, "split").values()) == [None, None, "train", "test"]
    assert "2 networks are in no split of splits.json" in notes_of(zoo)
    assert "lists 1 networks that aren't here" in notes_of(zoo)


def test_without_splits_the_rule_is_said(vits: Path) -> None:
    (vits / "stat" / "splits.json").unlink()
    found = SimpleVitZoo.read(vits, ReadOptions())
    assert found.conventions["splits"].startswith("by model: sorted names")
    assert any("splits are drawn by model" in note for note in found.notes)


def test_steps_are_epochs(vits: Path) -> None:
    assert len(SimpleVitZoo.read(vits, ReadOptions(steps=(0, 23)))) == 2
    with pytest.raises(UsageError, match="step 4: there are 0, 1, 2, 23"):
        SimpleVitZoo.read(vits, ReadOptions(steps=(4,)))


def test_networks_without_accuracies_are_noted(vits: Path, tmp_path: Path) -> None:
    (vits / "stat" / "results_0_2.json").unlink()
    zoo = converted(vits, tmp_path / "x.zoo")
    assert list(column(zoo, "test_accuracy").values())[:2] == [None, None]
    assert "2 networks have no accuracies" in notes_of(zoo)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("results.json", [{"model_id": 3, "epoch": 2, "test_accuracy": 1.0}], "contradicts another results file"),
        ("results.json", [{"model_id": 1, "epoch": 0, "test_accuracy": 1e9}], "test_accuracy is 1e"),
        ("results.json", [{"model_id": "one", "epoch": 0}], "model_id is 'one'"),
        ("results.json", [{"model_id": 1, "epoch": -5}], "epoch is '-5'"),
        ("results.json", {"a": 1}, "isn't a list of results"),
        ("results_0_2.json", "[{", "no readable JSON"),
        ("splits.json", {"train": [1], "test": [1]}, "has 1 in train and in test"),
        ("splits.json", {"train": ["\x1b[2J"]}, "wanted is a whole number"),
        ("vit_hyperparameters.json", VIT_SETTINGS | {"depth": 10_000}, "describes no network"),
        ("vit_hyperparameters.json", VIT_SETTINGS | {"depth": 1}, r"transformer\.layers\.1.*nothing of it"),
        ("vit_hyperparameters.json", VIT_SETTINGS | {"heads": 4}, r"to_qkv\.weight is \(48, 16\).*\(96, 16\)"),
        ("vit_hyperparameters.json", VIT_SETTINGS | {"dim": 10**9}, "dim is '1000000000'"),
        ("vit_hyperparameters.json", VIT_SETTINGS | {"patch_size": 5}, "no patch embedding for patches of 5"),
        ("vit_hyperparameters.json", {"depth": 2}, "patch_size is 'None'"),
        ("vit_hyperparameters.json", [], "wanted are hyper-parameters"),
    ],
)
def test_files_of_another_form_are_refused(vits: Path, name: str, content: Any, problem: str) -> None:
    write_stat(vits, name, content)
    with pytest.raises(FormatError, match=problem) as caught:
        SimpleVitZoo.read(vits, ReadOptions())
    assert "\x1b" not in str(caught.value)


def test_what_is_missing_is_named(vits: Path, tmp_path: Path) -> None:
    (vits / "stat" / "vit_hyperparameters.json").unlink()
    with pytest.raises(MissingError, match=r"vit_hyperparameters\.json"):
        SimpleVitZoo.read(vits, ReadOptions())
    with pytest.raises(FormatError, match="holds no networks"):
        SimpleVitZoo.read(tmp_path / "stat", ReadOptions())


def test_a_network_with_more_tensors_is_named(vits: Path) -> None:
    save(vit_state(1) | {"cls_token": torch.zeros(1, 1, 16)}, vits / "vit_models" / "model_1_0.pth")
    with pytest.raises(FormatError, match="cls_token"):
        SimpleVitZoo.read(vits, ReadOptions())
