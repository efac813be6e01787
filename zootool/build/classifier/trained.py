"""What training takes and gives: labelled images, and networks at their checkpoints."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images and the classes that they belong to."""

    pixels: UInt8[np.ndarray, "images height width channels"]
    labels: Int64[np.ndarray, " images"]


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
