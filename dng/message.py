"""Message functions: what the sources of a layer send along its edges (paper, equations 4 and 5)."""

from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor, nn

Edges = Float[Tensor, "batch targets sources k"]
Mask = Bool[Tensor, "batch targets sources k"] | None


class Message(Protocol):
    """A message function maps edge scalars and source memories to one message per target, (B, n_l, d)."""

    def __call__(self, edges: Edges, sources: Float[Tensor, "batch sources dim"], mask: Mask) -> Tensor: ...


class SingleEdgeMessage(nn.Module):
    """m_i = sum_j A g(w_ij) * B s_j, for one edge per pair (equation 4).

    `features` is g, shared by the whole encoder; A and B are linear with bias, of width `dim`.
    """

    def __init__(self, features: nn.Module, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.features = features
        self.edge = nn.Linear(feature_dim, dim)
        self.source = nn.Linear(dim, dim)

    def forward(
        self, edges: Edges, sources: Float[Tensor, "batch sources dim"], mask: Mask = None
    ) -> Float[Tensor, "batch targets dim"]:
        scale = self.edge(self.features(edges.squeeze(-1)))
        if mask is not None:
            scale = scale * mask
        return (scale * self.source(sources)[:, None]).sum(dim=2)


class MultiEdgeMessage(nn.Module):
    """m_i = sum_j phi(concat_n [A g(w_ij,n) * B_n s_j]), for n = 1..k edges per pair (equation 5).

    Each edge has a head of width `head_dim`; A is shared by the heads, B_n is the n-th slice of one linear map, and
    phi is Linear-ReLU-Linear to `dim`. Absent edges (mask False) contribute a zero head, and pairs without any edge
    send nothing: padding must not let phi's or A's bias through.
    """

    def __init__(self, features: nn.Module, feature_dim: int, dim: int, head_dim: int, num_edges: int) -> None:
        super().__init__()
        self.features = features
        self.num_edges = num_edges
        self.edge = nn.Linear(feature_dim, head_dim)
        self.source = nn.Linear(dim, num_edges * head_dim)
        self.merge = nn.Sequential(nn.Linear(num_edges * head_dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(
        self, edges: Edges, sources: Float[Tensor, "batch sources dim"], mask: Mask = None
    ) -> Float[Tensor, "batch targets dim"]:
        heads = self.edge(self.features(edges)) * self.source(sources).unflatten(-1, (self.num_edges, -1))[:, None]
        if mask is None:
            return self.merge(heads.flatten(-2)).sum(dim=2)
        messages = self.merge((heads * mask[..., None]).flatten(-2))
        return (messages * mask.any(dim=-1, keepdim=True)).sum(dim=2)
