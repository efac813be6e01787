"""Relational attention (Diao & Loynd 2023) over all pairs of nodes, as NG-T has it (Kofinas et al. 2024).

Queries, keys and values depend on pairs: q_ij = q_i + e^q_ij, k_ij = k_j + e^k_ij, v_ij = v_j * e^m_ij + e^v_ij. No
vector of the attention's width is made per pair for queries and keys: q_ij . k_ij is taken apart into q_i . k_j,
q_i . e^k_ij, e^q_ij . k_j and e^q_ij . e^k_ij, and the maps of edges are applied to the nodes' side instead. torch's
fused attention can't be used, since the values depend on pairs too.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class RelationalAttention(nn.Module):
    """softmax_j(q_ij . k_ij / sqrt(attention_dim)) v_ij, head by head; the scale is that of all heads together.

    The last nodes ask, as many as `edges` has rows; all answer. The maps of nodes (to query, key, value) and of edges
    (to query, key, the value's factor, the value's summand) have no bias.
    """

    def __init__(self, node_dim: int, edge_dim: int, attention_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.nodes = nn.Linear(node_dim, 3 * attention_dim, bias=False)
        self.edges = nn.Linear(edge_dim, 4 * attention_dim, bias=False)

    def forward(
        self, nodes: Float[Tensor, "batch nodes node_dim"], edges: Float[Tensor, "batch queries nodes edge_dim"]
    ) -> Float[Tensor, "batch queries attention"]:
        queries, keys, values = self.nodes(nodes).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        queries = queries[:, -edges.shape[1] :]
        to_query, to_key, to_factor, to_summand = self.edges.weight.unflatten(0, (4, self.num_heads, -1))
        forms = torch.einsum("hcd,hce->hde", to_query, to_key).to(edges.dtype)
        edge_terms: Tensor = EdgeForms.apply(edges, forms)
        logits = torch.einsum("bihc,bjhc->bhij", queries, keys)
        logits = logits + torch.einsum("bihd,bijd->bhij", torch.einsum("bihc,hcd->bihd", queries, to_key), edges)
        logits = logits + torch.einsum("bjhd,bijd->bhij", torch.einsum("bjhc,hcd->bjhd", keys, to_query), edges)
        logits = logits + edge_terms.permute(0, 3, 1, 2)
        weights = (logits / math.sqrt(self.nodes.out_features // 3)).softmax(dim=-1)
        # sum_j a_ij v_j * (F e_ij) + S sum_j a_ij e_ij, with F and S applied behind the sums.
        weighted = weights.permute(0, 2, 3, 1)[..., None] * values[:, None]
        outer = torch.einsum("bijhc,bijd->bihcd", weighted, edges)
        summed = torch.einsum("bhij,bijd->bihd", weights, edges)
        answers = torch.einsum("bihcd,hcd->bihc", outer, to_factor)
        return (answers + torch.einsum("bihd,hcd->bihc", summed, to_summand)).flatten(2)


class EdgeForms(torch.autograd.Function):
    """e M_h e for every edge vector e (*shape, d) and every head's matrix M_h (heads, d, d): (*shape, heads).

    Nothing per pair is kept for the backward pass but the edges themselves, which are there anyway.
    """

    @staticmethod
    def forward(ctx: Any, edges: Tensor, forms: Tensor) -> Tensor:
        """One head at a time."""
        ctx.save_for_backward(edges, forms)
        out = edges.new_empty(*edges.shape[:-1], len(forms))
        for head, form in enumerate(forms):
            out[..., head] = ((edges @ form) * edges).sum(dim=-1)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, Tensor]:  # type: ignore[bad-override]
        """Gradients of edges and forms."""
        (edges, forms), (grad,) = ctx.saved_tensors, grad_outputs
        grad_edges, grad_forms = torch.zeros_like(edges), torch.empty_like(forms)
        for head, form in enumerate(forms):
            scaled = edges * grad[..., head, None]
            grad_edges += scaled @ (form + form.T)
            grad_forms[head] = edges.flatten(0, -2).T @ scaled.flatten(0, -2)
        return grad_edges, grad_forms
