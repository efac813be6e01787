"""Methods that ask nothing of the structure of networks: statistics read by an MLP or by trees, and a flat MLP.

The statistics are the mean, the variance and the quantiles 0, 25, 50, 75 and 100 % of every weight and every bias
tensor (Unterthiner et al. 2020), the baseline that anyone would ask for first. They know no order within a tensor.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dng.methods.common import Settings
from dng.models.heads import mlp_head
from dng.models.model import Reader
from zootool.architecture import Architecture, Timestamp
from zootool.errors import UsageError
from zootool.graph import GraphBatch

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
NUM_STATISTICS = 2 + len(QUANTILES)


@dataclass(frozen=True)
class StatNNConfig(Settings):
    """The MLP's width and dropout, and the order of what it reads.

    "by_layer" is weights and biases of layer 1, of layer 2 and so on, "by_kind" all weights, then all biases. Networks
    of fewer than `num_layers` layers (by default the most that the zoo has) are padded with zeros behind their last
    layer: at the end of all statistics, or of the weights' and of the biases'.
    """

    widths: ClassVar[tuple[str, ...]] = ("hidden_dim",)

    hidden_dim: int = 1000
    dropout: float = 0.0
    order: Literal["by_layer", "by_kind"] = "by_layer"
    num_layers: int | None = None
    double_sigmoid: bool = False

    def __post_init__(self) -> None:
        self.check(positive=("hidden_dim",), shares=("dropout",))

    def covering(self, architectures: Collection[Architecture]) -> "StatNNConfig":
        """The same, for networks as deep as the deepest of these."""
        deepest = max((architecture.num_layers for architecture in architectures), default=1)
        return replace(self, num_layers=self.num_layers or deepest)


class StatNN(Reader):
    """Two layers with ReLU and a linear one, on 14 statistics per layer.

    The variance is unbiased. The published code gives NaN for that of a single number, such as the bias of one output;
    here it is 0. So are the statistics of tensors that a layer doesn't have. Logits are given; published code for CNNs
    put two sigmoids behind one another, which `double_sigmoid` reproduces where the training adds the second.
    """

    name: ClassVar[str] = "stat-nn"
    presets: ClassVar[dict[str, Any]] = {
        "small-cnn": StatNNConfig(),
        "wild-park": StatNNConfig(order="by_kind", num_layers=6),
    }

    def __init__(
        self, architectures: Collection[Architecture], num_outputs: int, config: StatNNConfig | None = None
    ) -> None:
        super().__init__(architectures, num_outputs, config or StatNNConfig())
        self.num_layers: int = self.config.covering(architectures).num_layers
        deepest = max(architecture.num_layers for architecture in architectures)
        if deepest > self.num_layers:
            raise UsageError(
                f"{self.name} reads {self.num_layers} layers, a network of the zoo has {deepest}",
                hint="leave out num_layers",
            )
        width = 2 * NUM_STATISTICS * self.num_layers
        self.head = mlp_head(width, self.config.hidden_dim, num_outputs, self.config.dropout)

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: Any = None) -> str | None:
        return None if architectures else "it has no networks"

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch outputs"]:
        logits = super().forward(graph)
        return logits.sigmoid() if self.config.double_sigmoid else logits

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch features"]:
        """The numbers that the MLP reads, 14 per layer."""
        if len(graph.edges) > self.num_layers:
            raise UsageError(f"{self.name} was built for {self.num_layers} layers, got networks of {len(graph.edges)}")
        weights = [tensor_statistics(edges, graph.mask(t)) for t, edges in enumerate(graph.edges, start=1)]
        biases = [tensor_statistics(nodes[..., 0]) for nodes in graph.nodes]
        missing = [torch.zeros_like(weights[0])] * (self.num_layers - len(weights))
        if self.config.order == "by_kind":
            return torch.cat([*weights, *missing, *biases, *missing], dim=1)
        pairs = [part for pair in zip(weights, biases, strict=True) for part in pair]
        return torch.cat([*pairs, *missing, *missing], dim=1)


@dataclass(frozen=True)
class FlatMLPConfig(Settings):
    """The MLP's width and dropout, and how many weights and biases it reads, by default the most that the zoo has."""

    widths: ClassVar[tuple[str, ...]] = ("hidden_dim",)

    hidden_dim: int = 128
    dropout: float = 0.5
    num_weights: int | None = None

    def __post_init__(self) -> None:
        self.check(positive=("hidden_dim",), shares=("dropout",))

    def covering(self, architectures: Collection[Architecture]) -> "FlatMLPConfig":
        """The same, for networks as large as the largest of these."""
        largest = max((sum(map(_num_weights, a.timestamps)) for a in architectures), default=1)
        return replace(self, num_weights=self.num_weights or largest)


