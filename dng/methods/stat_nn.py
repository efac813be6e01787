"""StatNN: an MLP on statistics of every weight and every bias tensor (Unterthiner et al. 2020).

The statistics are the mean, the unbiased variance and the quantiles 0, 25, 50, 75 and 100 %. The published code gives
NaN for the variance of a single number, such as the bias of one output; here it is 0. So are the statistics of
tensors that a layer doesn't have. Logits are given; published code for CNNs put two sigmoids behind one another, which
`double_sigmoid` reproduces where the training adds the second. Invariant to any shuffle within a tensor.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dng.methods.baseline import Baseline
from dng.methods.weight_statistics import NUM_STATISTICS, QUANTILES
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class StatNNConfig:
    """The MLP's width and dropout, and the order of what it reads.

    "by_layer" is weights and biases of layer 1, of layer 2 and so on, "by_kind" all weights, then all biases. Networks
    of fewer than `num_layers` layers (by default the most that the zoo has) are padded with zeros behind their last
    layer: at the end of all statistics, or of the weights' and of the biases'.
    """

    hidden_dim: int = 1000
    dropout: float = 0.0
    order: Literal["by_layer", "by_kind"] = "by_layer"
    num_layers: int | None = None
    double_sigmoid: bool = False

    def __post_init__(self) -> None:
        if self.hidden_dim < 1:
            raise UsageError(f"hidden_dim must be positive, got {self.hidden_dim}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be in [0, 1), got {self.dropout}")

    def widened(self, factor: float) -> "StatNNConfig":
        """The MLP's width times `factor`."""
        return replace(self, hidden_dim=max(1, round(factor * self.hidden_dim)))


class StatNN(Baseline):
    """Two layers with ReLU and a linear one, on 14 statistics per layer."""

    name: ClassVar[str] = "stat-nn"
    presets: ClassVar[dict[str, Any]] = {
        "small-cnn": StatNNConfig(),
        "wild-park": StatNNConfig(order="by_kind", num_layers=6),
    }

    def __init__(
        self, architectures: Collection[Architecture], num_outputs: int, config: StatNNConfig | None = None
    ) -> None:
        super().__init__()
        self.config = config or StatNNConfig()
        if reason := self.refusal(architectures):
            raise UsageError(f"{self.name} can't take the zoo: {reason}")
        deepest = max(architecture.num_layers for architecture in architectures)
        self.num_layers = self.config.num_layers or deepest
        if deepest > self.num_layers:
            raise UsageError(
                f"{self.name} reads {self.num_layers} layers, a network of the zoo has {deepest}",
                hint="leave out num_layers",
            )
        hidden_dim, dropout = self.config.hidden_dim, self.config.dropout
        self.mlp = nn.Sequential(
            nn.Linear(2 * NUM_STATISTICS * self.num_layers, hidden_dim), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden_dim, num_outputs),
        )  # fmt: skip

    @classmethod
    def refusal(cls, architectures: Collection[Architecture]) -> str | None:
        return None if architectures else "it has no networks"

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch outputs"]:
        outputs = self.mlp(self.statistics(graph))
        return outputs.sigmoid() if self.config.double_sigmoid else outputs

    def statistics(self, graph: GraphBatch) -> Float[Tensor, "batch features"]:
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
