"""A batch of dynamic neural graphs, as the models see it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from zootool.architecture import Architecture


@dataclass(frozen=True)
class DynamicGraph:
    """B networks with the same node counts, as what the events t = 1..L add (paper, section 4).

    `edges[l-1]` is (B, n_l, n_{l-1}, k_l): the raw edge features of event l, one scalar per edge. `nodes[l-1]` is
    (B, n_l, c_l): the raw node features, the bias first (zero where the layer has none). `edge_masks[l-1]` is True
    where an edge is real, or None where all are.
    """

    architecture: Architecture
    edges: tuple[Float[Tensor, "batch _targets _sources _k"], ...]
    nodes: tuple[Float[Tensor, "batch _targets _features"], ...]
    edge_masks: tuple[Bool[Tensor, "batch _targets _sources _k"] | None, ...] = ()

    @property
    def batch_size(self) -> int:
        """B."""
        return self.edges[0].shape[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> "DynamicGraph":
        """The same graphs with `function` applied to every edge and node tensor, such as a move to a device."""
        masks = tuple(None if mask is None else mask.to(function(mask.float()).device) for mask in self.edge_masks)
        return replace(
            self,
            edges=tuple(function(edge) for edge in self.edges),
            nodes=tuple(function(node) for node in self.nodes),
            edge_masks=masks,
        )

    def mask(self, layer: int) -> Bool[Tensor, "batch targets sources k"] | None:
        """The edge mask of event `layer` (1..L), or None where every edge is real."""
        return self.edge_masks[layer - 1] if self.edge_masks else None
