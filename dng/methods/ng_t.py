"""NG-T: a transformer with relational attention on neural graphs (Kofinas et al. 2024; Diao & Loynd 2023).

All pairs of nodes have an edge vector, those without an edge that of zeros. Row i, which asks, is an edge's source: a
node sees the weights that leave it, and those that arrive come in by the edges' update. Xavier-uniform weights and zero
biases are the transformer layers'; the embedding and the head begin as torch's own. Published models of the Small CNN
Zoo have 896 parameters more, embeddings of activations that nothing reads. Presets called -augmented change networks
in training, as `dng.methods.ng_gnn` says.

Queries, keys and values depend on pairs: q_ij = q_i + e^q_ij, k_ij = k_j + e^k_ij, v_ij = v_j * e^m_ij + e^v_ij. No
vector of the attention's width is made per pair for queries and keys: q_ij . k_ij is taken apart into q_i . k_j,
q_i . e^k_ij, e^q_ij . k_j and e^q_ij . e^k_ij, and the maps of edges are applied to the nodes' side instead. torch's
fused attention can't be used, since the values depend on pairs too.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dng.methods import ng_gnn
from dng.methods.common import widened_width
from dng.methods.neural_graph import NeuralGraph, NeuralGraphEmbedding, NeuralGraphReader
from dng.methods.neural_graph_config import (
    NeuralGraphConfig,
    NeuralGraphSettings,
    with_cnn_augmentation,
    with_inr_augmentation,
)
from dng.methods.neural_graph_raw import EdgeBlock, first_nodes
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

INR_GRAPH = replace(ng_gnn.INR_GRAPH, sigma=1.0, reverse=False)


@dataclass(frozen=True)
class NGTConfig(NeuralGraphSettings):
    """How networks become graphs; widths, depth and dropout of the transformer that reads them.

    `attention_dim` is that of all heads together; the two hidden widths are those of the MLPs of nodes and of edges.
    The head has `head_layers` hidden layers of `head_dim`.
    """

    widths: ClassVar[tuple[str, ...]] = ("node_dim", "edge_dim", "node_hidden_dim", "edge_hidden_dim", "head_dim")

    graph: NeuralGraphConfig = field(default_factory=lambda: INR_GRAPH)
    node_dim: int = 64
    edge_dim: int = 32
    attention_dim: int = 128
    node_hidden_dim: int = 128
    edge_hidden_dim: int = 64
    head_dim: int = 128
    num_layers: int = 4
    num_heads: int = 8
    head_layers: int = 1
    dropout: float = 0.2

    def __post_init__(self) -> None:
        self.check((*self.widths, "attention_dim", "num_layers", "num_heads", "head_layers"), shares=("dropout",))
        if self.attention_dim % self.num_heads:
            raise UsageError(
                f"attention_dim (={self.attention_dim}) must be divisible by num_heads (={self.num_heads})"
            )
        if self.graph.scalar_encoder:
            raise UsageError("one matrix of all pairs has one encoder: scalar_encoder must be off")

    def widened(self, factor: float) -> "NGTConfig":
        """All widths times `factor`, the attention's to the nearest that its heads divide; what else there is stays."""
        attention_dim = widened_width(self.attention_dim, factor, self.num_heads)
        return replace(super().widened(factor), attention_dim=attention_dim)


INR = NGTConfig()
INR_PROBES = NGTConfig(replace(INR_GRAPH, num_probes=64))
INR_PROBES_AUGMENTED = NGTConfig(with_inr_augmentation(INR_PROBES.graph))
SMALL_CNN = replace(INR.widened(2.0), graph=replace(ng_gnn.SMALL_CNN_GRAPH, sigma=1.0), head_layers=2, dropout=0.0)
WILD_PARK = NGTConfig(
    replace(ng_gnn.WILD_PARK_GRAPH, sigma=1.0),
    node_dim=32, edge_dim=16, attention_dim=32, node_hidden_dim=64, edge_hidden_dim=64, head_dim=64,
    num_layers=3, num_heads=4, head_layers=2,
)  # fmt: skip
VIT = NGTConfig(
    replace(ng_gnn.VIT_GRAPH, sigma=1.0),
    node_dim=48, edge_dim=24, attention_dim=96, node_hidden_dim=96, edge_hidden_dim=48, head_dim=64, head_layers=2,
)  # fmt: skip


