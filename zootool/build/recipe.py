"""Recipes: how the networks of a zoo are made, as datasets.yaml names them and a folder of units records them.

A recipe's `kind` says which keys it has: "siren" (the default), "cnn" or "vit".
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import Field

from zootool.build.cnn_recipe import CnnRecipe
from zootool.build.recipe_parts import Recipe
from zootool.build.siren_recipe import DEFAULT_RECIPE, SirenRecipe
from zootool.build.vit_recipe import VitRecipe
from zootool.catalog import Catalog, load_catalog
from zootool.errors import FormatError, UsageError, did_you_mean, printable
from zootool.validation import Entry, validate

AnyRecipe = SirenRecipe | CnnRecipe | VitRecipe
RECIPE_KINDS: dict[str, type[AnyRecipe]] = {"siren": SirenRecipe, "cnn": CnnRecipe, "vit": VitRecipe}

Kind = TypeVar("Kind", SirenRecipe, CnnRecipe, VitRecipe)


class _Listed(Entry):
    """What datasets.yaml has beside a recipe's parts: a title, and what is different for single image sets."""

    title: str = ""
    per_dataset: dict[str, dict[str, Any]] = Field(default_factory=dict)


class SirenEntry(_Listed, SirenRecipe):
    """A recipe for SIRENs in datasets.yaml."""


class CnnEntry(_Listed, CnnRecipe):
    """A recipe for CNNs in datasets.yaml."""


class VitEntry(_Listed, VitRecipe):
    """A recipe for vision transformers in datasets.yaml."""


RecipeEntry = SirenEntry | CnnEntry | VitEntry
_ENTRIES: dict[str, type[RecipeEntry]] = {"siren": SirenEntry, "cnn": CnnEntry, "vit": VitEntry}


def load_recipe(
    name: str = DEFAULT_RECIPE,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    catalog: Catalog | None = None,
) -> SirenRecipe:
    """The recipe for SIRENs called `name`, as it is for `dataset`, with single keys overridden. Raises UsageError."""
    return load_recipe_of(SirenRecipe, name, dataset, overrides, catalog)


def load_recipe_of(
    kind: type[Kind],
    name: str,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    catalog: Catalog | None = None,
) -> Kind:
    """The recipe called `name`, which must be of this kind, as in `load_recipe`. Raises UsageError."""
    entry = _entry(name, catalog or load_catalog())
    if not isinstance(entry, kind):
        raise UsageError(f"the recipe {name} is of kind {entry.kind}", hint=f"run `zoo build {entry.kind}`")
    own = entry.per_dataset.get(dataset or "", {})
    return validate(kind, _parts(entry) | dict(own) | dict(overrides or {}), f"recipe {name}", UsageError)


def load_any_recipe(
    name: str,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    catalog: Catalog | None = None,
) -> AnyRecipe:
    """The recipe called `name`, of whatever kind, as in `load_recipe`; an unknown `dataset` is a UsageError too."""
    catalog = catalog or load_catalog()
    entry = _entry(name, catalog)
    if dataset is not None and dataset not in entry.per_dataset and not dataset.startswith("folder:"):
        catalog.image_set(dataset)
    kind: Any = RECIPE_KINDS[entry.kind]
    return load_recipe_of(kind, name, dataset, overrides, catalog)


def check_recipe(name: str, value: Any) -> RecipeEntry:
    """A recipe as datasets.yaml has it, with every problem named at once. Raises FormatError."""
    kind = value.get("kind", "siren") if isinstance(value, dict) else "siren"
    if not isinstance(kind, str) or kind not in _ENTRIES:
        hint = did_you_mean(str(kind), _ENTRIES)
        raise FormatError(f"recipe {name}: no zoo is of kind {printable(kind, 40)!r}", hint=hint)
    entry = validate(_ENTRIES[kind], {"name": name, **value} if isinstance(value, dict) else value, f"recipe {name}")
    for dataset, own in entry.per_dataset.items():
        validate(RECIPE_KINDS[kind], _parts(entry) | own, f"recipe {name}, per_dataset {printable(dataset, 60)}")
    return entry


def parse_overrides(settings: Iterable[str], kind: type[Recipe] = SirenRecipe) -> dict[str, Any]:
    """The values of `key=value` words, read as YAML: `steps=1000`, `hidden=64,64`. Raises UsageError."""
    overrides = {}
    for word in settings:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {printable(word, 60)} is no key=value", hint="write it like --set steps=1000")
        if key not in kind.model_fields:
            hint = did_you_mean(key, kind.model_fields)
            raise UsageError(f"no recipe has the key {printable(key, 60)!r}", hint=hint)
        if key in overrides:
            raise UsageError(f"--set {key} is given twice", hint="give it once")
        try:
            overrides[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(
                f"--set {key}: {printable(text, 60)} is not readable", hint="give a plain value"
            ) from error
    return overrides


def _entry(name: str, catalog: Catalog) -> RecipeEntry:
    return check_recipe(name, catalog.recipe(name))


def _parts(entry: RecipeEntry) -> dict[str, Any]:
    return entry.model_dump(exclude={"title", "per_dataset"})
