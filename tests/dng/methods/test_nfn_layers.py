from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dng.methods.nfn_layers import LAYERS, Features, HNPLayer, Variant
from dng.testing import (
    assert_equal_graphs,
    permute_hidden,
    permute_inputs,
    permute_outputs,
    permute_uncoupled,
    random_graph,
)
from dng.training.seed import seeded
from tests.dng.methods.nfn_networks import ARCHITECTURES
from zootool.architecture import Architecture
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture


def layer_and_features(variant: Variant, architecture: str) -> tuple[nn.Module, GraphBatch]:
    """A layer from two to three channels, and features for it."""
    layer = LAYERS[variant](ARCHITECTURES[architecture], 2, 3).double()
    return layer, random_features(ARCHITECTURES[architecture], 2)


def random_features(architecture: Architecture, channels: int) -> GraphBatch:
    """Features of weights and biases in the place of a batch's own, so that they can be permuted as networks are."""
    graph, generator = random_graph(architecture, batch=3), torch.Generator().manual_seed(1)

    def draw(tensor: Tensor, dim: int) -> Tensor:
        return torch.randn(*tensor.shape[:-1], dim, generator=generator, dtype=torch.float64)

    edges = tuple(draw(edge, channels * edge.shape[-1]) for edge in graph.edges)
    return replace(graph, edges=edges, nodes=tuple(draw(node, channels) for node in graph.nodes))


def applied(layer: nn.Module, features: GraphBatch) -> GraphBatch:
    weights, biases = layer(list(features.edges), list(features.nodes))
    return replace(features, edges=tuple(weights), nodes=tuple(biases))


