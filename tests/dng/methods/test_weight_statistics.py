import numpy as np
import torch

from dng.methods.flat_mlp import FlatMLP, flat_weights
from dng.methods.weight_statistics import (
    NUM_STATISTICS,
    StatisticsTrees,
    known_columns,
    stack_statistics,
    weight_statistics,
)
from dng.testing import permute_hidden, random_graph
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (8, 8), 3)


def test_the_statistics_are_numpys_last_layer_first() -> None:
    graph = random_graph(SIREN, batch=3)
    found = weight_statistics(graph)
    assert found.shape == (3, 3 * 2 * NUM_STATISTICS)
    weights, biases = graph.edges[2][1].numpy().ravel(), graph.nodes[2][1].numpy().ravel()
    for offset, values in ((0, weights), (NUM_STATISTICS, biases)):
        wanted = [values.mean(), values.var(), *np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]
        np.testing.assert_allclose(found[1, offset : offset + NUM_STATISTICS], wanted, rtol=1e-5, atol=1e-6)


def test_the_statistics_know_no_order_of_neurons() -> None:
    graph = random_graph(small_cnn(), batch=2)
    np.testing.assert_allclose(weight_statistics(permute_hidden(graph)), weight_statistics(graph), rtol=1e-4, atol=1e-6)


def test_padding_is_no_weight() -> None:
    graph = random_graph(small_cnn(), batch=2)
    edges = tuple(torch.nn.functional.pad(edge, (0, 3), value=9.0) for edge in graph.edges)
    masks = tuple(torch.nn.functional.pad(torch.ones_like(edge, dtype=torch.bool), (0, 3)) for edge in graph.edges)
    padded = GraphBatch(graph.architectures, edges, graph.nodes, masks)
    np.testing.assert_allclose(weight_statistics(padded), weight_statistics(graph), rtol=1e-5)


def test_networks_of_other_depths_stand_side_by_side() -> None:
    shallow, deep = (weight_statistics(random_graph(residual_cnn(depth), batch=2)) for depth in (3, 5))
    stacked = stack_statistics([shallow, deep])
    assert stacked[:, 0].tolist() == [4, 4, 6, 6]
    assert np.isnan(stacked[:2, 1 + 4 * 2 * NUM_STATISTICS :]).all()
    assert not np.isnan(stacked[2:]).any()


def test_flat_weights_are_all_of_them() -> None:
    graph = random_graph(SIREN, batch=2)
    flat = flat_weights(graph)
    assert flat.shape == (2, SIREN.num_edges + SIREN.num_nodes)
    assert torch.equal(flat[0, :16], graph.edges[0][0].flatten())
    changed = flat_weights(permute_hidden(graph))
    assert not torch.equal(changed, flat)
    assert torch.equal(changed.sort(dim=1).values, flat.sort(dim=1).values)


def test_the_flat_mlp_standardises_by_its_training_networks() -> None:
    training = torch.randn(50, 4) * torch.tensor([1.0, 10.0, 0.1, 0.0]) + 3
    model = FlatMLP(training, hidden_dim=8).eval()
    assert torch.isfinite(model(training * 100)).all()
    torch.testing.assert_close(model(training[:1]), model(torch.cat([training[:1], training[:7]]))[:1])


def test_trees_take_transformers_whose_attention_has_no_weights() -> None:
    vit = simple_vit(dim=8, depth=1, heads=2, dim_head=4, mlp=12)
    features = stack_statistics([weight_statistics(random_graph(vit, batch=30))])
    known = known_columns(features)
    assert len(known) < features.shape[1]
    fitted = StatisticsTrees(0).fit(features[:, known], np.linspace(0, 1, 30))
    assert np.isfinite(fitted[0][1].predict(features[:, known])).all()
