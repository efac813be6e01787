from dataclasses import replace

import numpy as np
import pytest
import torch

from dng.methods.plain import StatNN, StatNNConfig, tensor_statistics
from dng.models.heads import count_parameters
from dng.testing import (
    assert_batch_independent,
    assert_gradients,
    permute_hidden,
    permute_uncoupled,
    random_graph,
    shuffle_within_tensors,
)
from dng.training.seed import seeded
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from tests.dng.methods.precisions import IN_BOTH_PRECISIONS
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (5, 4), 1)
TINY = StatNNConfig(hidden_dim=6)


def build(*architectures: Architecture, config: StatNNConfig = TINY, dtype: torch.dtype = torch.float64) -> StatNN:
    with seeded(0, "statistics"):
        return StatNN(architectures, 2, config).to(dtype).eval()


@IN_BOTH_PRECISIONS
@pytest.mark.parametrize("architecture", [SIREN, small_cnn(), residual_cnn(), simple_vit(8, 1, 2, 4, 12)])
def test_logits_know_no_order_within_tensors(architecture: Architecture, dtype: torch.dtype, tolerance: float) -> None:
    model, graph = build(architecture, dtype=dtype), random_graph(architecture, batch=3, dtype=dtype)
    logits = model(graph)
    assert logits.shape == (3, 2)
    assert torch.isfinite(logits).all()
    for changed in (permute_hidden(graph), permute_uncoupled(graph), shuffle_within_tensors(graph)):
        torch.testing.assert_close(model(changed), logits, rtol=0, atol=tolerance)
    assert (model(graph.map_weights(lambda tensor: 1.1 * tensor)) - logits).abs().max() > 1e-4


def test_statistics_are_numpys_with_an_unbiased_variance() -> None:
    values = random_graph(SIREN, batch=3, dtype=torch.float64).edges[1]
    found = tensor_statistics(values)
    flat = values[1].flatten().numpy()
    wanted = [flat.mean(), flat.var(ddof=1), *np.quantile(flat, [0, 0.25, 0.5, 0.75, 1])]
    np.testing.assert_allclose(found[1].numpy(), wanted, rtol=1e-12)


def test_a_single_number_has_no_variance_and_no_numbers_have_zeros() -> None:
    single = tensor_statistics(torch.full((2, 1), 0.5))
    assert single.tolist() == [[0.5, 0.0] + [0.5] * 5] * 2
    assert tensor_statistics(torch.zeros(2, 3, 0)).tolist() == [[0.0] * 7] * 2
    assert tensor_statistics(torch.full((1, 4), 9.0), torch.zeros(1, 4, dtype=torch.bool)).tolist() == [[0.0] * 7]
    assert tensor_statistics(torch.full((1, 4), 9.0), torch.arange(4)[None] < 1).tolist() == [[9.0, 0.0] + [9.0] * 5]


def test_padding_is_no_weight() -> None:
    graph = random_graph(small_cnn(), batch=3, dtype=torch.float64)
    edges = tuple(torch.nn.functional.pad(edge, (0, 3), value=9.0) for edge in graph.edges)
    masks = tuple(torch.nn.functional.pad(torch.ones_like(edge, dtype=torch.bool), (0, 3)) for edge in graph.edges)
    model = build(small_cnn())
    padded = replace(graph, edges=edges, edge_masks=masks)
    torch.testing.assert_close(model.encode(padded), model.encode(graph), rtol=0, atol=1e-14)


def test_networks_that_left_the_finite_numbers_stay_visible() -> None:
    values = torch.tensor([[1.0, torch.nan, 2.0]])
    assert tensor_statistics(values).isnan().any()
    assert tensor_statistics(values, torch.tensor([[True, True, False]])).isnan().any()


def test_layers_stand_in_the_published_orders_with_zeros_behind_the_last() -> None:
    graph = random_graph(SIREN, batch=2, dtype=torch.float64)
    weights = [tensor_statistics(edge) for edge in graph.edges]
    biases = [tensor_statistics(node[..., 0]) for node in graph.nodes]
    zeros = torch.zeros(2, 14, dtype=torch.float64)
    by_layer = build(SIREN, config=replace(TINY, num_layers=5)).encode(graph)
    pairs = [weights[0], biases[0], weights[1], biases[1], weights[2], biases[2]]
    torch.testing.assert_close(by_layer, torch.cat([*pairs, zeros, zeros], dim=1))
    by_kind = build(SIREN, config=replace(TINY, order="by_kind", num_layers=5)).encode(graph)
    torch.testing.assert_close(by_kind, torch.cat([*weights, zeros, *biases, zeros], dim=1))


def test_networks_of_other_depths_share_a_model() -> None:
    model = build(residual_cnn(3), residual_cnn(5))
    assert model.num_layers == 6
    for depth in (3, 5):
        graph = random_graph(residual_cnn(depth), batch=2, dtype=torch.float64)
        assert torch.isfinite(model(graph)).all()
    with pytest.raises(UsageError, match="built for 6 layers, got networks of 8"):
        model(random_graph(residual_cnn(7), batch=2, dtype=torch.float64))


def test_gradients_and_batches() -> None:
    model, graph = build(SIREN), random_graph(SIREN, batch=3, dtype=torch.float64)
    assert_gradients(model, graph, step=1e-7)
    assert_batch_independent(model, graph, tolerance=1e-12)


def test_the_double_sigmoid_of_published_code_is_an_option() -> None:
    graph = random_graph(SIREN, batch=3, dtype=torch.float64)
    logits = build(SIREN)(graph)
    assert float(logits.detach().min()) < 0
    torch.testing.assert_close(build(SIREN, config=replace(TINY, double_sigmoid=True))(graph), logits.sigmoid())


def test_published_numbers_of_parameters() -> None:
    four_layers = residual_cnn(3)
    assert count_parameters(StatNN([four_layers], 1, StatNN.presets["small-cnn"])) == 1_059_001
    assert count_parameters(StatNN([four_layers], 1, StatNN.presets["wild-park"])) == 1_087_001


def test_configs_are_widened_and_checked() -> None:
    assert StatNNConfig().widened(0.25).hidden_dim == 250
    assert TINY.widened(1e-4).hidden_dim == 1
    with pytest.raises(UsageError, match="hidden_dim"):
        StatNNConfig(hidden_dim=0)
    with pytest.raises(UsageError, match="dropout"):
        StatNNConfig(dropout=1.0)
    model = build(SIREN, config=replace(TINY, dropout=0.2))
    assert [part.p for part in model.head.modules() if isinstance(part, torch.nn.Dropout)] == [0.2, 0.2]


def test_it_refuses_only_networks_deeper_than_asked_for() -> None:
    with pytest.raises(UsageError, match="stat-nn can't take the zoo: it has no networks"):
        StatNN([], 1)
    with pytest.raises(UsageError, match="reads 6 layers, a network of the zoo has 8"):
        StatNN([residual_cnn(7)], 1, StatNN.presets["wild-park"])