def of_one(features: GraphBatch) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Of the first network: W, b, the means r and c, and those that make g."""
    weights, biases = [e[0] for e in features.edges], [n[0] for n in features.nodes]
    rows, columns = [w.mean(dim=0) for w in weights], [w.mean(dim=1) for w in weights]
    return weights, biases, rows, columns, [w.mean(dim=(0, 1)) for w in weights] + [b.mean(dim=0) for b in biases]


def pair_by_pair(
    maps: Any, bias_maps: Any, weight: Tensor, g: Tensor, sources: list[Tensor], targets: list[Tensor]
) -> Features:
    """A W_ij + G g + R [source j] + S [target i] of all pairs, and D [target i] + E g of all targets."""
    new = [
        maps.own(weight[i, j]) + maps.overall(g) + maps.rows(source) + maps.columns(target)
        for i, target in enumerate(targets)
        for j, source in enumerate(sources)
    ]
    return new, [bias_maps.neurons(target) + bias_maps.overall(g) for target in targets]


def np_by_loops(layer: Any, features: GraphBatch) -> Features:
    weights, biases, rows, columns, means = of_one(features)
    new_weights, new_biases, last = [], [], len(weights) - 1
    for t, weight in enumerate(weights):
        targets = [[columns[t][i], biases[t][i]] + ([rows[t + 1][i]] if t < last else []) for i in range(len(weight))]
        sources = [[row] + ([columns[t - 1][j], biases[t - 1][j]] if t else []) for j, row in enumerate(rows[t])]
        ends = list(map(torch.cat, sources)), list(map(torch.cat, targets))
        new = pair_by_pair(layer.weight_maps[t], layer.bias_maps[t], weight, torch.cat(means), *ends)
        new_weights += new[0]
        new_biases += new[1]
    return new_weights, new_biases


def hnp_by_loops(layer: Any, features: GraphBatch) -> Features:
    weights, biases, rows, columns, means = of_one(features)
    h = torch.cat([*means, rows[0].flatten(), columns[-1].flatten(), biases[-1].flatten()])
    last, touching = len(weights) - 1, len(weights) == 2
    inputs_of = [weights[0][i].flatten() for i in range(weights[0].shape[0])]
    outputs_of = [weights[-1][:, j].flatten() for j in range(weights[-1].shape[1])]
    new_weights, new_biases, into_last = [], [], []
    for i, inputs in enumerate(inputs_of):
        parts = torch.cat([inputs, rows[1][i], biases[0][i]] + ([outputs_of[i]] if touching else []))
        new_weights += (layer.first_weight.neurons(parts) + layer.first_weight.overall(h)).chunk(weights[0].shape[1])
        new_biases.append(layer.first_bias.neurons(parts) + layer.first_bias.overall(h))
    for t in range(1, last):
        targets = [list(parts) for parts in zip(columns[t], biases[t], rows[t + 1], strict=True)]
        sources = [list(parts) for parts in zip(rows[t], columns[t - 1], biases[t - 1], strict=True)]
        targets = [parts + ([outputs_of[i]] if t == last - 1 else []) for i, parts in enumerate(targets)]
        sources = [parts + ([inputs_of[j]] if t == 1 else []) for j, parts in enumerate(sources)]
        ends = list(map(torch.cat, sources)), list(map(torch.cat, targets))
        new = pair_by_pair(layer.middle_weights[t - 1], layer.middle_biases[t - 1], weights[t], h, *ends)
        new_weights += new[0]
        new_biases += new[1]
    for j, outputs in enumerate(outputs_of):
        parts = torch.cat([outputs, columns[-2][j]] + ([inputs_of[j]] if touching else []))
        into_last.append((layer.last_weight.neurons(parts) + layer.last_weight.overall(h)).view(len(biases[-1]), -1))
    new_weights += torch.stack(into_last, dim=1).flatten(0, 1)
    return new_weights, [*new_biases, layer.last_bias(h)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", LAYERS)
def test_layers_are_the_published_equations(variant: Variant, architecture: str) -> None:
    layer, features = layer_and_features(variant, architecture)
    found = applied(layer, features)
    by_loops = np_by_loops if variant == "np" else hnp_by_loops
    for tensors, wanted in zip((found.edges, found.nodes), by_loops(layer, features), strict=True):
        flat = torch.cat([tensor[0].flatten() for tensor in tensors])
        torch.testing.assert_close(flat, torch.cat([part.flatten() for part in wanted]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", LAYERS)
def test_layers_are_equivariant_and_hnp_knows_inputs_and_outputs(variant: Variant, architecture: str) -> None:
    layer, features = layer_and_features(variant, architecture)
    found = applied(layer, features)
    assert_equal_graphs(applied(layer, permute_hidden(features)), permute_hidden(found))
    ends = [permute_outputs] if architecture == "cnn" else [permute_inputs, permute_outputs]
    for permute in ends:
        moved, wanted = applied(layer, permute(features)), permute(found)
        if variant == "np":
            assert_equal_graphs(moved, wanted)
        else:
            assert not torch.allclose(moved.edges[0], wanted.edges[0], atol=1e-3)
    uncoupled = applied(layer, permute_uncoupled(features))
    assert not torch.allclose(uncoupled.edges[0], permute_uncoupled(found).edges[0], atol=1e-3)


def assert_drawn_within(bound: float, *maps: nn.Linear) -> None:
    for parameter in (parameter for linear in maps for parameter in (linear.weight, linear.bias)):
        assert 0.8 * bound < parameter.detach().abs().max() <= bound


@pytest.mark.parametrize("variant", LAYERS)
def test_summed_maps_are_initialised_as_one(variant: Variant) -> None:
    with seeded(0, "init"):
        layer: Any = LAYERS[variant](siren_architecture(2, (8, 8), 3), 2, 64)
    maps = layer.weight_maps[1] if variant == "np" else layer.middle_weights[0]
    together = [[maps.own, maps.overall, maps.rows, maps.columns]]
    neurons = [*layer.bias_maps] if variant == "np" else [*layer.middle_biases, layer.first_bias, layer.last_weight]
    together += [[maps.neurons, maps.overall] for maps in neurons]
    for parts in together:
        assert_drawn_within(sum(part.in_features for part in parts) ** -0.5, *parts)


def test_hnp_leaves_the_first_weights_and_the_last_biases_as_torch_has_them() -> None:
    with seeded(0, "init"):
        layer = HNPLayer(siren_architecture(2, (8, 8), 3), 2, 64)
    for linear in (layer.first_weight.neurons, layer.first_weight.overall, layer.last_bias):
        assert_drawn_within(linear.in_features**-0.5, linear)
