"""Layer-wise statistics of weights and biases, the baseline that anyone would ask for first (Unterthiner et al. 2020).

For every layer the mean, the variance and the quantiles 0, 25, 50, 75 and 100 % of its weights, and of its biases; and
the depth. Gradient-boosted trees of scikit-learn predict from them. Layers are counted from the output, so that last
layers stand side by side; those that a network doesn't have are missing (NaN).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zootool.graph import GraphBatch

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
NUM_STATISTICS = 2 + len(QUANTILES)


def weight_statistics(graph: GraphBatch) -> Float[np.ndarray, "batch features"]:
    """The statistics of a batch, (layers x 2 x 7) numbers per network, last layer first; NaN for what isn't there."""
    parts = []
    for t in range(graph.architecture.num_layers, 0, -1):
        parts += [_statistics(graph.edges[t - 1], graph.mask(t)), _statistics(graph.nodes[t - 1][..., :1], None)]
    return torch.cat(parts, dim=1).numpy()


def stack_statistics(batches: Sequence[np.ndarray]) -> Float[np.ndarray, "networks features"]:
    """Batches of networks of different depths behind one another, NaN where one has fewer layers."""
    width = max(batch.shape[1] for batch in batches)
    padded = [np.pad(batch, ((0, 0), (0, width - batch.shape[1])), constant_values=np.nan) for batch in batches]
    depth = [np.full((len(batch), 1), batch.shape[1] // (2 * NUM_STATISTICS)) for batch in batches]
    return np.concatenate([np.concatenate(pair, axis=1) for pair in zip(depth, padded, strict=True)])


def known_columns(training: Float[np.ndarray, "networks features"]) -> np.ndarray:
    """The columns that any training network has: scikit-learn can't bin one that is missing in all of them."""
    return np.flatnonzero(~np.isnan(training).all(axis=0))


def _statistics(values: Tensor, mask: Tensor | None) -> Float[Tensor, "batch 7"]:
    flat = values.flatten(1).double()
    if mask is not None:
        flat = flat.masked_fill(~mask.expand(values.shape).flatten(1), float("nan"))
    if not flat.shape[1]:
        return torch.full((len(flat), NUM_STATISTICS), float("nan")).float()
    mean = flat.nanmean(dim=1, keepdim=True)
    variance = (flat - mean).square().nanmean(dim=1, keepdim=True)
    quantiles = torch.nanquantile(flat, torch.tensor(QUANTILES, dtype=flat.dtype), dim=1).T
    return torch.cat([mean, variance, quantiles], dim=1).float()


@dataclass(frozen=True)
class TreeSettings:
    """One candidate among the trees; validation picks the candidate and the number of trees."""

    learning_rate: float
    max_leaf_nodes: int
    l2: float = 0.0


CANDIDATES = tuple(TreeSettings(rate, leaves) for rate in (0.03, 0.1) for leaves in (6, 15, 31))
MAX_TREES = 400


class StatisticsTrees:
    """Gradient-boosted trees on `weight_statistics`, in as many candidates and sizes as validation may pick from."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, features: np.ndarray, accuracies: np.ndarray) -> list[tuple[TreeSettings, Any]]:
        """All candidates, fitted."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        return [
            (
                settings,
                HistGradientBoostingRegressor(
                    learning_rate=settings.learning_rate,
                    max_leaf_nodes=settings.max_leaf_nodes,
                    l2_regularization=settings.l2,
                    max_iter=MAX_TREES,
                    early_stopping=False,
                    max_features=0.5,
                    # scikit-learn's 20 leaves small zoos without a single split.
                    min_samples_leaf=min(20, max(2, len(features) // 20)),
                    random_state=self._seed,
                ).fit(features, accuracies),
            )
            for settings in CANDIDATES
        ]
