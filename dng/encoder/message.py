"""Message functions: what the sources of a layer send along its edges (paper, equations 4 and 5)."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dng.encoder.features import FourierFeatures, WhileUnchanged

# Edge scales of this many numbers exist at a time in the fused product: about a core's share of the cache.
_CHUNK_NUMBERS = 1 << 19

Edges = Float[Tensor, "batch targets sources k"]
Mask = Bool[Tensor, "batch targets sources k"] | None
PairEdges = Float[Tensor, "pairs k"]
PairMask = Bool[Tensor, "pairs k"] | None
PairIndex = Int64[Tensor, " pairs"]
Sources = Float[Tensor, "sources dim"]


class SingleEdgeMessage(nn.Module):
    """m_i = sum_j A g(w_ij) * B s_j, for one edge per pair (equation 4).

    A and B are linear with bias, of width `dim`; g is given on every call, since the whole encoder shares it.
    """

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.edge = nn.Linear(feature_dim, dim)
        self.source = nn.Linear(dim, dim)
        self._expanded = WhileUnchanged()

    def forward(
        self, features: FourierFeatures, edges: Edges, sources: Float[Tensor, "batch sources dim"], mask: Mask = None
    ) -> Float[Tensor, "batch targets dim"]:
        weights, sent = edges.squeeze(-1), self.source(sources)
        if not features.can_expand(weights):
            scales = self.edge(features(weights))
            return (scales * sent[:, None] if mask is None else scales * mask * sent[:, None]).sum(dim=2)
        basis = features.basis(weights)
        if mask is not None:
            basis = basis * mask.squeeze(-1)
        return ScaledSum.apply(basis, features.expanded_weight(self.edge, self._expanded), sent)

    def along_pairs(
        self, features: FourierFeatures, edges: PairEdges, sources: Sources, index: PairIndex, mask: PairMask = None
    ) -> Float[Tensor, "pairs dim"]:
        """The message of each pair by itself; `index` says which of the sources is whose."""
        messages = features.project(edges.squeeze(-1), self.edge, self._expanded) * self.source(sources)[index]
        return messages if mask is None else messages * mask

    def along_feature(
        self, feature: Float[Tensor, " features"], sources: Float[Tensor, "*nodes dim"]
    ) -> Float[Tensor, "*nodes dim"]:
        """What one edge with this (learned) feature carries from each source."""
        return self.edge(feature) * self.source(sources)


class MultiEdgeMessage(nn.Module):
    """m_i = sum_j phi(concat_n [A g(w_ij,n) * B_n s_j]), for n = 1..k edges per pair (equation 5).

    Each edge has a head of width `head_dim`; A is shared by the heads, B_n is the n-th slice of one linear map, and
    phi is Linear-ReLU-Linear to `dim`. Layers with fewer edges than `num_edges` use the first heads: the others are
    zero, and with them what they would add. Masked edges contribute a zero head, and pairs without any edge send
    nothing: padding must not let phi's or A's bias through. With `pads_features` A's does go through, as in the
    published runs on small CNNs: edges that aren't there have g = 0.
    """

    def __init__(self, feature_dim: int, dim: int, head_dim: int, num_edges: int, pads_features: bool = False) -> None:
        super().__init__()
        self.num_edges = num_edges
        self.pads_features = pads_features
        self.head_dim = head_dim
        self.edge = nn.Linear(feature_dim, head_dim)
        self.source = nn.Linear(dim, num_edges * head_dim)
        self.merge_heads = nn.Linear(num_edges * head_dim, dim)
        self.merge_out = nn.Linear(dim, dim)
        self._expanded = WhileUnchanged()

    def forward(
        self, features: FourierFeatures, edges: Edges, sources: Float[Tensor, "batch sources dim"], mask: Mask = None
    ) -> Float[Tensor, "batch targets dim"]:
        scales = self._scales(features, edges, mask)
        hidden = self._hidden(scales * self._sent(sources, scales.shape[-2])[:, None], mask)
        if mask is None:
            count = hidden.new_full((1,), edges.shape[2])
        else:
            exists = mask.any(dim=-1, keepdim=True)
            hidden, count = hidden * exists, exists.sum(dim=2).to(hidden)
        # phi ends in a linear map, which may as well be applied to the sum: once per target, not once per pair.
        return nn.functional.linear(hidden.sum(dim=2), self.merge_out.weight) + count * self.merge_out.bias

    def along_pairs(
        self, features: FourierFeatures, edges: PairEdges, sources: Sources, index: PairIndex, mask: PairMask = None
    ) -> Float[Tensor, "pairs dim"]:
        """The message of each pair by itself; `index` says which of the sources is whose."""
        scales = self._scales(features, edges, mask)
        return self._merged(scales * self._sent(sources, scales.shape[-2])[index], mask)

    def along_feature(
        self, feature: Float[Tensor, " features"], sources: Float[Tensor, "*nodes dim"]
    ) -> Float[Tensor, "*nodes dim"]:
        """What one edge with this (learned) feature carries from each source, through the first head."""
        return self._merged(self.edge(feature) * self._sent(sources, 1), None)

    def _scales(
        self, features: FourierFeatures, edges: Float[Tensor, "*shape k"], mask: Tensor | None
    ) -> Float[Tensor, "*shape count head"]:
        """A g(w) of every edge, and A 0 of those that aren't there where features are padded."""
        scales = features.project(edges, self.edge, self._expanded)
        if not self.pads_features:
            return scales
        if mask is not None:
            scales = torch.where(mask[..., None], scales, self.edge.bias)
        missing = self.edge.bias.expand(*edges.shape[:-1], self.num_edges - edges.shape[-1], -1)
        return torch.cat([scales, missing], dim=-2)

    def _sent(self, sources: Float[Tensor, "*shape dim"], count: int) -> Float[Tensor, "*shape count head"]:
        width = count * self.head_dim
        sent = nn.functional.linear(sources, self.source.weight[:width], self.source.bias[:width])
        return sent.unflatten(-1, (count, self.head_dim))

    def _hidden(self, heads: Float[Tensor, "*shape count head"], mask: Tensor | None) -> Tensor:
        if mask is not None and not self.pads_features:
            heads = heads * mask[..., None]
        width = heads.shape[-2] * self.head_dim
        merged = nn.functional.linear(heads.flatten(-2), self.merge_heads.weight[:, :width], self.merge_heads.bias)
        return torch.relu(merged)

    def _merged(self, heads: Float[Tensor, "*shape count head"], mask: Tensor | None) -> Tensor:
        messages = self.merge_out(self._hidden(heads, mask))
        return messages if mask is None else messages * mask.any(dim=-1, keepdim=True)


