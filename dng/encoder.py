"""The DNG-Encoder: a walk over a dynamic neural graph, one memory update per timestamp (paper, section 5).

Deviations from the paper's text, all settled by the runs behind its tables: the message is the GRU's hidden state
(see `dng.memory`), and each timestamp has a LayerNorm of its own while all share one GRU.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.features import FourierFeatures
from dng.graph import DynamicGraph
from dng.memory import GRUUpdate
from dng.message import MultiEdgeMessage, SingleEdgeMessage
from zootool.architecture import Architecture
from zootool.errors import UsageError


@dataclass(frozen=True)
class EncoderConfig:
    """`dim` is the memories' width d; `head_dim` the width of a head where a pair has several edges.

    `expansion_range` bounds the weights for which the features are computed by polynomials (see `dng.features`);
    with 0 every feature is computed as it is written.
    """

    dim: int = 512
    num_frequencies: int = 128
    sigma: float = 3.0
    head_dim: int = 32
    expansion_range: float = 1.0

    def __post_init__(self) -> None:
        if self.dim < 1 or self.head_dim < 1:
            raise ValueError(f"widths must be positive, got dim={self.dim} and head_dim={self.head_dim}")


class DNGEncoder(nn.Module):
    """Encodes networks of one architecture into the memories of their output nodes, (B, n_L, d).

    The inputs' memories are learnable vectors. At timestamp l the sources send messages along the edges, and the
    targets update their memories from them and from their biases.
    """

    def __init__(self, architecture: Architecture, config: EncoderConfig) -> None:
        super().__init__()
        self.architecture = architecture
        self.config = config
        self.inputs = nn.Parameter(torch.randn(architecture.num_inputs, config.dim))
        self.features = FourierFeatures(config.num_frequencies, config.sigma, config.expansion_range)
        self.messages = nn.ModuleList(self._message(k) for k in architecture.edges_per_pair)
        self.node_inputs = nn.ModuleList(
            nn.Linear(self.features.out_dim, config.dim) for _ in range(architecture.num_layers)
        )
        self.update = GRUUpdate(config.dim)
        self.norms = nn.ModuleList(nn.LayerNorm(config.dim) for _ in range(architecture.num_layers))

    @property
    def out_dim(self) -> int:
        """n_L d, the width of a flattened output."""
        return self.architecture.node_counts[-1] * self.config.dim

    def forward(self, graph: DynamicGraph) -> Float[Tensor, "batch outputs dim"]:
        self._check(graph)
        memory = self.inputs.expand(graph.batch_size, -1, -1)
        for layer in range(1, self.architecture.num_layers + 1):
            memory = self._step(graph, layer, memory)
        return memory

    def _step(self, graph: DynamicGraph, layer: int, sources: Tensor) -> Tensor:
        edges, mask = graph.edges[layer - 1], graph.mask(layer)
        messages = self.messages[layer - 1](self.features, edges, sources, mask)
        biases = graph.nodes[layer - 1][..., 0]
        return self.norms[layer - 1](self.update(self.features, self.node_inputs[layer - 1], biases, messages))

    def _message(self, num_edges: int) -> nn.Module:
        if num_edges == 1:
            return SingleEdgeMessage(self.features.out_dim, self.config.dim)
        return MultiEdgeMessage(self.features.out_dim, self.config.dim, self.config.head_dim, num_edges)

    def _check(self, graph: DynamicGraph) -> None:
        built, given = self.architecture, graph.architecture
        if (built.node_counts, built.edges_per_pair) != (given.node_counts, given.edges_per_pair):
            raise UsageError(
                f"the encoder was built for node counts {built.node_counts} and {built.edges_per_pair} edges per "
                f"pair, the networks have {given.node_counts} and {given.edges_per_pair}",
                hint="train an encoder on this zoo, or select the networks of its architecture",
            )
