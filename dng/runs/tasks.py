"""What the trainings of INR classification minimise and how validation scores them."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from dng.data import Loader
from dng.models.model import LearnsFromRenderings, Representation
from dng.models.predictors import Classifies
from dng.models.views import to_unit_range
from dng.runs.builders import ClassifierOfCodes
from dng.runs.latents import Latents
from zootool.errors import BadDataError
from zootool.graph import GraphBatch


class Reconstruction:
    """Images from weights, by mean squared error in [-1, 1]: of the source images, or of what the networks render.

    No label is seen.
    """

    def __init__(self, model: Representation, validation: Loader) -> None:
        self.model = model
        self.validation = validation

    def loss(self, batch: GraphBatch) -> Tensor:
        """The model's mean squared error on a batch."""
        if isinstance(self.model, LearnsFromRenderings):
            return self.model.loss(batch)
        return self.model.loss(batch, source_images(batch))

    def validate(self) -> float:
        """The mean squared error on the validation split."""
        return mean_over((batch for batch in self.validation), self.loss)

    def describe(self, batch: GraphBatch) -> str:
        """The rows of the batch in the zoo's table."""
        return describe_rows(batch)


class CodeClassification:
    """Labels from frozen codes, by cross-entropy."""

    def __init__(self, model: ClassifierOfCodes, validation: Latents, batch_size: int) -> None:
        self.model = model
        self.validation = validation
        self.batch_size = batch_size

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of a batch of codes and labels."""
        return self.model.loss(*batch)

    def validate(self) -> float:
        """Accuracy on the validation split."""
        predictions, labels = predict_codes(self.model, self.validation, self.batch_size)
        return (predictions == labels).float().mean().item()

    def describe(self, batch: tuple[Tensor, Tensor]) -> str:
        """The batch's size."""
        return f"a batch of {len(batch[0])} codes"


class NetworkClassification:
    """Labels from weights, encoder and head trained together, by cross-entropy."""

    def __init__(self, model: Classifies, validation: Loader, label: Callable[[GraphBatch], Tensor]) -> None:
        self.model = model
        self.validation = validation
        self.label = label

    def loss(self, batch: GraphBatch) -> Tensor:
        """Cross-entropy of a batch of networks."""
        return self.model.loss(batch, self.label(batch))

    def validate(self) -> float:
        """Accuracy on the validation split."""
        predictions, labels = self.predict(self.validation)
        return (predictions == labels).float().mean().item()

    @torch.no_grad()
    def predict(self, loader: Loader) -> tuple[Tensor, Tensor]:
        """Predicted classes and labels, both int64 (N,)."""
        self.model.eval()
        batches = [batch for batch in loader]
        predictions = torch.cat([self.model.predict(batch) for batch in batches])
        return predictions, torch.cat([self.label(batch) for batch in batches])

    def describe(self, batch: GraphBatch) -> str:
        """The rows of the batch in the zoo's table."""
        return describe_rows(batch)


@torch.no_grad()
def predict_codes(classifier: ClassifierOfCodes, latents: Latents, batch_size: int) -> tuple[Tensor, Tensor]:
    """Predicted classes and labels of a split, both int64 (N,)."""
    classifier.eval()
    pairs = [(classifier.predict(codes), labels) for codes, labels in latents.once(batch_size)]
    predictions, labels = zip(*pairs, strict=True)
    return torch.cat(predictions), torch.cat(labels)


def source_images(batch: GraphBatch) -> Tensor:
    """The batch's images in [-1, 1], channels first. Raises BadDataError where the loader gave none."""
    if batch.images is None:
        raise BadDataError("the loader gave no source images", hint="put the zoo's image set where ZOO_DATA says")
    return to_unit_range(batch.images)


def mean_over(batches: Iterable[GraphBatch], loss: Callable[[GraphBatch], Tensor]) -> float:
    """The mean of a loss over all networks of some batches."""
    total, count = 0.0, 0
    for batch in batches:
        total += loss(batch).item() * len(batch)
        count += len(batch)
    return total / count


def describe_rows(batch: GraphBatch) -> str:
    """The rows of a batch in the zoo's table, for errors."""
    return f"the networks in rows {batch.rows.tolist()}"
