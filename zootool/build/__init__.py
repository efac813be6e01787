"""Building zoos: recipes, units of work, the engines that hand them out, and the training of the networks."""

from zootool.build.builder import BuildResult
from zootool.build.classifiers import build_classifiers
from zootool.build.recipe import CnnRecipe, SirenRecipe, VitRecipe, load_recipe, load_recipe_of
from zootool.build.record import BuildRecord
from zootool.build.sirens import build_sirens
from zootool.build.units import Unit, finished_units, read_recipe

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
