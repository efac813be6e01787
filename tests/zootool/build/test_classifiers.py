import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from tests.zootool.build.small import TINY, TINY_CNN, TINY_VIT, content, small_images, stamps
from zootool.architecture import Architecture
from zootool.build import CnnRecipe, VitRecipe, build_classifiers, build_sirens, finished_units, load_recipe_of
from zootool.build.classifier.classifier_data import classifier_data, grey, levels_of
from zootool.build.plan import plan_classifiers, status_of
from zootool.conversion.convert import append, convert
from zootool.engines.processes import ProcessEngine
from zootool.errors import FormatError, MissingError, NumericalError, UsageError
from zootool.images import Images, load_images
from zootool.store import WriteOptions
from zootool.zoo import open_zoo, verify

IMAGES = small_images()
BOTH = pytest.mark.parametrize("recipe", [TINY_CNN, TINY_VIT], ids=["cnn", "vit"])

AnyClassifier = CnnRecipe | VitRecipe


def table_of(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(unit.table_path) for unit in finished_units(folder)], ignore_index=True)


def changed(recipe: Any, **parts: object) -> Any:
    return recipe.model_copy(update=parts)


def accuracy(module: torch.nn.Module, images: Images, recipe: CnnRecipe | VitRecipe) -> float:
    test = classifier_data(images, recipe).test
    outputs = module(torch.from_numpy(levels_of(recipe.target)[test.pixels]).permute(0, 3, 1, 2))
    return float((outputs.argmax(1).numpy() == test.labels).mean())


def test_a_build_leaves_units_of_groups(tmp_path: Path) -> None:
    result = build_classifiers(IMAGES, TINY_CNN, tmp_path / "x")
    assert (result.num_networks, result.built, result.found, result.left) == (8, 8, 0, 0)
    units = finished_units(tmp_path / "x")
    assert [unit.num_networks for unit in units] == [3, 3, 2]
    assert max(len(unit.receipt.groups) for unit in units) > 1
    for unit in units:
        unit.check()
        assert unit.receipt.num_rows == 3 * unit.num_networks == len(pd.read_parquet(unit.table_path))
        tensors = load_file(unit.weights_path)
        for number, group in enumerate(unit.receipt.groups):
            for slot in Architecture.from_dict(group.architecture).slots:
                assert tensors.pop(f"g{number}/{slot.key}").shape == (group.num_rows, *slot.shape)
        assert not tensors


def test_the_table_says_what_every_checkpoint_is(tmp_path: Path) -> None:
    build_classifiers(IMAGES, TINY_CNN, tmp_path / "x")
    table = table_of(tmp_path / "x")
    assert sorted(table["net_id"]) == [f"{run:06d}-{epoch:03d}" for run in range(8) for epoch in (0, 1, 3)]
    assert set(table["training_step"]) == {0, 1, 3}
    assert (table.groupby("run_id")["training_step"].apply(list) == pd.Series([[0, 1, 3]] * 8).values).all()
    splits = table.groupby("run_id")["split"].unique().sort_index()
    assert [own.tolist() for own in splits] == [["train"]] * 6 + [["validation"], ["test"]]
    assert table["test_accuracy"].between(0, 1).all()
    assert table["train_accuracy"].between(0, 1).all()
    assert np.isfinite(table[["test_loss", "train_loss"]].to_numpy()).all()
    assert set(table["hp_optimiser"]) <= {"sgd", "adam", "rmsprop"}
    assert table["hp_lr"].between(5e-4, 5e-2).all()
    assert not {"label", "source_index"} & set(table.columns)


@BOTH
def test_a_second_run_finds_everything_and_more_runs_add_to_it(tmp_path: Path, recipe: AnyClassifier) -> None:
    build_classifiers(IMAGES, recipe, tmp_path / "x", runs=5)
    before = stamps(tmp_path / "x")
    assert build_classifiers(IMAGES, recipe, tmp_path / "x", runs=5).found == 5
    assert build_classifiers(IMAGES, recipe, tmp_path / "x", runs=8).built == 3
    assert stamps(tmp_path / "x").items() >= before.items()
    build_classifiers(IMAGES, recipe, tmp_path / "whole", runs=8)
    grown, whole = (table_of(tmp_path / name).set_index("net_id").sort_index() for name in ("x", "whole"))
    columns = ["test_loss", "train_accuracy", "training_step"]
    np.testing.assert_allclose(grown[columns].to_numpy(), whole[columns].to_numpy(), atol=1e-5)


