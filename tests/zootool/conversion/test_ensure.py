from pathlib import Path

import pytest

from zootool.conversion.ensure import ensure_zoo
from zootool.errors import UsageError
from zootool.zoo import open_zoo

FEW_IMAGES = {"train_images": 40, "test_images": 20}


@pytest.mark.parametrize(
    ("recipe", "parts"),
    [
        ("small-cnn", FEW_IMAGES | {"checkpoints": [0], "unit_size": 2}),
        ("simple-vit", FEW_IMAGES | {"epochs": [0], "dim": 8, "depth": 1}),
    ],
)
def test_a_zoo_is_built_and_converted_once(tmp_path: Path, recipe: str, parts: dict) -> None:
    first = ensure_zoo("digits", recipe, parts, tmp_path / "x.zoo", runs=3)
    assert first.built is not None
    assert (first.built.built, first.built.folder, first.converted) == (3, tmp_path / "x", True)
    assert len(open_zoo(first.store)) == 3
    again = ensure_zoo("digits", recipe, parts, tmp_path / "x.zoo", runs=3)
    assert (again.store, again.built, again.converted) == (first.store, None, False)


def test_units_are_compared_with_the_recipe_where_that_is_asked_for(tmp_path: Path) -> None:
    parts = FEW_IMAGES | {"checkpoints": [0]}
    ensure_zoo("digits", "small-cnn", parts, tmp_path / "x.zoo", units=tmp_path / "units", runs=2)
    found = ensure_zoo(
        "digits", "small-cnn", parts, tmp_path / "x.zoo", units=tmp_path / "units", runs=2, check_units=True
    )
    assert found.built is not None
    assert (found.built.found, found.converted) == (2, False)
    with pytest.raises(UsageError, match="seed = 0"):
        ensure_zoo(
            "digits", "small-cnn", parts | {"seed": 1}, tmp_path / "x.zoo", units=tmp_path / "units", runs=2,
            check_units=True,
        )  # fmt: skip
