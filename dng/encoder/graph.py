"""A batch of dynamic neural graphs, as the models see it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from zootool.architecture import Architecture, Residual


@dataclass(frozen=True)
class ResidualEdges:
    """The nodes of timestamp `residual.source` added again at timestamp `target`, in the networks marked, or in all."""

    target: int
    residual: Residual
    networks: Bool[Tensor, " batch"] | None = None


@dataclass(frozen=True)
class DynamicGraph:
    """B networks with the same node counts, as what the events t = 1..L add (paper, section 4).

    `edges[t-1]` is (B, n_t, n_{t-1}, k_t): the raw edge features of event t, one scalar per edge. `edge_masks[t-1]`
    is True where an edge is real, or None where all are. `nodes[t-1]` is (B, n_t, c_t): the raw node features, named
    by `node_names[t-1]` with the bias first (zero where the layer has none). `architectures` are the distinct ones of
    the batch, `architecture_index` says which is whose (None: all are the first).
    """

    architectures: tuple[Architecture, ...]
    edges: tuple[Float[Tensor, "batch _targets _sources _k"], ...]
    nodes: tuple[Float[Tensor, "batch _targets _features"], ...]
    edge_masks: tuple[Bool[Tensor, "batch _targets _sources _k"] | None, ...] = ()
    node_names: tuple[tuple[str, ...], ...] = ()
    architecture_index: Int64[Tensor, " batch"] | None = None
    residuals: tuple[ResidualEdges, ...] = ()

    @property
    def batch_size(self) -> int:
        """B."""
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

    def residuals_into(self, timestamp: int) -> tuple[ResidualEdges, ...]:
        """The residuals whose nodes are added again at `timestamp`."""
        return tuple(r for r in self.residuals if r.target == timestamp)

    def map(self, function: Callable[[Tensor], Tensor]) -> "DynamicGraph":
        """The same graphs with `function` applied to every floating-point tensor, such as a change of precision."""
        return replace(
            self,
            edges=tuple(function(edge) for edge in self.edges),
            nodes=tuple(function(node) for node in self.nodes),
        )


def residuals_of(architecture: Architecture) -> tuple[ResidualEdges, ...]:
    """The residuals of a batch whose networks all have `architecture`."""
    return tuple(
        ResidualEdges(target, residual)
        for target, timestamp in enumerate(architecture.timestamps, start=1)
        for residual in timestamp.residuals
    )
