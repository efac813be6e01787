from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dng.baselines.neural_graph_config import ACTIVATIONS
from dng.baselines.ng_t import NGT, NGTConfig
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
    assert_all_is_on_meta,
    different_cnns,
    joined,
    permuted,
    symmetric_cases,
)
from tests.dng.graphs import permute_nodes, random_graph, simple_vit, small_cnn
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture

CASES = symmetric_cases()
TINY = NGTConfig(
    node_dim=6, edge_dim=5, attention_dim=8, node_hidden_dim=7, edge_hidden_dim=9, head_dim=10,
    num_layers=3, num_heads=2,
)  # fmt: skip
PARK = cnn_architecture(CnnConfig((3, 8, 8), (7, 3), (1, 1), (3, 1), ("relu", "gelu"), (None, 0)))


def build(case: str, **options: Any) -> tuple[NGT, DynamicGraph]:
    architecture, config = CASES[case]
    graph = random_graph(architecture, 3, dtype=torch.float64)
    with seeded(0):
        model = NGT([architecture], 4, replace(TINY, graph=config, **options)).double().eval()
    model.fit([graph])
    return model, graph


def siren(num_outputs: int) -> list[Architecture]:
    return [siren_architecture(2, (32, 32), num_outputs)]


@pytest.mark.parametrize(
    ("preset", "architectures", "num_outputs", "count"),
    [
        ("inr", siren(1), 10, 376_586),
        ("inr", siren(3), 10, 393_098),
        ("inr-probes", siren(1), 10, 393_866),
        ("inr-probes", siren(3), 10, 410_378),
        ("inr-probes-6m", siren(1), 10, 5_740_682),
        ("inr-probes-6m", siren(3), 10, 6_003_338),
        # Published are 896 more, embeddings of activations that nothing reads.
        ("small-cnn", [cnn_architecture(CnnConfig())], 1, 1_807_873 - 896),
        ("wild-park", [PARK], 1, 92_705),
        ("vit", [simple_vit()], 1, 250_001),
    ],
)
def test_parameters_are_as_many_as_published(
    preset: str, architectures: list[Architecture], num_outputs: int, count: int
) -> None:
    with torch.device("meta"):
        assert count_parameters(NGT(architectures, num_outputs, NGT.presets[preset])) == count


def test_embeddings_of_activations_make_the_published_small_cnn_model() -> None:
    preset = NGT.presets["small-cnn"]
    with torch.device("meta"):
        config = replace(preset, graph=replace(preset.graph, activations=ACTIVATIONS))
        assert count_parameters(NGT([cnn_architecture(CnnConfig())], 1, config)) == 1_807_873


def test_a_budget_of_parameters_is_met_by_width() -> None:
    preset = NGT.presets["inr-probes"]
    with torch.device("meta"):
        assert count_parameters(NGT(siren(1), 10, preset.widened(4.0))) == 5_740_682
        for factor in (0.37, 1.3):
            widened = preset.widened(factor)
            assert widened.attention_dim % widened.num_heads == 0
            assert abs(widened.attention_dim - factor * 128) <= 4
            assert abs(widened.edge_hidden_dim - factor * 64) <= 0.5
            assert NGT(siren(1), 10, widened).config == widened
    smallest = preset.widened(0.001)
    assert (smallest.attention_dim, smallest.node_dim, smallest.head_dim) == (8, 1, 1)
    assert (smallest.num_layers, smallest.graph) == (preset.num_layers, preset.graph)


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
    changes = [permute_outputs(graph), permute_uncoupled(graph)]
    if graph.architecture.num_inputs > 1:
        changes.append(permute_inputs(graph))
    for other in changes:
        assert (model(other) - logits).abs().max() > 1e-6


def test_channels_of_a_head_have_no_order() -> None:
    model, graph = build("vit")
    orders = [torch.arange(count) for count in SMALL_VIT.node_counts]
    # Two heads of four channels: those of the first change places, in queries, keys, values and outputs alike.
    channels = torch.tensor([2, 0, 3, 1, 4, 5, 6, 7])
    orders[2] = torch.cat([8 * part + channels for part in range(3)])
    orders[3] = channels
    torch.testing.assert_close(model(permute_nodes(graph, orders)), model(graph), rtol=0, atol=1e-9)
    orders[2] = torch.cat([channels, 8 + torch.arange(16)])
    assert (model(permute_nodes(graph, orders)) - model(graph)).abs().max() > 1e-6


@pytest.mark.parametrize("case", ["siren with residuals", "cnn", "vit"])
def test_gradients(case: str) -> None:
    assert_gradients(*build(case), step=1e-7)


def test_every_parameter_has_a_gradient() -> None:
    model, graph = build("siren with residuals")
    model(graph).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("case", ["siren with residuals", "cnn with residuals", "vit"])
