"""Zoos of classifiers of an image set: `zoo build cnn` and `zoo build vit` as functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zootool.build.builder import BuildResult, Wanted, available_threads, build_folder
from zootool.build.classifier.draws import draw_run
from zootool.build.classifier.trained import Labelled
from zootool.build.classifier_recipe import ClassifierRecipe
from zootool.build.classifier_work import ClassifierJob, CnnJob, VitJob
from zootool.build.cnn_recipe import CnnRecipe
from zootool.build.extents import RunsExtent, UnitRuns, check_runs, units_of_runs
from zootool.build.recipe_parts import refuse_cuda
from zootool.build.record import BuildRecord, ImageSetRecord
from zootool.build.vit_recipe import VitRecipe
from zootool.engines.engine import Engine, run_here
from zootool.errors import MissingError, UsageError
from zootool.images import Images
from zootool.progress import Reporter, silent

STAGE = "training networks"


def build_classifiers(
    images: Images,
    recipe: CnnRecipe | VitRecipe,
    out: str | Path,
    *,
    runs: int | None = None,
    device: str = "cpu",
    engine: Engine = run_here,
    threads: int | None = None,
    share: tuple[int, int] | None = None,
    report: Reporter = silent,
) -> BuildResult:
    """Train `runs` networks (by default the recipe's number) on `images` into the folder of units `out`.

    Networks that are there stay; a larger number of runs adds to them. `share`, `engine` and `threads` are as in
    `build_sirens`. Raises UsageError for a number of runs below 1, a recipe that can't fit the images, and where
    `out` holds something else or was begun with another recipe or image set; MissingError where images are lacking
    or `out` can't be written to.
    """
    refuse_cuda(device)
    count = recipe.runs if runs is None else runs
    check_runs(count)
    material = material_of(images, recipe)
    check_fit(material, recipe, count)

    def units(record: BuildRecord) -> Sequence[UnitRuns]:
        extents = [extent for extent in record.extents if isinstance(extent, RunsExtent)]
        return units_of_runs(extents, recipe.split_ratios, record.unit_size)

    def job(record: BuildRecord, unit: UnitRuns) -> ClassifierJob:
        return job_of(material, recipe, unit, Path(out), threads or available_threads())

    wanted = Wanted(recipe, ImageSetRecord.of(images), RunsExtent(runs=count), units, job, STAGE)
    return build_folder(out, wanted, device=device, engine=engine, share=share, report=report)


@dataclass(frozen=True, eq=False)
class Material:
    """What networks are trained and tested on."""

    train: Labelled
    test: Labelled
    num_classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels, as networks see them."""
        height, width, channels = self.train.pixels.shape[1:]
        return height, width, channels


def material_of(images: Images, recipe: ClassifierRecipe) -> Material:
    """The training and test images that a recipe takes, grey where it says so. Raises MissingError and UsageError."""
    parts = []
    for split, limit in (("train", recipe.train_images), (recipe.test_split, recipe.test_images)):
        positions = np.flatnonzero(images.split == split)[:limit]
        if not len(positions):
            hint = "get the whole set" if split != "test" else "get the whole set, or --set test_split=validation"
            raise MissingError(f"{images.name} has no {split} images here", hint=hint)
        parts.append(Labelled(images.pixels[positions], images.labels[positions]))
    if isinstance(recipe, CnnRecipe) and recipe.grey:
        from zootool.build.classifier.cnn import grey

        try:
            parts = [replace(part, pixels=grey(part.pixels)) for part in parts]
        except ValueError as error:
            raise UsageError(f"{images.name}: {error}", hint="give --set grey=false") from error
    return Material(parts[0], parts[1], len(images.class_names))


def check_fit(material: Material, recipe: CnnRecipe | VitRecipe, runs: int) -> None:
    """Raise UsageError where a recipe can't fit images of this size, for any of its runs."""
    shape = material.image_shape
    if isinstance(recipe, CnnRecipe):
        for run in range(runs):
            draw_run(recipe, run, shape, material.num_classes)
        return
    height, width, channels = shape
    patch = recipe.patch_size
    if height % patch or width % patch:
        raise UsageError(
            f"recipe {recipe.name} cuts patches of {patch} x {patch}, the images are {height} x {width}",
            hint="--set patch_size= a divisor of both sides",
        )
    recipe.architecture(channels, material.num_classes)


def job_of(
    material: Material, recipe: CnnRecipe | VitRecipe, unit: UnitRuns, folder: Path, threads: int
) -> ClassifierJob:
    """The job that trains a unit's networks."""
    common = {
        "folder": folder,
        "number": unit.number,
        "threads": threads,
        "runs": unit.runs,
        "split": unit.split,
        "train": material.train,
        "test": material.test,
        "num_classes": material.num_classes,
    }
    if isinstance(recipe, CnnRecipe):
        return CnnJob(recipe=recipe, **common)
    return VitJob(recipe=recipe, **common)
