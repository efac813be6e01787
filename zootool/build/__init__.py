"""Building zoos: recipes, units of work, the engines that hand them out, and the fitting of SIRENs."""

from zootool.build.recipe import SirenRecipe, load_recipe
from zootool.build.record import BuildRecord
from zootool.build.sirens import BuildResult, build_sirens
from zootool.build.units import Unit, finished_units, read_recipe

__all__ = [
    "BuildRecord",
    "BuildResult",
    "SirenRecipe",
    "Unit",
    "build_sirens",
    "finished_units",
    "load_recipe",
    "read_recipe",
]
