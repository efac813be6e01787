"""Building zoos: recipe, plan (extents and units), work (sirens, classifiers), receipt (units).

It may import what comes before it in the table of tests/test_imports.py, images and engines among it; no stores.
"""

from zootool.build.builder import BuildResult
from zootool.build.classifiers import build_classifiers
from zootool.build.recipe import CnnRecipe, SirenRecipe, VitRecipe, load_recipe, load_recipe_of
from zootool.build.sirens import build_sirens
from zootool.build.units import BuildRecord, Unit, finished_units, read_recipe

__all__ = [
    "BuildRecord",
    "BuildResult",
    "CnnRecipe",
    "SirenRecipe",
    "Unit",
    "VitRecipe",
    "build_classifiers",
    "build_sirens",
    "finished_units",
    "load_recipe",
    "load_recipe_of",
    "read_recipe",
]