class AttentionMessage(nn.Module):
    """m_i = sum_j e_ij * B s_j inside each head, from its queries, keys and values (method, section 1).

    The edges' features e are learned vectors (d_head x 3 d_head x dim), shared by the heads.
    """

    def __init__(self, head_nodes: int, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.edges = nn.Parameter(torch.randn(head_nodes, 3 * head_nodes, dim))
        self.source = nn.Linear(dim, dim)

    def forward(self, sources: Float[Tensor, "batch sources dim"]) -> Float[Tensor, "batch targets dim"]:
        # Sources are the queries of all heads, then the keys, then the values.
        sent = self.source(sources).unflatten(1, (3, self.num_heads, -1)).transpose(1, 2).flatten(2, 3)
        return torch.einsum("ijd,bhjd->bhid", self.edges, sent).flatten(1, 2)


class ScaledSum(torch.autograd.Function):
    """sum_j (P T(w_ij)) * u_j without ever holding a scale per edge and channel of the whole batch.

    `basis` is T (K, batch, targets, sources), `weight` is P (dim, K), `sent` is u (batch, sources, dim); the result
    is (batch, targets, dim). The scales are made a few networks at a time, in forward and again in backward.
    """

    @staticmethod
    def forward(ctx: Any, basis: Tensor, weight: Tensor, sent: Tensor) -> Tensor:
        """The messages; saves its arguments alone."""
        ctx.save_for_backward(basis, weight, sent)
        out = sent.new_empty(sent.shape[0], basis.shape[2], weight.shape[0])
        for rows in _chunks(basis, weight):
            scales = _scales(basis[:, rows], weight)
            torch.sum(scales.mul_(sent[rows, None]), dim=2, out=out[rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, Tensor, Tensor]:  # type: ignore[bad-override]
        """Gradients of basis (where it is asked for), weight and sent."""
        (basis, weight, sent), (grad,) = ctx.saved_tensors, grad_outputs
        grad_basis = torch.empty_like(basis) if ctx.needs_input_grad[0] else None
        grad_weight, grad_sent = torch.zeros_like(weight), torch.empty_like(sent)
        for rows in _chunks(basis, weight):
            scales = _scales(basis[:, rows], weight)
            torch.sum(scales.mul_(grad[rows, :, None]), dim=1, out=grad_sent[rows])
            torch.mul(grad[rows, :, None], sent[rows, None], out=scales)
            grad_scales = scales.flatten(0, 2)
            grad_weight.addmm_(grad_scales.T, basis[:, rows].flatten(1).T)
            if grad_basis is not None:
                grad_basis[:, rows] = (weight.T @ grad_scales.T).view_as(grad_basis[:, rows])
        return grad_basis, grad_weight, grad_sent


def _chunks(basis: Tensor, weight: Tensor) -> list[slice]:
    per_network = basis.shape[2] * basis.shape[3] * weight.shape[0]
    size = max(1, _CHUNK_NUMBERS // per_network)
    return [slice(start, start + size) for start in range(0, basis.shape[1], size)]


def _scales(basis: Float[Tensor, "degrees batch targets sources"], weight: Float[Tensor, "dim degrees"]) -> Tensor:
    """P T(w), (batch, targets, sources, dim)."""
    return (basis.flatten(1).T @ weight.T).unflatten(0, basis.shape[1:])
