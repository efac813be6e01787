"""The layers of a relational transformer: nodes ask all nodes about their edges, then edges read both of their ends."""

from jaxtyping import Float
from torch import Tensor, nn

from dng.methods.relational_attention import RelationalAttention


class RelationalLayer(nn.Module):
    """x <- LN(x + dropout(Linear Linear attention)), x <- LN(x + MLP x), of the last nodes: one per row of `edges`."""

    def __init__(
        self, node_dim: int, edge_dim: int, attention_dim: int, hidden_dim: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention = RelationalAttention(node_dim, edge_dim, attention_dim, num_heads)
        self.merge, self.out = nn.Linear(attention_dim, node_dim), nn.Linear(node_dim, node_dim)
        self.dropout = nn.Dropout(dropout)
        self.norm, self.mlp_norm = nn.LayerNorm(node_dim), nn.LayerNorm(node_dim)
        self.mlp = _mlp(node_dim, hidden_dim, dropout)

    def forward(
        self, nodes: Float[Tensor, "batch nodes node_dim"], edges: Float[Tensor, "batch queries nodes edge_dim"]
    ) -> Float[Tensor, "batch queries node_dim"]:
        answers = self.dropout(self.out(self.merge(self.attention(nodes, edges))))
        asking = self.norm(nodes[:, -edges.shape[1] :] + answers)
        return self.mlp_norm(asking + self.mlp(asking))


class RelationalEdgeUpdate(nn.Module):
    """e_ij <- LN(e_ij + Linear GELU(Linear[e_ij, e_ji] + Linear x_i + Linear x_j)); e <- LN(e + MLP e).

    With `num_rows` for the last rows i alone.
    """

    def __init__(self, node_dim: int, edge_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.pair = nn.Linear(2 * edge_dim, hidden_dim)
        self.source, self.target = nn.Linear(node_dim, hidden_dim), nn.Linear(node_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, edge_dim)
        self.norm, self.mlp_norm = nn.LayerNorm(edge_dim), nn.LayerNorm(edge_dim)
        self.mlp = _mlp(edge_dim, hidden_dim, dropout)

    def forward(
        self,
        nodes: Float[Tensor, "batch nodes node_dim"],
        edges: Float[Tensor, "batch nodes nodes edge_dim"],
        num_rows: int | None = None,
    ) -> Float[Tensor, "batch rows nodes edge_dim"]:
        rows = slice(None if num_rows is None else -num_rows, None)
        along, back = self.pair.weight.chunk(2, dim=1)
        returning = nn.functional.linear(edges[:, :, rows], back).transpose(1, 2)
        edges = edges[:, rows]
        hidden = nn.functional.linear(edges, along, self.pair.bias) + returning
        hidden = hidden + self.source(nodes[:, rows])[:, :, None] + self.target(nodes)[:, None]
        edges = self.norm(edges + self.out(nn.functional.gelu(hidden)))
        return self.mlp_norm(edges + self.mlp(edges))


def _mlp(dim: int, hidden_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, hidden_dim, bias=False), nn.GELU(), nn.Linear(hidden_dim, dim), nn.Dropout(dropout)
    )
