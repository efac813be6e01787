from pathlib import Path

import pytest

from zootool.build.recipe import SirenRecipe, check_recipe, load_recipe, parse_overrides
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


def test_the_unit_size_follows_the_device() -> None:
    assert SirenRecipe().with_unit_size("cpu").unit_size == 256
    assert SirenRecipe().with_unit_size("cuda:1").unit_size == 4096
    assert SirenRecipe(unit_size=7).with_unit_size("cpu").unit_size == 7
