"""Batches of dynamic graphs: what a model gets to see of some networks."""

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
    """B networks with the same node counts n_0..n_L, as what the events t = 1..L add.

    `edges[t-1]` is (B, n_t, n_{t-1}, k_t), padded with zeros to the largest k of the batch; `edge_masks[t-1]` is True
    where an edge is real, or None where all are. `nodes[t-1]` is (B, n_t, c_t), its features named by
    `node_names[t-1]` with the bias first; where a network lacks a feature it is 0, or 1 for scales and variances.
    Those of a norm before layer t + 1 are features of the nodes of layer t, and named source_scale and so on.
    `architectures` are the distinct ones in the batch and `architecture_index` says which is whose; `architecture` is
    the first of them. `rows` are rows of nets.parquet; `targets` holds the columns that the loader was asked for.
    """

    architecture: Architecture
    rows: Int64[Tensor, " batch"]
    edges: tuple[Float[Tensor, "batch _targets _sources _k"], ...]
    edge_masks: tuple[Bool[Tensor, "batch _targets _sources _k"] | None, ...]
    nodes: tuple[Float[Tensor, "batch _targets _features"], ...]
    node_names: tuple[tuple[str, ...], ...]
    architectures: tuple[Architecture, ...]
    architecture_index: Int64[Tensor, " batch"]
    residuals: tuple[BatchResidual, ...] = ()
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    images: UInt8[Tensor, "batch height width channels"] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "GraphBatch":
        """The same batch with every tensor on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "GraphBatch":
        """The same batch in page-locked memory, from which copies to a GPU run on their own."""
        return self.map(lambda tensor: tensor.pin_memory())

    def map(self, function: Callable[[Tensor], Tensor]) -> "GraphBatch":
        """The same batch with `function` applied to every tensor."""
        return replace(
            self,
            rows=function(self.rows),
            edges=tuple(map(function, self.edges)),
            edge_masks=tuple(None if mask is None else function(mask) for mask in self.edge_masks),
            nodes=tuple(map(function, self.nodes)),
            architecture_index=function(self.architecture_index),
            residuals=tuple(
                r if r.networks is None else replace(r, networks=function(r.networks)) for r in self.residuals
            ),
            targets={name: function(target) for name, target in self.targets.items()},
            images=None if self.images is None else function(self.images),
        )