@BOTH
def test_threads_processes_and_shares_give_the_same_bytes(tmp_path: Path, recipe: AnyClassifier) -> None:
    build_classifiers(IMAGES, recipe, tmp_path / "one", threads=1)
    build_classifiers(IMAGES, recipe, tmp_path / "two", threads=2)
    seen: list[int] = []
    build_classifiers(
        IMAGES, recipe, tmp_path / "there", engine=ProcessEngine(2), report=lambda _, done, total: seen.append(done)
    )
    for i in range(3):
        assert build_classifiers(IMAGES, recipe, tmp_path / "shares", share=(i, 3)).built == (3, 3, 2)[i]
    assert seen[-1] == 8
    for other in ("two", "there", "shares"):
        assert content(tmp_path / other) == content(tmp_path / "one")


def test_the_bytes_of_a_cnn_do_not_depend_on_its_company(tmp_path: Path) -> None:
    digests = []
    for size in (3, 8):
        build_classifiers(IMAGES, changed(TINY_CNN, unit_size=size), tmp_path / str(size))
        convert(tmp_path / str(size), tmp_path / f"{size}.zoo")
        nets = open_zoo(tmp_path / f"{size}.zoo").nets
        digests.append(dict(zip(nets["net_id"], nets["digest"], strict=True)))
    assert digests[0] == digests[1]


def test_a_builder_that_is_killed_loses_one_unit(tmp_path: Path) -> None:
    recipe = changed(TINY_CNN, checkpoints=(0, 3000))
    build_classifiers(IMAGES, recipe, tmp_path / "whole")
    command = [sys.executable, "-m", "tests.zootool.build.classifiers_here", str(tmp_path / "killed"), "3000", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(3000):
        if (tmp_path / "killed" / "recipe.yaml").exists() and finished_units(tmp_path / "killed"):
            break
        time.sleep(0.01)
    process.kill()
    process.communicate()
    finished = stamps(tmp_path / "killed")
    assert 1 <= len(finished_units(tmp_path / "killed")) < 3
    assert build_classifiers(IMAGES, recipe, tmp_path / "killed").left == 0
    assert stamps(tmp_path / "killed").items() >= finished.items()
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("key", "recipe", "runs"),
    [
        ("seed", changed(TINY_CNN, seed=1), None),
        ("lr", changed(TINY_CNN, lr=(1e-3, 1e-2)), None),
        ("kind", TINY_VIT, None),
        ("runs", TINY_CNN, 4),
    ],
)
def test_any_other_change_is_refused_by_name(tmp_path: Path, key: str, recipe: AnyClassifier, runs: int | None) -> None:
    build_classifiers(IMAGES, TINY_CNN, tmp_path / "x")
    before = content(tmp_path / "x")
    with pytest.raises(UsageError, match=f"{key} = "):
        build_classifiers(IMAGES, recipe, tmp_path / "x", runs=runs)
    with pytest.raises(UsageError, match="kind = "):
        build_sirens(IMAGES, TINY, tmp_path / "x")
    assert content(tmp_path / "x") == before


def test_the_store_gives_back_every_network_and_its_accuracy(tmp_path: Path) -> None:
    images = load_images("digits")
    parts = {"checkpoints": (0, 5), "unit_size": 4, "heads": ("pool", "flatten"), "optimisers": ("adam",)}
    few = {"train_images": 300, "test_images": 200}
    for recipe in (
        load_recipe_of(CnnRecipe, "small-cnn", "digits", few | {"checkpoints": (0, 2), "unit_size": 6}),
        load_recipe_of(CnnRecipe, "wild-park-plus", "digits", few | parts),
        load_recipe_of(VitRecipe, "simple-vit", "digits", few | {"epochs": (0, 1), "dim": 16}),
    ):
        name = recipe.name
        out = tmp_path / name
        build_classifiers(images, recipe, out, runs=6)
        convert(out, tmp_path / f"{name}.zoo")
        zoo = open_zoo(tmp_path / f"{name}.zoo")
        assert verify(tmp_path / f"{name}.zoo").passed
        assert zoo.info.kind == recipe.kind
        assert zoo.info.sources[0].name == "digits"
        stored = {row["net_id"]: row for unit in finished_units(out) for row in rows_of(unit.folder, unit.number)}
        assert len(stored) == len(zoo)
        for index, net_id in enumerate(zoo.nets["net_id"]):
            wanted = stored[net_id]["state"]
            found = {key: tensor.numpy() for key, tensor in zoo.state_dict(index).items()}
            assert list(found) == list(wanted)
            assert all(np.array_equal(found[key], wanted[key]) for key in wanted)
            recorded = zoo.nets["test_accuracy"][index]
            assert accuracy(zoo.module(index), images, recipe) == pytest.approx(recorded, abs=1e-6)


