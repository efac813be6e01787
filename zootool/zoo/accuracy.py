"""Classifying the test images again, and comparing the accuracy with what was recorded."""

from typing import Any

import numpy as np
import torch

from zootool.build.classifier.data import ClassifierData, classifier_data, levels_of
from zootool.build.recipe import RECIPE_KINDS, ClassifierRecipe
from zootool.errors import MissingError
from zootool.images import load_images
from zootool.progress import Reporter
from zootool.validation import validate
from zootool.zoo.zoo import Zoo

ACCURACY = "test_accuracy"

TOLERANCE_IMAGES = 2
"""Images that may change sides: two classes may be as likely as one another up to rounding."""

_BATCH = 1000


def check_accuracy(zoo: Zoo, chosen: np.ndarray, recorded: np.ndarray, report: Reporter) -> list[str]:
    """The networks at rows `chosen` whose accuracy isn't `recorded`, in words.

    Raises MissingError where the recipe or the image set isn't known here.
    """
    recipe = _recipe_of(zoo)
    data = _data(zoo, recipe)
    levels = levels_of(recipe.target)
    images = torch.from_numpy(levels[np.moveaxis(data.test.pixels, -1, 1)])
    problems = []
    for done, row in enumerate(chosen.tolist()):
        report("classifying images", done, len(chosen))
        module = zoo.module(row)
        dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), images.dtype)
        with torch.no_grad():
            guesses = torch.cat([module(part.to(dtype)).argmax(dim=1) for part in images.split(_BATCH)])
        right = int((guesses.numpy() == data.test.labels).sum())
        if not abs(right - recorded[done] * len(images)) <= TOLERANCE_IMAGES:
            share = right / len(images)
            problems.append(f"network {row} classifies {share:.4f} of the images, recorded are {recorded[done]:.4f}")
    report("classifying images", len(chosen), len(chosen))
    return problems


def _recipe_of(zoo: Zoo) -> ClassifierRecipe:
    plain: dict[str, Any] = zoo.info.recipe
    kind = RECIPE_KINDS.get(str(plain.get("kind")))
    if kind is None or not issubclass(kind, ClassifierRecipe):
        raise MissingError("zoo.json doesn't say how images become inputs")
    return validate(kind, plain, "the recipe in zoo.json")


def _data(zoo: Zoo, recipe: ClassifierRecipe) -> ClassifierData:
    if len(zoo.info.sources) != 1:
        raise MissingError(f"the networks were trained on {len(zoo.info.sources)} image sets")
    source = zoo.info.sources[0]
    images = load_images(source.name, partial=source.is_partial or None)
    if source.digest is not None and images.digest != source.digest:
        raise MissingError(f"the image set {source.name} here isn't the one that the networks were trained on")
    return classifier_data(images, recipe)
