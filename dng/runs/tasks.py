"""What is learned from a zoo's networks, columns of its table or images, and how validation scores it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from scipy.stats import kendalltau
from torch import Tensor

from dng.models.model import LearnsFromRenderings, Predicts, Reader, Representation
from dng.models.views import to_unit_range
from dng.training.symmetries import Symmetries, vary
from dng.zoo_data import Loader, Zoo, numbers_of
from zootool.errors import BadDataError, UsageError, did_you_mean, printable
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class Target:
    """A column by row of the store: classes as int64, accuracies in [0, 1] as float32. Rows not selected hold -1."""

    name: str
    by_row: Shaped[Tensor, " rows"]
    num_outputs: int

    @property
    def predicts(self) -> Predicts:
        """What a reader of this target predicts."""
        return "accuracy" if self.by_row.is_floating_point() else "class"

    @property
    def is_class(self) -> bool:
        """Whether the values are classes."""
        return self.predicts == "class"


def read_target(zoo: Zoo, name: str) -> Target:
    """The column `name` of the selected networks: whole numbers, texts, true and false are classes, others accuracies.

    Raises UsageError where there is no such column or it holds neither, BadDataError where networks lack a value.
    """
    if name not in zoo.nets:
        raise UsageError(f"the zoo has no column {printable(name, 60)!r}", hint=did_you_mean(name, zoo.nets.columns))
    column = zoo.nets[name]
    if column.isna().any():
        raise BadDataError(f"networks have no value in the column {name!r}", hint="see the columns with `zoo info`")
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        column = pd.Series(numbers_of(zoo.store, name, zoo.rows))
    if pd.api.types.is_integer_dtype(column):
        classes = column.to_numpy(np.int64, copy=True)
        if classes.min() < 0:
            raise UsageError(
                f"the column {name!r} holds {classes.min()}, classes count from 0", hint="choose another one"
            )
        return Target(name, by_row(zoo, torch.from_numpy(classes)), int(classes.max()) + 1)
    values = column.to_numpy(np.float32, copy=True)
    if values.min() < 0 or values.max() > 1:
        raise UsageError(
            f"the column {name!r} holds numbers from {values.min():g} to {values.max():g}, accuracies are in [0, 1]",
            hint="choose another --target",
        )
    return Target(name, by_row(zoo, torch.from_numpy(values)), 1)


def by_row(zoo: Zoo, values: Shaped[Tensor, " networks"]) -> Shaped[Tensor, " rows"]:
    """The values of the selected networks at their rows of the store, -1 elsewhere."""
    spread = torch.full((int(zoo.rows.max()) + 1,), -1, dtype=values.dtype)
    spread[torch.from_numpy(zoo.rows)] = values
    return spread


class Prediction:
    """A target from weights: validation scores classes by accuracy, and accuracies by Kendall's tau.

    `by_row` are the target's values on the model's device. With `symmetries` every training batch of accuracies is
    changed at random by what leaves them as they are.
    """

    def __init__(
        self, model: Reader, validation: Loader, by_row: Shaped[Tensor, " rows"], symmetries: Symmetries | None = None
    ) -> None:
        self.model, self.validation, self.by_row = model, validation, by_row
        self.symmetries = symmetries if model.predicts == "accuracy" else None

    def loss(self, batch: GraphBatch) -> Tensor:
        """The model's loss on a batch of networks."""
        graph = batch if self.symmetries is None else vary(batch, self.symmetries)
        return self.model.loss(graph, self.by_row[batch.rows])

    def validate(self) -> float:
        """The score on the validation split."""
        predicted, wanted = self.predict(self.validation)
        if self.model.predicts == "class":
            return (predicted == wanted).float().mean().item()
        return tau_to_pick_by(predicted, wanted)

    @torch.no_grad()
    def predict(self, loader: Loader) -> tuple[Tensor, Tensor]:
        """Predictions and the target's values, both (N,)."""
        self.model.eval()
        pairs = [(self.model.predict(batch), self.by_row[batch.rows]) for batch in loader]
        predictions, values = zip(*pairs, strict=True)
        return torch.cat(predictions), torch.cat(values)

    def describe(self, batch: GraphBatch) -> str:
        """The rows of the batch in the zoo's table."""
        return describe_rows(batch)


class Reconstruction:
    """Images from weights, by mean squared error in [-1, 1]: of the source images, or of what the networks render.

    No label is seen.
    """

    def __init__(self, model: Representation, validation: Loader) -> None:
        self.model, self.validation = model, validation

    def loss(self, batch: GraphBatch) -> Tensor:
        """The model's mean squared error on a batch."""
        if isinstance(self.model, LearnsFromRenderings):
            return self.model.loss(batch)
        return self.model.loss(batch, source_images(batch))

    def validate(self) -> float:
        """The mean squared error on the validation split."""
        return mean_over(self.validation, self.loss)

    def describe(self, batch: GraphBatch) -> str:
        """The rows of the batch in the zoo's table."""
        return describe_rows(batch)


def kendall_tau(predicted: Float[Tensor, " networks"], measured: Float[Tensor, " networks"]) -> float | None:
    """Kendall's tau-b of two rankings; None where one of them ranks nothing, because all its values are equal."""
    tau = float(kendalltau(predicted.float().cpu().numpy(), measured.float().cpu().numpy()).statistic)
    return None if math.isnan(tau) else tau


def tau_to_pick_by(predicted: Float[Tensor, " networks"], measured: Float[Tensor, " networks"]) -> float:
    """What validation compares: `kendall_tau`, where ranking nothing counts as much as a random order."""
    return kendall_tau(predicted, measured) or 0.0


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