def rows_of(folder: Path, number: int) -> list[dict[str, Any]]:
    """The rows of a unit, each with its state_dict, read by hand."""
    unit = finished_units(folder)[number]
    rows: list[dict[str, Any]] = pd.read_parquet(unit.table_path).to_dict("records")  # type: ignore[assignment]
    tensors, first = load_file(unit.weights_path), 0
    for group, described in enumerate(unit.receipt.groups):
        keys = [slot.key for slot in Architecture.from_dict(described.architecture).slots]
        for i in range(described.num_rows):
            rows[first + i]["state"] = {key: tensors[f"g{group}/{key}"][i] for key in keys}
        first += described.num_rows
    return rows


def test_units_are_appended_to_a_store(tmp_path: Path) -> None:
    build_classifiers(IMAGES, TINY_CNN, tmp_path / "a", runs=4)
    build_classifiers(IMAGES, TINY_CNN, tmp_path / "b", runs=8)
    for unit in finished_units(tmp_path / "b")[:2]:
        unit.receipt_path.unlink()
    convert(tmp_path / "a", tmp_path / "x.zoo")
    append(tmp_path / "b", tmp_path / "x.zoo")
    assert verify(tmp_path / "x.zoo").passed
    assert len(open_zoo(tmp_path / "x.zoo")) == 3 * (4 + 2)


def test_a_receipt_without_groups_is_bad_data(tmp_path: Path) -> None:
    build_classifiers(IMAGES, TINY_CNN, tmp_path / "x", runs=2)
    receipt = finished_units(tmp_path / "x")[0].receipt_path
    receipt.write_text(receipt.read_text().replace('"groups"', '"troops"'))
    with pytest.raises(FormatError, match="lists no groups"):
        convert(tmp_path / "x", tmp_path / "x.zoo")


@pytest.mark.parametrize(("kind", "name", "chance"), [(CnnRecipe, "small-cnn", 0.5), (VitRecipe, "simple-vit", 0.3)])
def test_digits_are_classified(tmp_path: Path, kind: Any, name: str, chance: float) -> None:
    quick = {"checkpoints": (0, 12), "optimisers": ("adam",), "lr": (5e-3, 1e-2), "init_kinds": ("he_normal",)}
    quick |= {"dropout": (0, 0.1), "train_fractions": (1.0,), "l2": (1e-8, 1e-6)}
    recipe = load_recipe_of(kind, name, "digits", quick if kind is CnnRecipe else {"epochs": (4,), "lr": 3e-3})
    build_classifiers(load_images("digits"), recipe, tmp_path / "x", runs=2)
    table = table_of(tmp_path / "x")
    last = table[table["training_step"] == table["training_step"].max()]
    assert (last["test_accuracy"] > chance).all()
    assert (last["train_accuracy"] > chance).all()
    assert (last["test_loss"] < 2).all()


def test_networks_that_diverge_are_recorded_and_flagged(tmp_path: Path) -> None:
    wild = changed(TINY_CNN, lr=(1e30, 1e38), optimisers=("sgd",))
    result = build_classifiers(IMAGES, wild, tmp_path / "x")
    table = table_of(tmp_path / "x")
    assert result.num_diverged == table[table["diverged"]]["run_id"].nunique() > 0
    assert not table[table["training_step"] == 0]["diverged"].any()
    assert table["test_accuracy"].between(0, 1).all()
    assert table["train_accuracy"].between(0, 1).all()
    assert status_of(tmp_path / "x").num_diverged == result.num_diverged
    with pytest.raises(NumericalError, match="NaN"):
        convert(tmp_path / "x", tmp_path / "x.zoo")
    convert(tmp_path / "x", tmp_path / "x.zoo", options=WriteOptions(nonfinite="keep"))
    zoo = open_zoo(tmp_path / "x.zoo")
    assert np.array_equal(zoo.nets["is_finite"] | zoo.nets["diverged"], np.ones(len(zoo), bool))


