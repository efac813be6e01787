from pathlib import Path

import pytest

from zootool.build.recipe import (
    CnnRecipe,
    SirenRecipe,
    VitRecipe,
    check_recipe,
    load_any_recipe,
    load_recipe,
    load_recipe_of,
    parse_overrides,
)
from zootool.catalog import load_catalog
from zootool.errors import FormatError, UsageError


def test_the_shipped_recipe_is_that_of_the_published_sets() -> None:
    recipe = load_recipe("inr-nfn", "cifar100")
    assert recipe.hidden == (32, 32)
    assert (recipe.omega_0, recipe.lr, recipe.steps, recipe.copies) == (30.0, 5e-5, 5000, 10)
    assert (recipe.target, recipe.output_offset, recipe.init) == ((-1.0, 1.0), 0.0, "random")
    assert recipe.architecture(3).num_edges + recipe.architecture(3).num_nodes == 1251
    assert recipe == SirenRecipe()


def test_the_digits_have_no_copies() -> None:
    assert load_recipe("inr-nfn", "digits").copies == 0


def test_overrides_win() -> None:
    recipe = load_recipe("inr-nfn", "digits", parse_overrides(["hidden=64,64", "lr=1e-4", "init=shared"]))
    assert (recipe.hidden, recipe.lr, recipe.init) == ((64, 64), 1e-4, "shared")


@pytest.mark.parametrize("word", ["step=1", "steps", "=1", "steps=["])
def test_overrides_that_cannot_be_meant_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="steps"):
        parse_overrides([word])


def test_an_unknown_recipe_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'inr-nfn'"):
        load_recipe("inr-nfm")


def test_every_problem_of_a_recipe_is_named_at_once() -> None:
    with pytest.raises(FormatError) as caught:
        check_recipe("x", {"step": 5, "lr": -1, "hidden": [], "target": [1, -1]})
    assert "4 problems" in str(caught.value)
    assert "step: unknown key, did you mean 'steps'" in str(caught.value)


def test_the_parts_for_single_image_sets_are_checked_too() -> None:
    with pytest.raises(FormatError, match="per_dataset digits"):
        check_recipe("x", {"per_dataset": {"digits": {"copies": -1}}})


def test_shared_initialisations_make_no_copies() -> None:
    with pytest.raises(UsageError, match="copies"):
        load_recipe("inr-nfn", "cifar10", {"init": "shared"})


def test_recipes_come_from_any_catalog(tmp_path: Path) -> None:
    path = tmp_path / "datasets.yaml"
    path.write_text("image_sets: {}\nrecipes:\n  mine: {steps: 7}\n")
    assert load_recipe("mine", catalog=load_catalog(path)).steps == 7


def test_the_small_cnn_zoos_recipe_is_the_publications() -> None:
    recipe = load_recipe_of(CnnRecipe, "small-cnn", "mnist")
    assert recipe == CnnRecipe()
    assert (recipe.batch_size, recipe.checkpoints) == (512, (0, 1, 2, 3, 20, 40, 60, 80, 86))
    digits = load_recipe_of(CnnRecipe, "small-cnn", "digits")
    assert digits == CnnRecipe(strides=(1,), batch_size=32)


def test_the_vit_zoos_recipe_is_the_published_runs() -> None:
    recipe = load_recipe_of(VitRecipe, "simple-vit", "cifar10")
    assert recipe == VitRecipe()
    architecture = recipe.architecture(3, 10)
    assert (architecture.num_edges, architecture.num_nodes) == (26432, 234)


def test_a_recipe_of_another_kind_is_named_with_its_command() -> None:
    with pytest.raises(UsageError, match="of kind cnn") as caught:
        load_recipe("small-cnn")
    assert caught.value.hint == "run `zoo build cnn`"
    assert load_any_recipe("simple-vit").kind == "vit"
    with pytest.raises(FormatError, match="no zoo is of kind 'cnm'"):
        check_recipe("x", {"kind": "cnm"})


@pytest.mark.parametrize(
    ("kind", "parts", "message"),
    [
        ("cnn", {"optimisers": ["sgd", "adamax"]}, "optimisers"),
        ("cnn", {"optimisers": []}, "optimisers"),
        ("cnn", {"kernels": [9]}, "81 edges per pair, encoders take up to max_edges_per_pair = 49"),
        ("cnn", {"lr": [1e-2, 1e-3]}, "the least, then the most"),
        ("cnn", {"lr": [0, 1e-3]}, "lr"),
        ("cnn", {"dropout": [0, 1]}, "dropout"),
        ("cnn", {"num_convolutions": [0, 3]}, "num_convolutions"),
        ("cnn", {"train_fractions": [0.5, 1.5]}, "train_fractions"),
        ("cnn", {"checkpoints": [0, 5, 5]}, "rising order"),
        ("cnn", {"split_ratios": [0.5, 0.1, 0.1]}, "add up to 1"),
        ("cnn", {"activations": ["softplus"]}, "activations"),
        ("cnn", {"init_kinds": ["lecun"]}, "init_kinds"),
        ("cnn", {"runs": 0}, "runs"),
        ("cnn", {"train_images": 0}, "train_images"),
        ("vit", {"dim": 30}, "multiple of 4"),
        ("vit", {"epochs": []}, "epochs"),
        ("vit", {"crop": -1}, "crop"),
        ("vit", {"step": 1}, "unknown key"),
    ],
)
def test_recipes_for_classifiers_are_checked(kind: str, parts: dict, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        check_recipe("x", {"kind": kind, **parts})


def test_overrides_of_classifiers_are_lists_or_single_values() -> None:
    words = ["optimisers=adam", "lr=1e-3,1e-2", "checkpoints=0,5", "train_images=100", "strides=1"]
    recipe = load_recipe_of(CnnRecipe, "small-cnn", "mnist", parse_overrides(words, CnnRecipe))
    assert (recipe.optimisers, recipe.lr, recipe.checkpoints) == (("adam",), (1e-3, 1e-2), (0, 5))
    assert (recipe.train_images, recipe.strides) == (100, (1,))
    with pytest.raises(UsageError, match="no recipe has the key 'steps'"):
        parse_overrides(["steps=3"], CnnRecipe)


def test_the_unit_size_follows_the_device() -> None:
    assert SirenRecipe().with_unit_size("cpu").unit_size == 256
    assert SirenRecipe().with_unit_size("cuda:1").unit_size == 4096
    assert CnnRecipe().with_unit_size("cpu").unit_size == 64
    assert SirenRecipe(unit_size=7).with_unit_size("cpu").unit_size == 7
