"""An MLP on the flattened weights: no symmetry, no structure. Networks of fewer weights are padded with zeros."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zootool.graph import GraphBatch


def flat_weights(graph: GraphBatch) -> Float[Tensor, "batch weights"]:
    """All weights and biases of a batch's networks behind one another; edges that a network lacks are zero."""
    parts = []
    for t in range(1, graph.architecture.num_layers + 1):
        edges, mask = graph.edges[t - 1], graph.mask(t)
        parts += [(edges if mask is None else edges * mask).flatten(1), graph.nodes[t - 1][..., 0]]
    return torch.cat(parts, dim=1)


class FlatMLP(nn.Module):
    """Two hidden layers with dropout, on inputs standardised by the training networks; a logit of the accuracy."""

    mean: Tensor
    scale: Tensor

    def __init__(
        self, training: Float[Tensor, "networks weights"], hidden_dim: int = 128, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.register_buffer("mean", training.mean(dim=0))
        self.register_buffer("scale", 1 / training.std(dim=0).clamp_min(1e-6))
        self.layers = nn.Sequential(
            nn.Linear(training.shape[1], hidden_dim), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden_dim, 1),
        )  # fmt: skip

    def forward(self, weights: Float[Tensor, "batch weights"]) -> Float[Tensor, " batch"]:
        # A weight that hardly moves among the training networks mustn't shout when it does elsewhere.
        standard = ((weights - self.mean) * self.scale).clamp(-10, 10)
        return self.layers(standard).squeeze(-1)
