import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from dng.baselines.neural_graph import NeuralGraphEmbedding, VectorFeatures
from dng.baselines.neural_graph_config import ACTIVATIONS, NeuralGraphConfig, neural_graph_refusal
from dng.baselines.neural_graph_raw import EdgeBlock, first_nodes, in_degrees, node_layers, raw_edges, raw_nodes
from dng.baselines.neural_graph_statistics import LayerMoments, LayerStatistics, LogDegrees
from dng.graph import DynamicGraph
from dng.seed import seeded
from tests.dng.baselines.neural_graphs import SIREN, SMALL_VIT, cnn, different_cnns, joined, residual_siren
from tests.dng.graphs import permute_nodes, random_graph, random_orders, residual_cnn, simple_vit, small_cnn
from zootool.architecture import Activation, Architecture, Norm, Residual, Timestamp
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

INR = NeuralGraphConfig(standardise=True, reverse=True)
CNN = NeuralGraphConfig(kernel_size=3, activations=ACTIVATIONS)
VIT = NeuralGraphConfig(attention=True, activations=ACTIVATIONS)
Edges = dict[tuple[int, int], list[Tensor]]


def embedding(architecture: Architecture, config: NeuralGraphConfig, dims: tuple[int, int] = (8, 6)) -> Any:
    with seeded(0):
        return NeuralGraphEmbedding([architecture], config, *dims).double().eval()


def edges_of(blocks: list[EdgeBlock], counts: list[int], row: int) -> Edges:
    """What a network has between two nodes, counted among all."""
    firsts, found = first_nodes(counts), {}
    for block in blocks:
        if block.networks is not None and not block.networks[row]:
            continue
        sources, targets = (
            [firsts[end.layer] + i for i in range(counts[end.layer])[end.nodes]] for end in (block.source, block.target)
        )
        for i, target in enumerate(targets):
            for j, source in enumerate([sources[i]] if block.is_aligned else sources):
                found.setdefault((source, target), []).append(block.features[row, i, j])
    return found


def counts_of(architecture: Architecture) -> list[int]:
    return [layer.num_nodes for layer in node_layers(architecture)]


