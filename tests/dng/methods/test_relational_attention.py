from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dng.methods.ng_t import EdgeForms, RelationalAttention
from dng.training.seed import seeded
from tests.dng.methods.neural_graphs import tiny_t
from zootool.graph import GraphBatch


def attended(attention: RelationalAttention, nodes: Tensor, edges: Tensor) -> Tensor:
    """The attention's formulas for one network, pair by pair."""
    num_nodes, heads = len(nodes), attention.num_heads
    dim = attention.nodes.out_features // 3
    rows = []
    for i in range(num_nodes):
        logits, values = [], []
        for j in range(num_nodes):
            q_i = attention.nodes(nodes[i])[:dim]
            _, k_j, v_j = attention.nodes(nodes[j]).split(dim)
            e_q, e_k, e_m, e_v = attention.edges(edges[i, j]).split(dim)
            products = (q_i + e_q) * (k_j + e_k)
            logits.append(torch.stack([part.sum() for part in products.chunk(heads)]) / dim**0.5)
            values.append(v_j * e_m + e_v)
        weights = torch.stack(logits).softmax(dim=0)
        answer = [
            sum(weights[j, head] * values[j].chunk(heads)[head] for j in range(num_nodes)) for head in range(heads)
        ]
        rows.append(torch.cat(answer))  # type: ignore[bad-argument-type]
    return torch.stack(rows)


def test_attention_is_that_of_the_formulas_pair_by_pair() -> None:
    with seeded(0):
        attention = RelationalAttention(6, 5, 8, num_heads=2).double()
        nodes, edges = torch.randn(2, 4, 6).double(), torch.randn(2, 4, 4, 5).double()
    expected = attended(attention, nodes[1], edges[1])
    torch.testing.assert_close(attention(nodes, edges)[1], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(attention(nodes, edges[:, -3:])[1], expected[-3:], rtol=0, atol=1e-12)


def test_products_of_edges_have_the_gradients_that_they_should() -> None:
    edges = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    forms = torch.randn(5, 4, 4, dtype=torch.float64, requires_grad=True)
    expected = torch.einsum("ijd,hde,ije->ijh", edges, forms, edges)
    torch.testing.assert_close(EdgeForms.apply(edges, forms), expected)
    assert torch.autograd.gradcheck(EdgeForms.apply, (edges, forms))


def reference(model: Any, graph: GraphBatch, row: int) -> Tensor:
    """NG-T from its formulas, for one network whose edges have one number, by loops over pairs of nodes."""
    network, embedding = model.network, model.network.graph
    counts = graph.architecture.node_counts
    firsts = [sum(counts[:t]) for t in range(len(counts))]
    nodes = list(embedding(graph).nodes[row])
    pairs = range(len(nodes))
    seen = embedding.statistics.standardised(graph) if embedding.config.standardise else graph
    weights = torch.zeros(len(nodes), len(nodes), dtype=torch.float64)
    for t, edges in enumerate(seen.edges, start=1):
        weights[firsts[t - 1] : firsts[t - 1] + counts[t - 1], firsts[t] : firsts[t] + counts[t]] = edges[row, ..., 0].T
    for edges in graph.residuals:
        for i in range(edges.residual.count or counts[edges.target]):
            weights[firsts[edges.residual.source] + i, firsts[edges.target] + i] += 1
    if embedding.config.reverse:
        raw = torch.stack([weights, weights.T, weights + weights.T], dim=-1)
    else:
        raw = weights[..., None]
    e = {(i, j): embedding.edge_projection(embedding.edge_encoder(raw[i, j])) for i in pairs for j in pairs}
    for index, layer in enumerate(network.layers):
        matrix = torch.stack([torch.stack([e[i, j] for j in pairs]) for i in pairs])
        answers = attended(layer.attention, torch.stack(nodes), matrix)
        for i in pairs:
            x = layer.norm(nodes[i] + layer.out(layer.merge(answers[i])))
            nodes[i] = layer.mlp_norm(x + layer.mlp[2](nn.functional.gelu(layer.mlp[0](x))))
        if index < len(network.edge_updates):
            e = {pair: moved_edge(network.edge_updates[index], nodes, e, pair) for pair in e}
    return model.head(torch.cat(nodes[firsts[-1] :]))


def moved_edge(update: Any, nodes: list[Tensor], e: dict[tuple[int, int], Tensor], pair: tuple[int, int]) -> Tensor:
    i, j = pair
    hidden = update.pair(torch.cat([e[i, j], e[j, i]])) + update.source(nodes[i]) + update.target(nodes[j])
    edge = update.norm(e[i, j] + update.out(nn.functional.gelu(hidden)))
    return update.mlp_norm(edge + update.mlp[2](nn.functional.gelu(update.mlp[0](edge))))


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("case", ["siren", "siren with residuals"])
def test_the_logits_are_those_of_the_formulas_pair_by_pair(case: str, num_layers: int) -> None:
    model, graph = tiny_t(case, num_layers=num_layers)
    torch.testing.assert_close(model(graph)[1], reference(model, graph, 1), rtol=0, atol=1e-9)
