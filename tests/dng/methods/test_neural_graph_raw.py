from dataclasses import replace

import torch
from torch.nn.functional import pad

from dng.methods.neural_graph_config import ACTIVATIONS, NeuralGraphConfig
from dng.methods.neural_graph_raw import in_degrees, raw_edges, raw_nodes
from dng.testing import random_graph
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from tests.dng.methods.neural_graphs import (
    SIREN,
    SMALL_VIT,
    Edges,
    cnn,
    counts_of,
    different_cnns,
    edges_of,
    joined,
    residual_siren,
)
from zootool.architecture import Architecture, Residual, Timestamp

CNN = NeuralGraphConfig(kernel_size=3, activations=ACTIVATIONS)
VIT = NeuralGraphConfig(attention=True, activations=ACTIVATIONS)


def assert_same_edges(left: Edges, right: Edges) -> None:
    assert left.keys() == right.keys()
    for pair, features in left.items():
        for one, other in zip(features, right[pair], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


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


def test_a_shifted_residual_connection_ends_where_the_layer_does() -> None:
    hidden = Timestamp("linear", 4, 4, residuals=(Residual(source=1, offset=1),))
    architecture = Architecture(3, (Timestamp("linear", 4, 3), hidden))
    added = raw_edges(random_graph(architecture, 1), NeuralGraphConfig())[-1]
    assert added.features.shape == (1, 3, 1, 1)
    assert set(edges_of([added], [3, 4, 4], row=0)) == {(3 + i, 3 + 4 + 1 + i) for i in range(3)}
    assert in_degrees(architecture) == [0] * 3 + [3] * 4 + [4, 5, 5, 5]


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
