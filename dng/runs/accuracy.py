"""Predicting accuracies from weights: what its training minimises and how validation scores it."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy.stats import kendalltau
from torch import Tensor

from dng.data import Loader
from dng.models.predictors import PredictsAccuracy
from dng.runs.tasks import describe_rows
from dng.training.symmetries import Symmetries, vary
from zootool.graph import GraphBatch


class AccuracyPrediction:
    """Accuracies in [0, 1] from weights, by binary cross-entropy; scored by Kendall's tau.

    With `symmetries` every training batch is changed at random by what leaves its accuracies as they are.
    """

    def __init__(
        self,
        model: PredictsAccuracy,
        validation: Loader,
        accuracy: Callable[[GraphBatch], Tensor],
        symmetries: Symmetries | None = None,
    ) -> None:
        self.model = model
        self.validation = validation
        self.accuracy = accuracy
        self.symmetries = symmetries

    def loss(self, batch: GraphBatch) -> Tensor:
        """Binary cross-entropy of a batch of networks."""
        graph = batch if self.symmetries is None else vary(batch, self.symmetries)
        return self.model.loss(graph, self.accuracy(batch))

    @torch.no_grad()
    def validate(self) -> float:
        """Kendall's tau on the validation split."""
        batches = [batch for batch in self.validation]
        predicted = torch.cat([self.model.predict(batch) for batch in batches])
        return tau_to_pick_by(predicted, torch.cat([self.accuracy(batch) for batch in batches]))

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