@pytest.mark.parametrize(
    ("recipe", "runs", "message"),
    [
        (TINY_CNN, 0, "--runs must be at least 1 and at most 1,000,000, got 0"),
        (changed(TINY_CNN, kernels=(7,), padding="valid"), None, "doesn't fit images of 4 x 4"),
        (changed(TINY_CNN, heads=("flatten",), max_edges_per_pair=9), None, "flatten head has 16 edges per pair"),
        (changed(TINY_VIT, patch_size=3), None, "patches of 3 x 3, the images are 4 x 4"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_built(
    tmp_path: Path, recipe: AnyClassifier, runs: int | None, message: str
) -> None:
    for attempt in (
        lambda: build_classifiers(IMAGES, recipe, tmp_path / "x", runs=runs),
        lambda: plan_classifiers(IMAGES, recipe, runs=runs),
    ):
        with pytest.raises(UsageError, match=message):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_other_devices_and_lacking_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'cuda'"):
        build_classifiers(IMAGES, TINY_CNN, tmp_path / "x", device="cuda")
    with pytest.raises(MissingError, match="no test images"):
        build_classifiers(small_images(test=0), TINY_CNN, tmp_path / "x")
    with pytest.raises(UsageError, match="2 channels have no grey"):
        build_classifiers(small_images(channels=2), TINY_CNN, tmp_path / "x")


def test_colours_become_grey_by_the_stated_rule(tmp_path: Path) -> None:
    pixels = np.array([[[[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3]]]], np.uint8)
    assert grey(pixels)[0, 0, :, 0].tolist() == [255, 76, 150, 29, 2]
    colours = small_images(channels=3)
    build_classifiers(colours, TINY_CNN, tmp_path / "x", runs=2)
    build_classifiers(replace(colours, pixels=grey(colours.pixels)), TINY_CNN, tmp_path / "y", runs=2)
    weights = [content(tmp_path / name)["units/00000.safetensors"] for name in ("x", "y")]
    assert weights[0] == weights[1]
    build_classifiers(colours, changed(TINY_CNN, grey=False), tmp_path / "z", runs=2)
    assert load_file(tmp_path / "z" / "units" / "00000.safetensors")["g0/layers.0.weight"].shape[2] == 3


def test_fewer_images_take_part_where_the_recipe_says_so() -> None:
    data = classifier_data(IMAGES, changed(TINY_CNN, train_images=3, test_images=1))
    assert np.array_equal(data.train.pixels, IMAGES.pixels[:3])
    assert np.array_equal(data.test.labels, IMAGES.labels[10:11])
    data = classifier_data(small_images(test=0), changed(TINY_CNN, test_split="validation"))
    assert np.array_equal(data.test.pixels, IMAGES.pixels[8:10])


@BOTH
def test_a_plan_counts_and_estimates(tmp_path: Path, recipe: AnyClassifier) -> None:
    plan = plan_classifiers(IMAGES, recipe)
    assert (plan.num_images, plan.num_networks, plan.num_units) == (10, 8, 3)
    assert plan.seconds > 0
    build_classifiers(IMAGES, recipe, tmp_path / "x")
    written = sum(unit.weights_path.stat().st_size for unit in finished_units(tmp_path / "x"))
    assert plan.disk_bytes / 3 < written < plan.disk_bytes * 3
    assert plan.memory_bytes > 0


def test_the_status_counts_runs(tmp_path: Path) -> None:
    build_classifiers(IMAGES, TINY_CNN, tmp_path / "x", share=(0, 2))
    status = status_of(tmp_path / "x")
    assert (status.num_units, status.done, status.waiting) == (3, 2, 1)
    assert (status.num_networks_done, status.num_networks) == (5, 8)
