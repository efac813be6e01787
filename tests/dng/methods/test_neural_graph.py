import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from dng.methods.neural_graph import NeuralGraphEmbedding, VectorFeatures
from dng.methods.neural_graph_config import ACTIVATIONS, NeuralGraphConfig
from dng.methods.neural_graph_statistics import LayerMoments
from dng.testing import permute_nodes, random_graph, random_orders
from dng.training.seed import seeded
from tests.dng.graphs import residual_cnn
from tests.dng.methods.neural_graphs import (
    SIREN,
    SMALL_VIT,
    cnn,
    different_cnns,
    edges_of,
    joined,
)
from zootool.architecture import Activation, Architecture
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

INR = NeuralGraphConfig(standardise=True, reverse=True)
CNN = NeuralGraphConfig(kernel_size=3, activations=ACTIVATIONS)
VIT = NeuralGraphConfig(attention=True, activations=ACTIVATIONS)


def embedding(architecture: Architecture, config: NeuralGraphConfig, dims: tuple[int, int] = (8, 6)) -> Any:
    with seeded(0):
        return NeuralGraphEmbedding([architecture], config, *dims).double().eval()


def test_fourier_features_of_vectors() -> None:
    with seeded(0):
        features = VectorFeatures(3, 500, sigma=2.0)
    assert abs(features.frequencies.std() - 2) < 0.1
    x = torch.tensor([0.3, -0.1, 0.2])
    phases = 2 * math.pi * (features.frequencies * x).sum(dim=1)
    torch.testing.assert_close(features(x), torch.cat([phases.cos(), phases.sin()]), rtol=0, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert features(x).dtype == torch.float32


def test_a_graph_is_linear_maps_of_features_with_embeddings_of_places() -> None:
    model, graph = embedding(SIREN, INR), random_graph(SIREN, 2, dtype=torch.float64)
    embedded = model(graph)
    assert embedded.counts == (2, 5, 4, 3)
    assert model.layers.shape == (2 + 2 + 3, 8)
    bias = graph.nodes[1][1, 2]
    expected = model.node_projection(model.node_encoder[1](model.node_encoder[0](bias))) + model.layers[2 + 1]
    torch.testing.assert_close(embedded.nodes[1, 2 + 5 + 2], expected)
    outputs = [embedded.nodes[1, 2 + 5 + 4 + i] - model.layers[2 + 2 + i] for i in range(3)]
    for i, output in enumerate(outputs):
        torch.testing.assert_close(output, model.node_projection(model.node_encoder(graph.nodes[2][1, i])))
    zero = model.node_projection(model.node_encoder(bias.new_zeros(1)))
    torch.testing.assert_close(embedded.nodes[0, :2], zero + model.layers[:2])
    edges = edges_of(list(embedded.blocks), [2, 5, 4, 3], row=1)
    weight, none = graph.edges[1][1, 3, 2], graph.edges[1].new_zeros(1)
    there, back = torch.cat([weight, none, weight]), torch.cat([none, weight, weight])
    source, target = 2 + 2, 2 + 5 + 3
    for pair, features in (((source, target), there), ((target, source), back)):
        expected = model.edge_projection(model.edge_encoder[1](model.edge_encoder[0](features)))
        torch.testing.assert_close(edges[pair][0], expected)
    torch.testing.assert_close(model.absent_edge(), model.edge_projection(model.edge_encoder(weight.new_zeros(3))))
    assert len(edges) == 2 * SIREN.num_edges


def test_plain_linear_input() -> None:
    model = embedding(SIREN, replace(INR, num_frequencies=0))
    assert isinstance(model.node_encoder, torch.nn.Linear)
    assert model.edge_encoder.in_features == 3


def test_probe_features_are_mapped_and_normalised_by_layer() -> None:
    model, graph = embedding(SIREN, replace(INR, num_probes=7)), random_graph(SIREN, 2, dtype=torch.float64)
    graph = graph.map_weights(lambda tensor: 3 * tensor)
    moments = LayerMoments(3)
    moments.add(graph)
    model.statistics.set(moments)
    assert model.probes is not None
    answers, seen = model.probes(graph), model.statistics.standardised(graph)
    for layer, (first, row) in {1: (2, 2), 2: (7, 3), 3: (11, 4)}.items():
        linear, norm = model.probe_maps[layer]
        vector = model.node_encoder(seen.nodes[layer - 1][1, 0]) + norm(linear(answers[layer][1, 0]))
        expected = model.node_projection(vector) + model.layers[row]
        torch.testing.assert_close(model(graph).nodes[1, first], expected)


def test_the_outputs_of_a_shallower_network_are_outputs() -> None:
    deep, shallow = siren_architecture(2, (4, 4, 4), 3), siren_architecture(2, (4,), 3)
    model: Any = NeuralGraphEmbedding([shallow, deep], replace(INR, num_probes=3), 8, 6).double().eval()
    graph = random_graph(shallow, 1, dtype=torch.float64)
    assert model.probes is not None
    model.statistics.means[1, 3] = 0.7
    bias, answers = graph.nodes[1][0, 1] - 0.7, model.probes(graph)[2][0, 1]
    expected = model.node_projection(model.node_encoder(bias) + model.probe_maps[4](answers)) + model.layers[-2]
    torch.testing.assert_close(model(graph).nodes[0, 2 + 4 + 1], expected)


def test_hidden_nodes_know_their_activation() -> None:
    parts = different_cnns()
    batch = joined(parts)
    assert batch.architecture_index is not None
    model = embedding(parts[0].architecture, CNN)
    found = model(batch).nodes
    assert model.activations is not None
    saved = model.activations.detach().clone()
    with torch.no_grad():
        model.activations.zero_()
    added = found - model(batch).nodes
    for index, part in enumerate(parts):
        names = [timestamp.activation.name for timestamp in part.architecture.timestamps[:-1]]
        rows = torch.cat([saved[ACTIVATIONS.index(name)].expand(4, -1) for name in names])
        expected = torch.cat([torch.zeros(2, 8), rows, torch.zeros(3, 8)]).double()
        for network in added[batch.architecture_index == index]:
            torch.testing.assert_close(network, expected, rtol=0, atol=1e-12)


def test_channels_of_heads_have_the_activation_of_their_attention() -> None:
    layers = list(SMALL_VIT.timestamps)
    layers[2] = replace(layers[2], activation=Activation("relu"))
    architecture = replace(SMALL_VIT, timestamps=tuple(layers))
    model = embedding(SMALL_VIT, VIT)
    nodes = [model(random_graph(a, 1, dtype=torch.float64)).nodes[0, 54] for a in (architecture, SMALL_VIT)]
    torch.testing.assert_close(nodes[0] - nodes[1], model.activations[1] - model.activations[0])


def test_linear_layers_may_have_an_encoder_of_their_own() -> None:
    architecture = residual_cnn(depth=3, width=4)
    config = replace(CNN, scalar_encoder=True)
    model, graph = embedding(architecture, config), random_graph(architecture, 1, dtype=torch.float64)
    blocks = model(graph).blocks
    assert model.scalar_encoder is not None
    linear = model.edge_projection(model.scalar_encoder(graph.edges[-1][0, 1, 2]))
    torch.testing.assert_close(blocks[3].features[0, 1, 2], linear)
    kernel = model.edge_projection(model.edge_encoder(graph.edges[0][0, 1, 0]))
    torch.testing.assert_close(blocks[0].features[0, 1, 0], kernel)


def test_pixels_of_a_flattened_feature_map_have_embeddings() -> None:
    architecture = cnn((3, 2, 1), ("relu", "relu", "relu"), positions=2)
    model = embedding(architecture, replace(CNN, repeat_nodes=True))
    graph = random_graph(architecture, 1, dtype=torch.float64)
    nodes = model(replace(graph, nodes=tuple(map(torch.zeros_like, graph.nodes)))).nodes[0]
    last = 2 + 4 + 4
    assert model.positions.shape == (49, 8)
    torch.testing.assert_close(nodes[last + 3] - nodes[last + 2], model.positions[1] - model.positions[0])
    torch.testing.assert_close(nodes[last + 6], nodes[last + 2])
    torch.testing.assert_close(nodes[last - 1] - nodes[last], model.layers[3] - model.layers[4] - model.positions[0])


def test_noise_is_for_training_alone() -> None:
    graph = random_graph(SIREN, 2, dtype=torch.float64)
    model = embedding(SIREN, replace(INR, noise=0.1))
    quiet = embedding(SIREN, INR)
    torch.testing.assert_close(model(graph).nodes, quiet(graph).nodes)
    model.train()
    with seeded(1):
        noisy = model(graph).nodes
    assert not torch.allclose(noisy, quiet(graph).nodes)


def test_permuting_hidden_nodes_permutes_vectors_and_edges_alone() -> None:
    graph = random_graph(SMALL_VIT, 2, dtype=torch.float64)
    orders, model = random_orders(SMALL_VIT, seed=3), embedding(SMALL_VIT, VIT)
    permuted = model(permute_nodes(graph, orders))
    original = model(graph)
    # Layer 2 holds the queries, keys and values, whose outputs are timestamp 3.
    order = torch.cat([torch.arange(48), 48 + orders[1], 54 + orders[3]])
    torch.testing.assert_close(permuted.nodes[:, :62], original.nodes[:, order])
    torch.testing.assert_close(permuted.blocks[1].features, original.blocks[1].features[:, orders[3]][:, :, orders[1]])


def test_other_networks_than_those_it_was_built_for() -> None:
    model = embedding(SIREN, NeuralGraphConfig())
    assert model(random_graph(siren_architecture(2, (7, 9), 3), 1, dtype=torch.float64)).counts == (2, 7, 9, 3)
    with pytest.raises(UsageError, match="2 inputs and 3 outputs, these have 2 and 1"):
        model(random_graph(siren_architecture(2, (5, 4), 1), 1, dtype=torch.float64))
    with pytest.raises(UsageError, match="3 hidden layers, and 2 have embeddings"):
        model(random_graph(siren_architecture(2, (5, 4, 4), 3), 1, dtype=torch.float64))
