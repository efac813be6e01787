import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dng.methods.ng_gnn import NGGNN, MinibatchNorm, NGGNNConfig
from dng.testing import assert_batch_independent, random_graph
from dng.training.seed import seeded
from tests.dng.methods.neural_graphs import permuted, symmetric_cases, tiny_gnn
from zootool.architecture import Architecture, Timestamp
from zootool.graph import GraphBatch


class Loops:
    """NG-GNN from its formulas, for one network whose edges have one number, by loops over nodes and edges."""

    def __init__(self, model: NGGNN, graph: GraphBatch, row: int) -> None:
        self.model, self.network = model, model.network
        self.embedding: Any = model.network.graph
        self.counts = graph.architecture.node_counts
        self.firsts = [sum(self.counts[:t]) for t in range(len(self.counts))]
        self.nodes = list(self.embedding(graph).nodes[row])
        self.edges: list[tuple[int, int, Tensor]] = []
        seen = self.embedding.statistics.standardised(graph) if self.embedding.config.standardise else graph
        for t, weights in enumerate(seen.edges, start=1):
            for i in range(self.counts[t]):
                for j in range(self.counts[t - 1]):
                    self.add(self.firsts[t - 1] + j, self.firsts[t] + i, weights[row, i, j, 0])
        for edge in graph.residuals:
            source, target = edge.residual.source, edge.target
            for i in range(edge.residual.count or self.counts[source]):
                self.add(self.firsts[source] + i, self.firsts[target] + i, torch.tensor(1.0).double())

    def add(self, source: int, target: int, weight: Tensor) -> None:
        zero = torch.zeros_like(weight)
        embed = nn.Sequential(self.embedding.edge_encoder, self.embedding.edge_projection)
        if not self.embedding.config.reverse:
            self.edges.append((source, target, embed(weight[None])))
            return
        self.edges.append((source, target, embed(torch.stack([weight, zero, weight]))))
        self.edges.append((target, source, embed(torch.stack([zero, weight, weight]))))

    def round(self, layer: Any) -> list[Tensor]:
        updated = []
        for v, x in enumerate(self.nodes):
            messages = []
            for source, target, edge in self.edges:
                if target == v:
                    scale, shift = layer.edge(edge).split(x.shape[0])
                    messages.append(scale * layer.ends(torch.cat([x, self.nodes[source]])) + shift)
            zero = torch.zeros_like(x)
            mean = sum(messages, zero) / max(1, len(messages))
            low = torch.stack(messages).min(dim=0).values if messages else zero
            high = torch.stack(messages).max(dim=0).values if messages else zero
            spread = sum(((m - mean) ** 2 for m in messages), zero) / max(1, len(messages))
            found = torch.cat([mean, low, high, spread.clamp_min(1e-5) ** 0.5])
            scaled = found * math.log(len(messages) + 1) / float(self.network.delta)
            updated.append(layer.out(layer.merge(torch.cat([x, found, scaled]))))
        return updated

    def moved(self, update: Any) -> list[tuple[int, int, Tensor]]:
        found = []
        for u, v, edge in self.edges:
            hidden = update.edge(edge) + update.source(self.nodes[u]) + update.target(self.nodes[v])
            found.append((u, v, update.out(nn.functional.silu(hidden))))
        return found

    def logits(self) -> Tensor:
        layers = self.network.layers
        for layer, norm, update in zip(layers[:-1], self.network.norms, self.network.edge_updates, strict=True):
            self.nodes = [nn.functional.silu(norm(x)) for x in self.round(layer)]
            self.edges = self.moved(update)
        self.nodes = self.round(layers[-1])
        return self.model.head(torch.cat(self.nodes[self.firsts[-1] :]))


@pytest.mark.parametrize("case", ["siren", "siren with residuals"])
def test_the_logits_are_those_of_the_formulas_edge_by_edge(case: str) -> None:
    model, graph = tiny_gnn(case, num_layers=3)
    torch.testing.assert_close(model(graph)[1], Loops(model, graph, 1).logits(), rtol=0, atol=1e-9)


def test_one_layer_alone() -> None:
    model, graph = tiny_gnn("siren with residuals", num_layers=1)
    torch.testing.assert_close(model(graph)[1], Loops(model, graph, 1).logits(), rtol=0, atol=1e-9)


def test_nothing_arrives_at_the_inputs_and_one_edge_has_no_deviation() -> None:
    architecture = Architecture(1, (Timestamp("linear", 2, 1), Timestamp("linear", 1, 2)))
    graph = random_graph(architecture, 1, dtype=torch.float64)
    with seeded(0):
        model = NGGNN([architecture], 1, NGGNNConfig(symmetric_cases()["siren"][1], dim=3, num_layers=1)).double()
    seen: list[Tensor] = []
    layer: Any = model.network.layers[0]
    layer.merge.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(graph)
    found = seen[0][0, :, 3:].unflatten(-1, (2, 4, 3))
    root = 1e-5**0.5
    assert not found[0, :, :3].any()
    assert not found[0, 1].any()
    torch.testing.assert_close(found[:3, 0, 3], torch.full((3, 3), root, dtype=torch.float64), rtol=1e-6, atol=0)
    assert torch.equal(found[1, 0, 0], found[1, 0, 1])
    assert torch.equal(found[1, 0, 0], found[1, 0, 2])
    assert (found[3, 0, 3] > root).all()


def test_the_published_norm_is_over_the_whole_minibatch() -> None:
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    norm = MinibatchNorm(4).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        norm.bias.fill_(0.5)
    expected = (x - x.mean()) / (((x - x.mean()) ** 2).mean() ** 0.5 + 1e-5) * norm.weight + 0.5
    torch.testing.assert_close(norm(x), expected)
    model, graph = tiny_gnn("siren", norm="minibatch")
    assert all(isinstance(norm, MinibatchNorm) for norm in model.network.norms)
    with pytest.raises(AssertionError):
        assert_batch_independent(model, graph)
    torch.testing.assert_close(model(permuted(graph)), model(graph), rtol=0, atol=1e-9)
