import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dng.baselines.neural_graph_config import ACTIVATIONS
from dng.baselines.ng_gnn import INR, NGGNN, NGGNNConfig
from dng.baselines.pna import MinibatchNorm
from dng.graph import DynamicGraph
from dng.heads import count_parameters
from dng.seed import seeded
from tests.dng.baselines.checks import (
    assert_batch_independent,
    assert_gradients,
    permute_inputs,
    permute_outputs,
    permute_uncoupled,
)
from tests.dng.baselines.neural_graphs import (
    SIREN,
    SMALL_VIT,
    cnn,
    different_cnns,
    joined,
    permuted,
    residual_siren,
    symmetric_cases,
)
from tests.dng.graphs import random_graph, simple_vit, small_cnn
from zootool.architecture import Architecture, Timestamp
from zootool.errors import UsageError
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture

CASES = symmetric_cases()
PARK = cnn_architecture(CnnConfig((3, 8, 8), (7, 3), (1, 1), (3, 1), ("relu", "gelu"), (None, 0)))


def build(case: str, **options: object) -> tuple[NGGNN, DynamicGraph]:
    architecture, config = CASES[case]
    graph = random_graph(architecture, 3, dtype=torch.float64)
    with seeded(0):
        model = NGGNN([architecture], 4, NGGNNConfig(config, dim=6, **options)).double().eval()  # type: ignore[bad-argument-type]
    model.fit([graph])
    return model, graph


def siren(num_outputs: int) -> list[Architecture]:
    return [siren_architecture(2, (32, 32), num_outputs)]


@pytest.mark.parametrize(
    ("preset", "architectures", "num_outputs", "count"),
    [
        ("inr-narrow", siren(1), 10, 92_010),
        ("inr-narrow-probes", siren(1), 10, 100_714),
        ("inr", siren(1), 10, 331_466),
        ("inr", siren(3), 10, 339_786),
        ("inr-probes-6m", siren(1), 10, 6_045_646),
        ("inr-probes-6m-rgb", siren(3), 10, 6_037_218),
        # Published are 67,584 more, which nothing reads: another second projection and embeddings of activations.
        ("small-cnn", [cnn_architecture(CnnConfig())], 1, 5_587_969 - 67_584),
        ("wild-park", [PARK], 1, 369_025),
        ("vit", [simple_vit()], 1, 251_837),
    ],
)
def test_parameters_are_as_many_as_published(
    preset: str, architectures: list[Architecture], num_outputs: int, count: int
) -> None:
    with torch.device("meta"):
        assert count_parameters(NGGNN(architectures, num_outputs, NGGNN.presets[preset])) == count


def test_what_the_published_small_cnn_model_has_and_does_not_read() -> None:
    preset = NGGNN.presets["small-cnn"]
    with torch.device("meta"):
        model = NGGNN([cnn_architecture(CnnConfig())], 1, preset)
        activations = replace(preset, graph=replace(preset.graph, activations=ACTIVATIONS))
        embedded = NGGNN([cnn_architecture(CnnConfig())], 1, activations)
    projection = count_parameters(model.network.graph.edge_projection)
    assert count_parameters(embedded) + projection == 5_587_969


@pytest.mark.parametrize(("width", "count"), [(32, 100_714), (284, 6_045_646)])
def test_a_budget_of_parameters_is_met_by_width(width: int, count: int) -> None:
    preset = NGGNN.presets["inr-probes"]
    with torch.device("meta"):
        assert count_parameters(NGGNN(siren(1), 10, preset.widened(width / preset.dim))) == count
    assert preset.widened(0.001).dim == 1
    assert replace(preset.widened(2.0), dim=preset.dim) == preset