def test_a_network_is_the_same_among_others(case: str) -> None:
    assert_batch_independent(*build(case))


def test_a_network_is_the_same_among_networks_of_other_kernels_and_residual_connections() -> None:
    parts = different_cnns()
    with seeded(0):
        model = NGT([part.architecture for part in parts], 4, replace(TINY, graph=CASES["cnn"][1])).double().eval()
    model.fit(parts)
    batch = joined(parts)
    together = model(batch)
    for index, part in enumerate(parts):
        torch.testing.assert_close(together[batch.architecture_index == index], model(part), rtol=0, atol=1e-10)


def test_layers_begin_with_xavier_uniform_weights_and_zero_biases() -> None:
    with seeded(0):
        model = NGT(siren(1), 10)
    layer: Any = model.network.layers[1]
    linear = layer.mlp[0]
    bound = (6 / (64 + 128)) ** 0.5
    assert bound * 0.99 < linear.weight.abs().max() < bound
    assert linear.bias is None
    modules = [*model.network.layers.modules(), *model.network.edge_updates.modules()]
    biases = [m.bias for m in modules if isinstance(m, nn.Linear) and m.bias is not None]
    assert len(biases) == 4 * 3 + 3 * 5
    assert not any(bias.any() for bias in biases)


def test_fitting_changes_what_is_seen() -> None:
    model, graph = build("siren with probes")
    before = model(graph)
    model.fit(iter([graph.map(lambda tensor: 2 * tensor)]))
    assert not torch.allclose(model(graph), before)
    with pytest.raises(UsageError, match="no training networks"):
        model.fit([])
    with pytest.raises(UsageError, match="these have 3 and 3"):
        model.fit([random_graph(siren_architecture(3, (5, 4), 3), 1)])


def test_a_residual_connection_counts() -> None:
    model, graph = build("siren with residuals")
    for edges in graph.residuals:
        assert (model(replace(graph, residuals=(edges,))) - model(graph)).abs().max() > 1e-6


def test_what_nobody_reads_is_not_computed() -> None:
    model, graph = build("siren")
    shapes: list[tuple[int, ...]] = []
    for module in (*model.network.layers, *model.network.edge_updates):
        module.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    model(graph)
    assert shapes == [(3, 14, 6), (3, 14, 14, 5), (3, 14, 6), (3, 3, 14, 5), (3, 3, 6)]


def test_dropout_is_behind_attention_and_every_mlp() -> None:
    model, graph = build("siren", dropout=0.4)
    called: list[float] = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, inputs, output: called.append(module.p))
    model(graph)
    assert called == [0.4] * (2 * 3 + 2)


def test_dropout_is_for_training_alone() -> None:
    model, graph = build("siren")
    assert torch.equal(model(graph), model(graph))
    model.train()
    assert not torch.equal(model(graph), model(graph))


@pytest.mark.parametrize("case", ["siren with residuals", "vit", "cnn with pixels"])
def test_all_is_made_where_the_networks_are(case: str) -> None:
    model, graph = build(case)
    assert_all_is_on_meta(model, graph, num_outputs=4)


def test_all_of_a_mixed_batch_is_made_where_the_networks_are() -> None:
    parts = different_cnns()
    mixed = NGT([part.architecture for part in parts], 4, replace(TINY, graph=CASES["cnn"][1]))
    assert_all_is_on_meta(mixed.double(), joined(parts), num_outputs=4)


def test_half_precision_runs() -> None:
    model, graph = build("cnn with residuals")
    model, graph = model.float(), graph.map(Tensor.float)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(graph)
    logits.float().square().sum().backward()
    torch.testing.assert_close(logits.float(), model(graph), rtol=0.1, atol=0.1)


def test_what_it_refuses() -> None:
    assert NGT.refusal([SIREN, siren_architecture(2, (9, 9, 9), 3)]) is None
    assert NGT.refusal([SIREN, small_cnn()]) is not None
    assert NGT.refusal([small_cnn()], NGT.presets["small-cnn"]) is None
    with pytest.raises(UsageError, match=r"kernel of 7 x 7.*\(kernel_size; the DNG-Encoder takes any\)"):
        NGT([PARK], 1, NGT.presets["small-cnn"])
    with pytest.raises(UsageError, match="transformers"):
        NGT([SMALL_VIT], 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge_dim": 0}, "edge_dim must be positive"),
        ({"num_heads": 0}, "num_heads must be positive"),
        ({"num_heads": 3}, "must be divisible by num_heads"),
        ({"dropout": -0.1}, "dropout must be in"),
        ({"graph": replace(CASES["cnn"][1], scalar_encoder=True)}, "scalar_encoder must be off"),
    ],
)
def test_settings_that_cannot_be_meant(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NGTConfig(**options)