class NGT(NeuralGraphReader):
    """The transformer and an MLP on the concatenated output nodes."""

    name: ClassVar[str] = "ng-t"
    presets: ClassVar[dict[str, Any]] = {
        "inr": INR,
        "inr-probes": INR_PROBES,
        "inr-probes-6m": INR_PROBES.widened(4.0),
        "inr-augmented": NGTConfig(with_inr_augmentation(INR_GRAPH)),
        "inr-probes-augmented": INR_PROBES_AUGMENTED,
        "inr-probes-6m-augmented": INR_PROBES_AUGMENTED.widened(4.0),
        "small-cnn": SMALL_CNN,
        "small-cnn-augmented": replace(SMALL_CNN, graph=with_cnn_augmentation(SMALL_CNN.graph)),
        "wild-park": WILD_PARK,
        "vit": VIT,
    }

    def __init__(self, architectures: Collection[Architecture], num_outputs: int, config: NGTConfig = INR) -> None:
        super().__init__(architectures, num_outputs, config)
        self.network = RelationalTransformer(architectures, config, reads_outputs=True)
        width, layers = self.network.graph.num_outputs * config.node_dim, []
        for _ in range(config.head_layers):
            layers += [nn.Linear(width, config.head_dim), nn.ReLU()]
            width = config.head_dim
        self.head = nn.Sequential(*layers, nn.Linear(width, num_outputs))

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch outputs node_dim"]:
        return self.network(graph)[0]


class RelationalTransformer(nn.Module):
    """Embedding and layers. With `reads_outputs` the output nodes come back, and the last layer updates no edges.

    Otherwise all nodes come back, and all edges, updated by every layer.
    """

    def __init__(self, architectures: Collection[Architecture], config: NGTConfig, reads_outputs: bool) -> None:
        super().__init__()
        self.reads_outputs = reads_outputs
        self.graph = NeuralGraphEmbedding(architectures, config.graph, config.node_dim, config.edge_dim)
        ends, options = (config.node_dim, config.edge_dim), (config.num_heads, config.dropout)
        widths = (*ends, config.attention_dim, config.node_hidden_dim)
        self.layers = nn.ModuleList(RelationalLayer(*widths, *options) for _ in range(config.num_layers))
        self.edge_updates = nn.ModuleList(
            RelationalEdgeUpdate(*ends, config.edge_hidden_dim, config.dropout)
            for _ in range(config.num_layers - reads_outputs)
        )
        for module in (*self.layers.modules(), *self.edge_updates.modules()):
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        """Measure means and deviations of layers."""
        self.graph.fit(graphs)

    def forward(
        self, graph: GraphBatch
    ) -> tuple[Float[Tensor, "batch queries node_dim"], Float[Tensor, "batch queries nodes edge_dim"]]:
        """The nodes and edges behind the last layer; the rows of the edges are their sources."""
        embedded = self.graph(graph, merge_parallel=True)
        nodes, edges = embedded.nodes, self._matrix(embedded)
        num_read = embedded.counts[-1] if self.reads_outputs else sum(embedded.counts)
        for index, layer in enumerate(self.layers):
            # Rows that only nodes which aren't read would ask for are left out, here and in the last update.
            if index == len(self.layers) - 1:
                edges = edges[:, -num_read:]
            nodes = layer(nodes, edges)
            if index < len(self.edge_updates):
                is_last = index == len(self.edge_updates) - 1
                edges = self.edge_updates[index](nodes, edges, num_read if is_last else None)
        return nodes, edges

    def _matrix(self, graph: NeuralGraph) -> Float[Tensor, "batch nodes nodes edge_dim"]:
        """The edges of all pairs, rows their sources."""
        num_nodes, firsts = sum(graph.counts), first_nodes(graph.counts)
        matrix = self.graph.absent_edge().expand(graph.nodes.shape[0], num_nodes, num_nodes, -1).clone()
        for block in graph.blocks:
            _write(matrix, block, firsts)
        return matrix


def _write(matrix: Float[Tensor, "batch nodes nodes dim"], block: EdgeBlock, firsts: list[int]) -> None:
    """Put the edges of a block into their places in the matrix."""
    sources, targets = (
        slice(first + nodes.start, first + nodes.stop, nodes.step)
        for first, nodes in ((firsts[end.layer], end.nodes) for end in (block.source, block.target))
    )
    if not block.is_aligned:
        matrix[:, sources, targets] = block.features.transpose(1, 2)
        return
    everything = torch.arange(matrix.shape[1], device=matrix.device)
    rows, columns, features = everything[sources], everything[targets], block.features.squeeze(2)
    if block.networks is not None:
        # Other networks may have another connection there, which is in the matrix already.
        features = torch.where(block.networks[:, None, None], features, matrix[:, rows, columns])
    matrix[:, rows, columns] = features


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


def _mlp(dim: int, hidden_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, hidden_dim, bias=False), nn.GELU(), nn.Linear(hidden_dim, dim), nn.Dropout(dropout)
    )