@pytest.mark.parametrize("case", CASES)
def test_hidden_nodes_have_no_order(case: str) -> None:
    model, graph = build(case)
    other = permuted(graph)
    assert any(not torch.equal(one, two) for one, two in zip(graph.edges, other.edges, strict=True))
    torch.testing.assert_close(model(other), model(graph), rtol=0, atol=1e-9)
    torch.testing.assert_close(
        model.float()(other.map(Tensor.float)), model(graph.map(Tensor.float)), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("case", CASES)
def test_all_else_has(case: str) -> None:
    model, graph = build(case)
    logits = model(graph)
    # Uncoupled: residual connections and attention tie what the check moves, which is a change as well.
    changes = [permute_outputs(graph), permute_uncoupled(graph)]
    if graph.architecture.num_inputs > 1:
        changes.append(permute_inputs(graph))
    for other in changes:
        assert (model(other) - logits).abs().max() > 1e-6


@pytest.mark.parametrize("case", ["siren with residuals", "cnn", "vit"])
def test_gradients(case: str) -> None:
    # So small a step crosses few of the kinks that minima, maxima and ReLU have.
    assert_gradients(*build(case), step=1e-7)


def test_every_parameter_has_a_gradient() -> None:
    model, graph = build("siren with residuals")
    model(graph).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("case", ["siren with residuals", "cnn with residuals", "vit"])
def test_a_network_is_the_same_among_others(case: str) -> None:
    assert_batch_independent(*build(case))


@pytest.mark.parametrize("scalar_encoder", [False, True])
def test_a_network_is_the_same_among_networks_of_other_kernels_and_residual_connections(scalar_encoder: bool) -> None:
    parts = different_cnns()
    config = replace(CASES["cnn"][1], scalar_encoder=scalar_encoder)
    with seeded(0):
        model = NGGNN([part.architecture for part in parts], 4, NGGNNConfig(config, dim=6)).double().eval()
    model.fit(parts)
    batch = joined(parts)
    together = model(batch)
    for index, part in enumerate(parts):
        torch.testing.assert_close(together[batch.architecture_index == index], model(part), rtol=0, atol=1e-10)


class Loops:
    """NG-GNN from its formulas, for one network whose edges have one number, by loops over nodes and edges."""

    def __init__(self, model: NGGNN, graph: DynamicGraph, row: int) -> None:
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
            found = torch.cat([mean, low, high, (spread + 1e-5) ** 0.5])
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
    model, graph = build(case, num_layers=3)
    torch.testing.assert_close(model(graph)[1], Loops(model, graph, 1).logits(), rtol=0, atol=1e-9)


def test_one_layer_alone() -> None:
    model, graph = build("siren with residuals", num_layers=1)
    torch.testing.assert_close(model(graph)[1], Loops(model, graph, 1).logits(), rtol=0, atol=1e-9)


def test_nothing_arrives_at_the_inputs_and_one_edge_has_no_deviation() -> None:
    architecture = Architecture(1, (Timestamp("linear", 2, 1), Timestamp("linear", 1, 2)))
    graph = random_graph(architecture, 1, dtype=torch.float64)
    with seeded(0):
        model = NGGNN([architecture], 1, NGGNNConfig(CASES["siren"][1], dim=3, num_layers=1)).double()
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


def test_delta_is_that_of_the_architectures_until_it_is_measured() -> None:
    parts = different_cnns()
    architectures = [part.architecture for part in parts]
    config = NGGNNConfig(CASES["cnn"][1], dim=3)
    plain, with_one = [0] * 2 + [2] * 4 + [4] * 4 + [4] * 4 + [4] * 3, [0] * 2 + [2] * 4 + [4] * 4 + [5] * 4 + [4] * 3
    logs = [sum(math.log(d + 1) for d in degrees) / 17 for degrees in (with_one, plain)]
    model = NGGNN(architectures[:2], 1, config)
    assert float(model.network.delta) == pytest.approx(sum(logs) / 2)
    model.fit(iter([parts[0].map(lambda tensor: tensor[:1]), parts[1], parts[1]]))
    assert float(model.network.delta) == pytest.approx((logs[0] + 4 * logs[1]) / 5)
    assert "network.delta" in model.state_dict()


def test_delta_leaves_out_reverse_edges() -> None:
    both = NGGNN([SIREN], 1, replace(INR, dim=3))
    one = NGGNN([SIREN], 1, replace(INR, dim=3, graph=replace(INR.graph, reverse=False)))
    assert float(both.network.delta) == float(one.network.delta)


def test_fitting_changes_what_is_seen() -> None:
    architecture, config = CASES["siren with probes"]
    graph = random_graph(architecture, 4, dtype=torch.float64)
    with seeded(0):
        model = NGGNN([architecture], 2, NGGNNConfig(config, dim=6)).double().eval()
    before = model(graph)
    model.fit([graph])
    assert not torch.allclose(model(graph), before)
    with pytest.raises(UsageError, match="no training networks"):
        model.fit([])
    with pytest.raises(UsageError, match="these have 3 and 3"):
        model.fit([random_graph(siren_architecture(3, (5, 4), 3), 1)])


def test_the_published_norm_is_over_the_whole_minibatch() -> None:
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    norm = MinibatchNorm(4).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        norm.bias.fill_(0.5)
    expected = (x - x.mean()) / (((x - x.mean()) ** 2).mean() ** 0.5 + 1e-5) * norm.weight + 0.5
    torch.testing.assert_close(norm(x), expected)
    model, graph = build("siren", norm="minibatch")
    assert all(isinstance(norm, MinibatchNorm) for norm in model.network.norms)
    with pytest.raises(AssertionError):
        assert_batch_independent(model, graph)
    torch.testing.assert_close(model(permuted(graph)), model(graph), rtol=0, atol=1e-9)


def test_dropout_is_for_training_alone() -> None:
    model, graph = build("siren")
    assert torch.equal(model(graph), model(graph))
    model.train()
    assert not torch.equal(model(graph), model(graph))


def test_half_precision_runs() -> None:
    model, graph = build("siren with residuals")
    model, graph = model.float(), graph.map(Tensor.float)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(graph)
    logits.float().square().sum().backward()
    torch.testing.assert_close(logits.float(), model(graph), rtol=0.1, atol=0.1)


def test_what_it_refuses() -> None:
    assert NGGNN.refusal([SIREN, siren_architecture(2, (9, 9, 9), 3)]) is None
    assert NGGNN.refusal([SIREN, small_cnn()]) is not None
    deep = cnn((3, 3, 3), ("relu",) * 3)
    assert NGGNN.refusal([deep], NGGNN.presets["small-cnn"]) is None
    four = Architecture(1, (small_cnn().timestamps[0], *(replace(deep.timestamps[1], num_nodes=5, num_sources=5),) * 3,
                            Timestamp("pool_linear", 3, 5)))  # fmt: skip
    found = NGGNN.refusal([four], NGGNN.presets["small-cnn"])
    assert found is not None
    assert "4 hidden layers, and 3" in found
    with pytest.raises(UsageError, match=r"4 hidden layers, and 3 have embeddings.*DNG-Encoder takes any depth"):
        NGGNN([four], 1, NGGNN.presets["small-cnn"])
    with pytest.raises(UsageError, match="transformers"):
        NGGNN([SMALL_VIT], 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be positive"),
        ({"num_layers": 0}, "num_layers must be positive"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"norm": "batch"}, "norm must be node or minibatch"),
    ],
)
def test_settings_that_cannot_be_meant(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NGGNNConfig(**options)


def test_a_residual_connection_counts() -> None:
    architecture = residual_siren()
    model, graph = build("siren with residuals")
    without = replace(graph, residuals=())
    assert (model(without) - model(graph)).abs().max() > 1e-6
    assert architecture.timestamps[1].residuals
