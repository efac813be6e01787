"""What classifiers are trained on, as a recipe takes it from an image set, and what is kept of them."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from zootool.build.recipe import ClassifierRecipe, CnnRecipe
from zootool.errors import MissingError, UsageError
from zootool.images import Images


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images and the classes that they belong to."""

    pixels: UInt8[np.ndarray, "images height width channels"]
    labels: Int64[np.ndarray, " images"]


@dataclass(frozen=True, eq=False)
class ClassifierData:
    """The images that networks are trained and tested on, grey already where the recipe says so."""

    train: Labelled
    test: Labelled
    num_classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels, as networks see them."""
        height, width, channels = self.train.pixels.shape[1:]
        return height, width, channels


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network after so many epochs: its state_dict's numbers flattened behind one another, and how good it is.

    Losses are mean cross-entropies, accuracies fractions; those of training are on the images that it was trained on.
    """

    epoch: int
    parameters: Float32[np.ndarray, " parameters"]
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float

    @property
    def diverged(self) -> bool:
        """Whether a parameter or a loss is not finite."""
        return not (np.isfinite(self.parameters).all() and np.isfinite([self.train_loss, self.test_loss]).all())


def classifier_data(images: Images, recipe: ClassifierRecipe) -> ClassifierData:
    """The training and test images that a recipe takes. Raises MissingError and UsageError."""
    parts = []
    for split, limit in (("train", recipe.train_images), (recipe.test_split, recipe.test_images)):
        positions = np.flatnonzero(images.split == split)[:limit]
        if not len(positions):
            hint = "get the whole set" if split != "test" else "get the whole set, or --set test_split=validation"
            raise MissingError(f"{images.name} has no {split} images here", hint=hint)
        parts.append(Labelled(images.pixels[positions], images.labels[positions]))
    if isinstance(recipe, CnnRecipe) and recipe.grey:
        try:
            parts = [replace(part, pixels=grey(part.pixels)) for part in parts]
        except ValueError as error:
            raise UsageError(f"{images.name}: {error}", hint="give --set grey=false") from error
    return ClassifierData(parts[0], parts[1], len(images.class_names))


def levels_of(target: tuple[float, float]) -> Float32[np.ndarray, " 256"]:
    """What the 256 pixel values stand for."""
    return (target[0] + np.arange(256) / 255 * (target[1] - target[0])).astype(np.float32)


def grey(pixels: UInt8[np.ndarray, "images height width channels"]) -> UInt8[np.ndarray, "images height width 1"]:
    """(299 R + 587 G + 114 B) / 1000, rounded; grey images as they are. Raises ValueError for other channels."""
    if pixels.shape[-1] == 1:
        return pixels
    if pixels.shape[-1] != 3:
        raise ValueError(f"images of {pixels.shape[-1]} channels have no grey")
    weighted = pixels.astype(np.uint32) @ np.array([299, 587, 114], np.uint32)
    return ((weighted + 500) // 1000).astype(np.uint8)[..., None]
