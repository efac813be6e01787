from dataclasses import replace

import numpy as np
import torch

from dng.methods.plain import (
    NUM_STATISTICS,
    FlatMLP,
    FlatMLPConfig,
    StatisticsTrees,
    flat_weights,
    known_columns,
    stack_statistics,
    weight_statistics,
)
from dng.testing import assert_batch_independent, permute_hidden, random_graph
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from tests.dng.methods.neural_graphs import cnn, joined
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
    training = random_graph(SIREN, batch=50)
    training = replace(training, nodes=(*training.nodes[:-1], torch.full_like(training.nodes[-1], 3.0)))
    model = FlatMLP([SIREN], 1, FlatMLPConfig(hidden_dim=8)).eval()
    model.fit([training.map_weights(lambda tensor: tensor[:20]), training.map_weights(lambda tensor: tensor[20:])])
    standard = model.encode(training)
    assert standard[:, :-3].mean(dim=0).abs().max() < 1e-5
    assert (standard[:, :-3].std(dim=0) - 1).abs().max() < 1e-3
    assert torch.isfinite(model(training.map_weights(lambda tensor: 100 * tensor))).all()
    assert_batch_independent(model, training.map_weights(lambda tensor: tensor[:4].double()))


def test_flat_weights_do_not_depend_on_the_batch() -> None:
    parts = [random_graph(cnn((side, 1, 1), ("relu",) * 3), 2, seed=side) for side in (3, 1)]
    model = FlatMLP([part.architecture for part in parts], 1).eval()
    together, alone = flat_weights(joined(parts)), [flat_weights(part) for part in parts]
    assert together.shape == (4, model.num_weights)
    assert torch.equal(together[::2], alone[0])
    assert torch.equal(together[1::2, : alone[1].shape[1]], alone[1])
    assert not together[1::2, alone[1].shape[1] :].any()


def test_trees_take_transformers_whose_attention_has_no_weights() -> None:
    vit = simple_vit(dim=8, depth=1, heads=2, dim_head=4, mlp=12)
    features = stack_statistics([weight_statistics(random_graph(vit, batch=30))])
    known = known_columns(features)
    assert len(known) < features.shape[1]
    fitted = StatisticsTrees(0).fit(features[:, known], np.linspace(0, 1, 30))
    assert np.isfinite(fitted[0][1].predict(features[:, known])).all()
