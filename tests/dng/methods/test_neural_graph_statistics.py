import math
from dataclasses import replace

import pytest
import torch

from dng.methods.neural_graph_statistics import LayerMoments, LayerStatistics, LogDegrees
from dng.testing import random_graph
from dng.training.seed import seeded
from tests.dng.methods.neural_graphs import (
    SIREN,
    different_cnns,
    joined,
    residual_siren,
)
from zootool.errors import UsageError
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture


def measured(graphs: list[GraphBatch], num_layers: int) -> LayerStatistics:
    moments = LayerMoments(num_layers)
    for graph in graphs:
        moments.add(graph)
    statistics = LayerStatistics(num_layers).double()
    statistics.set(moments)
    return statistics


def test_layers_are_standardised_by_the_training_networks() -> None:
    graph = random_graph(SIREN, 50, dtype=torch.float64).map_weights(lambda tensor: 3 * tensor + 1)
    halves = [graph.map_weights(lambda tensor: tensor[:20]), graph.map_weights(lambda tensor: tensor[20:])]
    standard = measured(halves, 3).standardised(graph)
    for tensor in (*standard.edges, *standard.nodes):
        assert abs(tensor.mean()) < 1e-9
        assert abs(tensor.std() - 1) < 1e-9
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


def test_biases_that_some_networks_lack_are_neither_measured_nor_standardised() -> None:
    bare = replace(SIREN, timestamps=(replace(SIREN.timestamps[0], has_bias=False), *SIREN.timestamps[1:]), slots=())
    parts = [random_graph(SIREN, 4, dtype=torch.float64), random_graph(bare, 4, dtype=torch.float64)]
    batch = joined(parts)
    statistics = measured([batch], 3)
    torch.testing.assert_close(statistics.means[1, 0], parts[0].nodes[0].mean())
    standard = statistics.standardised(batch).nodes[0]
    assert standard[batch.architecture_index == 0].all()
    assert not standard[batch.architecture_index == 1].any()


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
    degrees.add_batch(joined([parts[0].map_weights(lambda tensor: tensor[:1]), parts[1]]))
    plain = [0] * 2 + [2] * 4 + [4] * 4 + [4] * 4 + [4] * 3
    with_residual = [0] * 2 + [2] * 4 + [4] * 4 + [5] * 4 + [4] * 3
    expected = sum(math.log(degree + 1) for degree in plain + plain + with_residual) / 17 / 3
    assert degrees.mean == pytest.approx(expected)
    alone = LogDegrees()
    alone.add_batch(parts[1])
    alone.add(parts[0].architecture)
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
