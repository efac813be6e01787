"""A batch of dynamic neural graphs: what the loader yields, and what models take."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from zootool.architecture import Architecture, Residual


@dataclass(frozen=True)
class BatchResidual:
    """The nodes of timestamp `residual.source` added at `target`: in the networks that `networks` marks, or in all."""

    target: int
    residual: Residual
    networks: Bool[Tensor, " batch"] | None = None


@dataclass(frozen=True)
class GraphBatch:
    """B networks with the same node counts n_0..n_L, as what the events t = 1..L add (paper, section 4).

    `edges[t-1]` is (B, n_t, n_{t-1}, k_t), one scalar per edge, padded with zeros to the largest k of the batch;
    `edge_masks[t-1]` is True where an edge is real, or None where all are. `nodes[t-1]` is (B, n_t, c_t), its features
    named by `node_names[t-1]` with the bias first; where a network lacks a feature it is 0, or 1 for scales and
    variances. Those of a norm before layer t + 1 belong to the nodes of layer t, and are named source_scale and so on.

    `architectures` are the distinct ones of the batch, `architecture_index` says which is whose (None: all are the
    first). `rows` are rows of nets.parquet (0..B-1 where no table is behind the batch); `targets` holds the columns
    that the loader was asked for, `images` the networks' source images.
    """

    architectures: tuple[Architecture, ...]
    edges: tuple[Float[Tensor, "batch _targets _sources _k"], ...]
    nodes: tuple[Float[Tensor, "batch _targets _features"], ...]
    edge_masks: tuple[Bool[Tensor, "batch _targets _sources _k"] | None, ...] = ()
    node_names: tuple[tuple[str, ...], ...] = ()
    architecture_index: Int64[Tensor, " batch"] | None = None
    residuals: tuple[BatchResidual, ...] = ()
    rows: Int64[Tensor, " batch"] = None  # type: ignore[assignment]
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    images: UInt8[Tensor, "batch height width channels"] | None = None

    def __post_init__(self) -> None:
        if self.rows is None:
            object.__setattr__(self, "rows", torch.arange(len(self)))

    def __len__(self) -> int:
        return self.edges[0].shape[0]

    @property
    def architecture(self) -> Architecture:
        """The first of the batch's architectures: their node counts are the same."""
        return self.architectures[0]

    def mask(self, timestamp: int) -> Bool[Tensor, "batch targets sources k"] | None:
        """The edge mask of event `timestamp` (1..L), or None where every edge is real."""
        return self.edge_masks[timestamp - 1] if self.edge_masks else None

    def names(self, timestamp: int) -> tuple[str, ...]:
        """The names of the node features of event `timestamp`."""
        return self.node_names[timestamp - 1] if self.node_names else ("bias",)

    def residuals_into(self, timestamp: int) -> tuple[BatchResidual, ...]:
        """The residuals whose nodes are added again at `timestamp`."""
        return tuple(r for r in self.residuals if r.target == timestamp)

    def map_weights(self, function: Callable[[Tensor], Tensor]) -> "GraphBatch":
        """The same networks with `function` applied to edge and node features, such as a change of precision."""
        return replace(self, edges=tuple(map(function, self.edges)), nodes=tuple(map(function, self.nodes)))

    def map(self, function: Callable[[Tensor], Tensor]) -> "GraphBatch":
        """The same batch with `function` applied to every tensor."""

        def optional(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else function(tensor)

        return replace(
            self.map_weights(function),
            rows=function(self.rows),
            edge_masks=tuple(map(optional, self.edge_masks)),
            architecture_index=optional(self.architecture_index),
            residuals=tuple(replace(r, networks=optional(r.networks)) for r in self.residuals),
            targets={name: function(target) for name, target in self.targets.items()},
            images=optional(self.images),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "GraphBatch":
        """The same batch with every tensor on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "GraphBatch":
        """The same batch in page-locked memory, from which copies to a GPU run on their own."""
        return self.map(lambda tensor: tensor.pin_memory())


def residuals_of(architecture: Architecture) -> tuple[BatchResidual, ...]:
    """The residuals of a batch whose networks all have `architecture`."""
    return tuple(
        BatchResidual(target, residual)
        for target, timestamp in enumerate(architecture.timestamps, start=1)
        for residual in timestamp.residuals
    )