def assert_same_edges(left: Edges, right: Edges) -> None:
    assert left.keys() == right.keys()
    for pair, features in left.items():
        for one, other in zip(features, right[pair], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_fourier_features_of_vectors() -> None:
    with seeded(0):
        features = VectorFeatures(3, 500, sigma=2.0)
    assert abs(features.frequencies.std() - 2) < 0.1
    x = torch.tensor([0.3, -0.1, 0.2])
    phases = 2 * math.pi * (features.frequencies * x).sum(dim=1)
    torch.testing.assert_close(features(x), torch.cat([phases.cos(), phases.sin()]), rtol=0, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert features(x).dtype == torch.float32


def test_edges_lead_from_layer_to_layer() -> None:
    graph = random_graph(SIREN, 2)
    counts, found = counts_of(SIREN), edges_of(raw_edges(graph, NeuralGraphConfig()), counts_of(SIREN), row=1)
    assert len(found) == SIREN.num_edges
    assert found[1, 2 + 3][0].tolist() == graph.edges[0][1, 3, 1].tolist()
    assert found[2 + 4, 2 + 5 + 1][0].tolist() == graph.edges[1][1, 1, 4].tolist()
    nodes = raw_nodes(graph, NeuralGraphConfig())
    assert nodes.shape == (2, sum(counts), 1)
    assert not nodes[:, :2].any()
    assert torch.equal(nodes[:, 2:7], graph.nodes[0])
    assert torch.equal(nodes[:, -3:], graph.nodes[2])


def test_kernels_lie_in_the_middle_of_the_largest() -> None:
    graph = random_graph(small_cnn(), 2)
    first, second, linear = raw_edges(graph, replace(CNN, kernel_size=4))
    kernel = graph.edges[0][1, 2, 0].view(2, 2)
    assert torch.equal(first.features[1, 2, 0].view(4, 4), pad(kernel, (1, 1, 1, 1)))
    # What can't lie in the middle lies half a step before it.
    kernel = graph.edges[1][1, 2, 3].view(3, 3)
    assert torch.equal(second.features[1, 2, 3].view(4, 4), pad(kernel, (0, 1, 0, 1)))
    assert torch.equal(linear.features[1, 2, 3].view(4, 4)[1, 1], graph.edges[2][1, 2, 3, 0])
    assert linear.features[1, 2, 3].count_nonzero() == 1
    tall = Architecture(1, (Timestamp("conv", 2, 1, edges_per_pair=3, kernel=(3, 1)),))
    graph = random_graph(tall, 1)
    assert torch.equal(raw_edges(graph, CNN)[0].features[0, 1, 0].view(3, 3)[:, 1], graph.edges[0][0, 1, 0])


def test_networks_of_a_batch_have_their_own_kernels_and_residual_connections() -> None:
    parts = different_cnns()
    batch = joined(parts)
    assert batch.architecture_index is not None
    counts = counts_of(batch.architecture)
    for index, part in enumerate(parts):
        rows = (batch.architecture_index == index).nonzero().flatten().tolist()
        for mine, row in enumerate(rows):
            for merge in (False, True):
                alone = edges_of(raw_edges(part, CNN, merge), counts, mine)
                among = edges_of(raw_edges(batch, CNN, merge), counts, row)
                assert_same_edges(alone, among)


def test_masked_edges_of_a_single_architecture_are_no_edges() -> None:
    graph = random_graph(small_cnn(), 2)
    holes = torch.ones_like(graph.edges[1], dtype=torch.bool)
    holes[0, 2, 3, 4] = False
    holed = replace(graph, edge_masks=(None, holes, None))
    expected = raw_edges(graph, CNN)[1].features.clone()
    expected[0, 2, 3, 4] = 0
    assert torch.equal(raw_edges(holed, CNN)[1].features, expected)


def test_a_residual_connection_is_a_kernel_of_one_between_equal_places() -> None:
    architecture = residual_cnn(depth=3, width=4)
    graph, counts = random_graph(architecture, 1), counts_of(architecture)
    edges = edges_of(raw_edges(graph, CNN), counts, row=0)
    plain = edges_of(raw_edges(replace(graph, residuals=()), CNN), counts, row=0)
    first, third = 1, 1 + 4 + 4
    added = {(first + place, third + place) for place in range(4)}
    assert edges.keys() - plain.keys() == added
    centre = [0.0] * 4 + [1.0] + [0.0] * 4
    assert all(edges[pair][0].tolist() == centre for pair in added)


def test_a_residual_connection_may_be_shifted_and_short() -> None:
    hidden = Timestamp("linear", 5, 4, residuals=(Residual(source=0, offset=1, count=3),))
    architecture = Architecture(3, (Timestamp("linear", 4, 3), hidden))
    graph = random_graph(architecture, 1)
    added = raw_edges(graph, NeuralGraphConfig())[-1]
    assert added.is_aligned
    assert set(edges_of([added], [3, 4, 5], row=0)) == {(i, 3 + 4 + 1 + i) for i in range(3)}
    assert in_degrees(architecture) == [0] * 3 + [3] * 4 + [4, 5, 5, 5, 4]


def test_parallel_edges_stay_apart_or_are_added() -> None:
    architecture = residual_siren()
    graph, counts = random_graph(architecture, 1), counts_of(architecture)
    apart = edges_of(raw_edges(graph, NeuralGraphConfig()), counts, row=0)
    merged = edges_of(raw_edges(graph, NeuralGraphConfig(), merge_parallel=True), counts, row=0)
    assert apart.keys() == merged.keys()
    for pair, features in apart.items():
        torch.testing.assert_close(sum(features), merged[pair][0])
    parallel = [pair for pair, features in apart.items() if len(features) == 2]
    assert parallel == [(2 + i, 2 + 4 + i) for i in range(3)]


def test_a_query_a_key_and_a_value_are_one_node() -> None:
    graph = random_graph(SMALL_VIT, 2)
    counts = counts_of(SMALL_VIT)
    assert counts == [48, 6, 8, 6, 5, 6, 10]
    edges = edges_of(raw_edges(graph, VIT), counts, row=1)
    inner, outer = 48 + 6 + 5, 48 + 2
    expected = [graph.edges[1][1, part * 8 + 5, 2, 0] for part in range(3)]
    assert edges[outer, inner][0].tolist() == [float(number) for number in expected]
    merged = 48 + 6 + 8 + 3
    assert edges[inner, merged][0].tolist() == [float(graph.edges[3][1, 3, 5, 0]), 0, 0]
    assert edges[48 + 3, merged][0].tolist() == [1, 0, 0]
    assert (merged, merged + 6 + 5) in edges
    nodes = raw_nodes(graph, VIT)
    assert nodes.shape == (2, sum(counts), 3)
    assert torch.equal(nodes[:, 48:54, 0], graph.nodes[0][..., 0])
    assert nodes[:, 54:62].count_nonzero() == 0


def test_biases_of_queries_keys_and_values_are_one_vector() -> None:
    layers = tuple(replace(t, has_bias=True) if t.kind == "qkv" else t for t in SMALL_VIT.timestamps)
    graph = random_graph(replace(SMALL_VIT, timestamps=layers), 1)
    nodes = raw_nodes(graph, VIT)
    assert nodes[0, 54 + 5].tolist() == [float(graph.nodes[1][0, part * 8 + 5, 0]) for part in range(3)]


def test_the_published_vit_has_474_nodes() -> None:
    assert sum(counts_of(simple_vit())) == 474
    assert len(counts_of(simple_vit())) == 9 + 2


def test_a_flattened_pixel_is_a_node_in_the_order_of_torchs_flatten() -> None:
    architecture = cnn((3, 2, 1), ("relu", "relu", "relu"), {3: 1}, positions=2)
    config = replace(CNN, repeat_nodes=True)
    graph = random_graph(architecture, 1)
    counts = counts_of(architecture)
    assert counts == [2, 4, 4, 4 * 2, 3]
    edges, nodes = edges_of(raw_edges(graph, config), counts, row=0), raw_nodes(graph, config)
    first, last, out = 2, 2 + 4 + 4, 2 + 4 + 4 + 8
    matrix = graph.edges[3][0].flatten(1)
    for channel in range(4):
        for pixel in range(2):
            node = last + channel * 2 + pixel
            assert edges[node, out + 1][0][4] == matrix[1, channel * 2 + pixel]
            assert edges[6 + 1, node][0][4] == graph.edges[2][0, channel, 1, 0]
            assert nodes[0, node] == graph.nodes[2][0, channel, 0]
            assert (first + channel, node) in edges
            assert (first + (channel + 1) % 4, node) not in edges
    assert in_degrees(architecture)[last:] == [4 + 1] * 8 + [8] * 3
    model = embedding(architecture, config)
    assert model.positions is not None
    zero = torch.zeros_like(graph.nodes[0]).double()
    pixels = model(replace(graph.map(torch.Tensor.double), nodes=(zero, zero, zero, graph.nodes[3].double()))).nodes
    moved = pixels[0, last + 3] - pixels[0, last + 2]
    torch.testing.assert_close(moved, model.positions[1] - model.positions[0])
    torch.testing.assert_close(pixels[0, last + 6], pixels[0, last + 2])


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
    graph = graph.map(lambda tensor: 3 * tensor)
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


def measured(graphs: list[DynamicGraph], num_layers: int) -> LayerStatistics:
    moments = LayerMoments(num_layers)
    for graph in graphs:
        moments.add(graph)
    statistics = LayerStatistics(num_layers).double()
    statistics.set(moments)
    return statistics


def test_layers_are_standardised_by_the_training_networks() -> None:
    graph = random_graph(SIREN, 50, dtype=torch.float64).map(lambda tensor: 3 * tensor + 1)
    halves = [graph.map(lambda tensor: tensor[:20]), graph.map(lambda tensor: tensor[20:])]
    standard = measured(halves, 3).standardised(graph)
    for tensor in (*standard.edges, *standard.nodes):
        assert abs(tensor.mean()) < 1e-9
        assert abs(tensor.std(correction=0) - 1) < 1e-9
    untouched = LayerStatistics(3).double().standardised(graph)
    assert torch.equal(untouched.edges[1], graph.edges[1])
    assert torch.equal(untouched.nodes[1], graph.nodes[1])


def test_biases_that_are_not_there_are_not_standardised() -> None:
    architecture = residual_siren()
    graph = random_graph(architecture, 5, dtype=torch.float64)
    statistics = measured([graph], 4)
    statistics.means += 1
    standard = statistics.standardised(graph)
    assert not standard.nodes[2].any()
    assert standard.nodes[3].all()
    assert statistics.deviations[1, 2] == 1


def test_masked_edges_are_not_measured() -> None:
    parts = different_cnns()
    together, apart = measured([joined(parts)], 4), measured(parts, 4)
    torch.testing.assert_close(together.means, apart.means)
    torch.testing.assert_close(together.deviations, apart.deviations)


def test_equal_numbers_are_shifted_and_not_scaled() -> None:
    graph = random_graph(SIREN, 4, dtype=torch.float64)
    graph = replace(graph, nodes=tuple(torch.full_like(node, 0.3) for node in graph.nodes))
    standard = measured([graph], 3).standardised(graph)
    assert all(node.abs().max() < 1e-9 for node in standard.nodes)


def test_measuring_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no training networks"):
        LayerStatistics(3).set(LayerMoments(3))
    with pytest.raises(UsageError, match="no training networks"):
        _ = LogDegrees().mean


def test_log_degrees_are_averaged_over_the_nodes_of_all_networks() -> None:
    parts, degrees = different_cnns(), LogDegrees()
    degrees.add_batch(joined(parts[:2]))
    plain = [0] * 2 + [2] * 4 + [4] * 4 + [4] * 4 + [4] * 3
    with_residual = [0] * 2 + [2] * 4 + [4] * 4 + [5] * 4 + [4] * 3
    expected = sum(math.log(degree + 1) for degree in plain + with_residual) / (2 * 17)
    assert degrees.mean == pytest.approx(expected)
    alone = LogDegrees()
    alone.add_batch(parts[1])
    alone.add(parts[0].architecture, 2)
    assert alone.mean == pytest.approx(expected)


@pytest.mark.parametrize("constant", [False, True])
def test_noise_is_added_in_training_in_deviations_of_a_layer(constant: bool) -> None:
    graph = random_graph(siren_architecture(2, (64,), 40), 20, dtype=torch.float64)
    graph = replace(graph, edges=(graph.edges[0], 5 * graph.edges[1]))
    statistics = measured([graph], 2)
    with seeded(1):
        noise = statistics.noisy(graph, 0.1, constant)
    for before, after, row in [(graph.edges, noise.edges, 0), (graph.nodes, noise.nodes, 1)]:
        for t in range(2):
            added = (after[t] - before[t]) / (0.1 * statistics.deviations[row, t])
            if constant:
                torch.testing.assert_close(added, torch.ones_like(added))
            else:
                assert abs(added.std() - 1) < 0.1
                assert abs(added.mean()) < 0.1
    bare = random_graph(residual_siren(), 2, dtype=torch.float64)
    assert not LayerStatistics(4).double().noisy(bare, 0.1, constant).nodes[2].any()


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


BATCH_NORM = replace(small_cnn().timestamps[0], norm=Norm("batch"))
OTHER_PIXELS = cnn((3, 3, 3), ("relu",) * 3, positions=4)


@pytest.mark.parametrize(
    ("architectures", "config", "reason"),
    [
        ([SIREN], INR, None),
        ([simple_vit()], VIT, None),
        ([residual_cnn(3), residual_cnn(5)], CNN, None),
        ([], None, "it has no networks"),
        ([SIREN, siren_architecture(3, (5, 4), 3)], None, r"differ in inputs \(2 and 3\)"),
        ([SIREN, siren_architecture(2, (5, 4), 1)], None, r"differ in outputs \(1 and 3\)"),
        ([simple_vit(), Architecture(48, (Timestamp("linear", 10, 48),))], None, "some are not"),
        ([replace(small_cnn(), timestamps=(BATCH_NORM, *small_cnn().timestamps[1:]))], None, "layer 1 has a norm"),
        ([Architecture(6, SMALL_VIT.timestamps[1:2])], None, "attention doesn't follow"),
        ([Architecture(24, SMALL_VIT.timestamps[2:3])], None, "attention doesn't follow"),
        ([simple_vit()], CNN, "transformers go with attention=True"),
        ([small_cnn()], VIT, "transformers go with attention=True"),
        ([residual_cnn(3), residual_cnn(5)], replace(CNN, hidden_layers=4), "5 hidden layers, and 4.*DNG-Encoder"),
        ([small_cnn()], replace(CNN, kernel_size=2), "layer 2 has a kernel of 3 x 3.*DNG-Encoder"),
        ([OTHER_PIXELS], CNN, "layer 4 reads a flattened feature map, which.*DNG-Encoder"),
        ([OTHER_PIXELS], replace(CNN, repeat_nodes=True, max_positions=3), "of 4 pixels, and 3.*DNG-Encoder"),
        ([OTHER_PIXELS], replace(CNN, repeat_nodes=True, max_positions=4), None),
        (
            [OTHER_PIXELS, cnn((3, 3, 3), ("relu",) * 3, positions=9)],
            replace(CNN, repeat_nodes=True),
            "differ in the pixels.*DNG-Encoder",
        ),
        ([SIREN], replace(INR, activations=ACTIVATIONS), "layer 1 has the activation 'sine'"),
        ([small_cnn()], replace(CNN, num_probes=3), "probes run plain MLPs only"),
    ],
)
def test_what_cannot_become_a_neural_graph(
    architectures: list[Architecture], config: NeuralGraphConfig | None, reason: str | None
) -> None:
    found = neural_graph_refusal(architectures, config)
    if reason is None:
        assert found is None
        return
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found)
    if config is not None:
        with pytest.raises(UsageError, match=reason):
            NeuralGraphEmbedding(architectures, config, 8, 6)


def test_a_layer_is_a_convolution_in_all_networks_of_equal_widths_or_in_none() -> None:
    convolution = Timestamp("conv", 3, 2, edges_per_pair=1, kernel=(1, 1), activation=Activation("relu"))
    last = Timestamp("linear", 3, 3)
    networks = [Architecture(2, (convolution, last)), Architecture(2, (Timestamp("linear", 3, 2), last))]
    assert neural_graph_refusal(networks, CNN) is None
    found = neural_graph_refusal(networks, replace(CNN, scalar_encoder=True))
    assert found is not None
    assert "convolutions" in found


def test_other_networks_than_those_it_was_built_for() -> None:
    model = embedding(SIREN, NeuralGraphConfig())
    assert model(random_graph(siren_architecture(2, (7, 9), 3), 1, dtype=torch.float64)).counts == (2, 7, 9, 3)
    with pytest.raises(UsageError, match="2 inputs and 3 outputs, these have 2 and 1"):
        model(random_graph(siren_architecture(2, (5, 4), 1), 1, dtype=torch.float64))
    with pytest.raises(UsageError, match="3 hidden layers, and 2 have embeddings"):
        model(random_graph(siren_architecture(2, (5, 4, 4), 3), 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be positive"),
        ({"noise": -1.0}, "noise can't be negative"),
        ({"num_probes": -1}, "num_probes can't be negative"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"attention": True, "kernel_size": 3}, "attention goes with"),
    ],
)
def test_settings_that_cannot_be_meant(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NeuralGraphConfig(**options)
