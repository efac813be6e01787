"""A store of networks that were trained on an image set: built and converted where it isn't there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zootool.build import BuildResult, SirenRecipe, build_classifiers, build_sirens
from zootool.build.recipe import load_any_recipe
from zootool.conversion.convert import convert
from zootool.images import load_images
from zootool.progress import Reporter, silent


@dataclass(frozen=True)
class EnsuredZoo:
    """A store that is there now, and what that took: `built` is None where the units weren't asked for."""

    store: Path
    built: BuildResult | None
    converted: bool


def ensure_zoo(
    dataset: str,
    recipe: str,
    overrides: Mapping[str, Any],
    store: Path,
    *,
    units: Path | None = None,
    runs: int | None = None,
    check_units: bool = False,
    report: Reporter = silent,
) -> EnsuredZoo:
    """The store `store` of networks on `dataset` by the recipe of that name, `runs` of them where it says how many.

    The networks go into the folder `units`, by default `store` without its suffix. Where the store is there nothing is
    done; `check_units` compares the folder with the recipe all the same, and builds what it lacks. Raises what building
    and converting raise.
    """
    units, built = units or store.with_suffix(""), None
    is_there = store.exists()
    if check_units or not is_there:
        images, wanted = load_images(dataset), load_any_recipe(recipe, dataset, overrides)
        if isinstance(wanted, SirenRecipe):
            built = build_sirens(images, wanted, units, report=report)
        else:
            built = build_classifiers(images, wanted, units, runs=runs, report=report)
    if not is_there:
        convert(units, store, report=report)
    return EnsuredZoo(store, built, not is_there)
