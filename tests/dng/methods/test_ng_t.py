from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dng.methods.neural_graph_config import ACTIVATIONS
from dng.methods.ng_t import NGT
from dng.models.heads import count_parameters
from dng.testing import permute_nodes
from dng.training.seed import seeded
from tests.dng.methods.neural_graphs import SMALL_VIT, tiny_t
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture

GREY = siren_architecture(2, (32, 32), 1)


def test_embeddings_of_activations_make_the_published_small_cnn_model() -> None:
    preset = NGT.presets["small-cnn"]
    with torch.device("meta"):
        config = replace(preset, graph=replace(preset.graph, activations=ACTIVATIONS))
        assert count_parameters(NGT([cnn_architecture(CnnConfig())], 1, config)) == 1_807_873


def test_a_budget_of_parameters_is_met_by_width() -> None:
    preset = NGT.presets["inr-probes"]
    with torch.device("meta"):
        assert count_parameters(NGT([GREY], 10, preset.widened(4.0))) == 5_740_682
        for factor in (0.37, 1.3):
            widened = preset.widened(factor)
            assert widened.attention_dim % widened.num_heads == 0
            assert abs(widened.attention_dim - factor * 128) <= 4
            assert abs(widened.edge_hidden_dim - factor * 64) <= 0.5
            assert NGT([GREY], 10, widened).config == widened
    smallest = preset.widened(0.001)
    assert (smallest.attention_dim, smallest.node_dim, smallest.head_dim) == (8, 1, 1)
    assert (smallest.num_layers, smallest.graph) == (preset.num_layers, preset.graph)


def test_channels_of_a_head_have_no_order() -> None:
    model, graph = tiny_t("vit")
    orders = [torch.arange(count) for count in SMALL_VIT.node_counts]
    # Two heads of four channels: those of the first change places, in queries, keys, values and outputs alike.
    channels = torch.tensor([2, 0, 3, 1, 4, 5, 6, 7])
    orders[2] = torch.cat([8 * part + channels for part in range(3)])
    orders[3] = channels
    torch.testing.assert_close(model(permute_nodes(graph, orders)), model(graph), rtol=0, atol=1e-9)
    orders[2] = torch.cat([channels, 8 + torch.arange(16)])
    assert (model(permute_nodes(graph, orders)) - model(graph)).abs().max() > 1e-6


def test_layers_begin_with_xavier_uniform_weights_and_zero_biases() -> None:
    with seeded(0):
        model = NGT([GREY], 10)
    layer: Any = model.network.layers[1]
    linear = layer.mlp[0]
    bound = (6 / (64 + 128)) ** 0.5
    assert bound * 0.99 < linear.weight.abs().max() < bound
    assert linear.bias is None
    modules = [*model.network.layers.modules(), *model.network.edge_updates.modules()]
    biases = [m.bias for m in modules if isinstance(m, nn.Linear) and m.bias is not None]
    assert len(biases) == 4 * 3 + 3 * 5
    assert not any(bias.any() for bias in biases)


def test_what_nobody_reads_is_not_computed() -> None:
    model, graph = tiny_t("siren")
    shapes: list[tuple[int, ...]] = []
    for module in (*model.network.layers, *model.network.edge_updates):
        module.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    model(graph)
    assert shapes == [(3, 14, 6), (3, 14, 14, 5), (3, 14, 6), (3, 3, 14, 5), (3, 3, 6)]


def test_dropout_is_behind_attention_and_every_mlp() -> None:
    model, graph = tiny_t("siren", dropout=0.4)
    called: list[float] = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, inputs, output: called.append(module.p))
    model(graph)
    assert called == [0.4] * (2 * 3 + 2)