class FlatMLP(Reader):
    """An MLP on the flattened weights: no symmetry, no structure. Networks of fewer weights are padded with zeros.

    Two hidden layers with dropout, on inputs standardised by the training networks.
    """

    name: ClassVar[str] = "flat-mlp"
    presets: ClassVar[dict[str, Any]] = {"flat": FlatMLPConfig()}
    mean: Tensor
    scale: Tensor

    def __init__(
        self, architectures: Collection[Architecture], num_outputs: int, config: FlatMLPConfig = presets["flat"]
    ) -> None:
        super().__init__(architectures, num_outputs, config)
        self.num_weights: int = config.covering(architectures).num_weights or 1
        self.register_buffer("mean", torch.zeros(self.num_weights))
        self.register_buffer("scale", torch.ones(self.num_weights))
        self.head = mlp_head(self.num_weights, config.hidden_dim, num_outputs, config.dropout)

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: Any = None) -> str | None:
        return None if architectures else "it has no networks"

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        """Measure the mean and the deviation of every weight; what is constant is scaled by a millionth at least."""
        training = torch.cat([self._flat(graph).cpu() for graph in graphs])
        self.mean.copy_(training.mean(dim=0))
        self.scale.copy_(1 / training.std(dim=0).clamp_min(1e-6))

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch weights"]:
        """The standardised weights, the biases of each layer behind its weights."""
        # A weight that hardly moves among the training networks mustn't shout when it does elsewhere.
        return ((self._flat(graph) - self.mean) * self.scale).clamp(-10, 10)

    def _flat(self, graph: GraphBatch) -> Float[Tensor, "batch weights"]:
        flat = flat_weights(graph)
        if flat.shape[1] > self.num_weights:
            raise UsageError(f"{self.name} was built for {self.num_weights:,} weights, got {flat.shape[1]:,}")
        return nn.functional.pad(flat, (0, self.num_weights - flat.shape[1]))


def _num_weights(timestamp: Timestamp) -> int:
    return timestamp.num_nodes * (timestamp.num_sources * timestamp.edges_per_pair + 1)


def flat_weights(graph: GraphBatch) -> Float[Tensor, "batch weights"]:
    """All weights and biases of each network behind one another; zeros behind those of the smaller ones of a batch."""
    parts, are_real = [], []
    for t in range(1, graph.architecture.num_layers + 1):
        edges, biases, mask = graph.edges[t - 1], graph.nodes[t - 1][..., 0], graph.mask(t)
        parts += [(edges if mask is None else edges * mask).flatten(1), biases]
        are_real += [(torch.ones_like(edges) if mask is None else mask).flatten(1), torch.ones_like(biases)]
    flat, is_real = torch.cat(parts, dim=1), torch.cat([real.bool() for real in are_real], dim=1)
    # Whatever else is in its batch: padded edges go to the end, and the order of the others stays.
    order = (~is_real).to(torch.uint8).argsort(dim=1, stable=True)
    return flat.gather(1, order)[:, : int(is_real.sum(dim=1).max())]


def tensor_statistics(
    values: Float[Tensor, "batch ..."], mask: Bool[Tensor, "batch ..."] | None = None
) -> Float[Tensor, "batch 7"]:
    """Mean, unbiased variance and quantiles of each network's numbers that the mask marks, or of all."""
    flat = values.flatten(1)
    if not flat.shape[1]:
        return values.new_zeros(len(values), NUM_STATISTICS)
    levels = torch.tensor(QUANTILES, dtype=flat.dtype, device=flat.device)
    if mask is None:
        variance = flat.var(dim=1) if flat.shape[1] > 1 else torch.zeros_like(flat[:, 0])
        return torch.stack([flat.mean(dim=1), variance, *torch.quantile(flat, levels, dim=1)], dim=1)
    is_real = mask.flatten(1)
    count = is_real.sum(dim=1)
    mean = (flat * is_real).sum(dim=1) / count.clamp_min(1)
    variance = ((flat - mean[:, None]) * is_real).square().sum(dim=1) / (count - 1).clamp_min(1)
    quantiles = torch.nanquantile(flat.masked_fill(~is_real, torch.nan), levels, dim=1)
    return torch.stack([mean, variance, *quantiles.masked_fill(count == 0, 0)], dim=1)


def weight_statistics(graph: GraphBatch) -> Float[np.ndarray, "batch features"]:
    """What trees read of a batch: (layers x 2 x 7) numbers per network, last layer first; NaN for what isn't there.

    Last layers stand side by side, whatever the depth. The variance is the population's.
    """
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
