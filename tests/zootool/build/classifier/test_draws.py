import math

import numpy as np
import pytest

from zootool.build.classifier.draws import CnnRun, draw_run
from zootool.build.recipe import CnnRecipe, load_recipe_of
from zootool.errors import UsageError

DIGITS, CIFAR = (8, 8, 1), (32, 32, 3)


def runs_of(recipe: CnnRecipe, count: int = 300, shape: tuple[int, int, int] = DIGITS) -> list[CnnRun]:
    return [draw_run(recipe, run, shape, 10) for run in range(count)]


def test_hyper_parameters_fill_their_ranges() -> None:
    recipe = load_recipe_of(CnnRecipe, "small-cnn", "digits")
    runs = runs_of(recipe)
    for name in ("lr", "l2", "init_std"):
        low, high = (math.log(bound) for bound in getattr(recipe, name))
        places = [(math.log(getattr(run, name)) - low) / (high - low) for run in runs]
        assert 0 <= min(places) < 0.03 < 0.97 < max(places) <= 1
        assert abs(np.mean(places) - 0.5) < 0.06
    dropouts = [run.dropout for run in runs]
    assert 0 <= min(dropouts) < 0.03
    assert 0.67 < max(dropouts) < 0.7
    assert {run.optimiser for run in runs} == {"sgd", "adam", "rmsprop"}
    assert {run.init_kind for run in runs} == set(recipe.init_kinds)
    assert {run.train_fraction for run in runs} == {0.1, 0.25, 0.5, 1.0}
    assert {run.config.activations for run in runs} == {("relu",) * 3, ("tanh",) * 3}
    assert {(run.config.channels, run.config.kernels, run.config.strides) for run in runs} == {
        ((1, 16, 16, 16), (3, 3, 3), (1, 1, 1))
    }


def test_a_run_follows_from_seed_and_number_alone() -> None:
    recipe = load_recipe_of(CnnRecipe, "small-cnn", "digits")
    assert draw_run(recipe, 7, DIGITS, 10) == runs_of(recipe, 8)[7]
    assert draw_run(recipe.model_copy(update={"seed": 1}), 7, DIGITS, 10) != draw_run(recipe, 7, DIGITS, 10)
    # Zoos are made from these numbers: a change here would make them irreproducible.
    assert draw_run(recipe, 0, DIGITS, 10).lr == pytest.approx(float.fromhex("0x1.72da567718a55p-11"), rel=1e-12)


def test_the_wild_parks_architectures_are_wild() -> None:
    configs = [run.config for run in runs_of(load_recipe_of(CnnRecipe, "wild-park"), shape=CIFAR)]
    assert {config.num_convolutions for config in configs} == {2, 3, 4, 5}
    assert {c for config in configs for c in config.channels[1:]} == {4, 8, 16, 32}
    assert {k for config in configs for k in config.kernels} == {3, 5, 7}
    activations = {a for config in configs for a in config.activations}
    assert activations == {"relu", "gelu", "tanh", "sigmoid", "leaky_relu", "none"}
    assert all(config.channels[0] == 3 and config.sides == (config.sides[0],) * len(config.sides) for config in configs)
    added = [(i, source) for config in configs for i, source in enumerate(config.residuals) if source is not None]
    assert all(source < i - 1 for i, source in added)
    assert len({pair for pair in added}) == 6
    assert any(len(set(config.activations)) > 1 for config in configs)


def test_wild_park_plus_flattens_what_encoders_can_take() -> None:
    configs = [run.config for run in runs_of(load_recipe_of(CnnRecipe, "wild-park-plus"), shape=CIFAR)]
    flattened = [math.prod(config.sides[-1]) for config in configs if config.head == "flatten"]
    assert 20 < len(flattened) < 150
    assert max(flattened) <= 49
    assert max(config.num_convolutions for config in configs) == 8
    for config in configs:
        for i, source in enumerate(config.residuals):
            assert source is None or config.sides[source + 1] == config.sides[i + 1]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"strides": (2,)}, r"8 x 8: run 0's convolution 2 has a kernel of 3 for a map of 1 x 1"),
        ({"heads": ("flatten",), "max_edges_per_pair": 9, "strides": (1,), "padding": "same"}, "flatten head has 64"),
    ],
)
def test_what_does_not_fit_is_named(parts: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        draw_run(CnnRecipe(**parts), 0, DIGITS, 10)
