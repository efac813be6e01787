from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dng.testing import random_graph
from dng.training.seed import seeded
from dng.training.symmetries import Symmetries, mirror, relabel, rescale, vary
from tests.dng.graphs import residual_cnn, simple_vit
from zootool.architecture import Activation, Architecture, Norm, Pooling, Timestamp
from zootool.graph import GraphBatch, residuals_of

FUNCTIONS = {"relu": nn.functional.relu, "tanh": torch.tanh, "gelu": nn.functional.gelu, "none": lambda x: x}


def cnn(*activations: str, kernels: tuple[int, ...] = (3, 2), pooling: Pooling | None = None) -> Architecture:
    """Convolutions of 5 channels each with `activations`, then global pooling and 4 classes."""
    layers, sources = [], 2
    for activation, side in zip(activations, kernels, strict=True):
        layers.append(
            Timestamp("conv", 5, sources, side * side, kernel=(side, side), activation=Activation(activation))
        )
        sources = 5
    return Architecture(2, (*layers, Timestamp("pool_linear", 4, 5, pooling=pooling or Pooling("mean"))), family="cnn")


def logits(graph: GraphBatch, images: Tensor) -> Tensor:
    """(B, images, classes) of networks without residuals, layer by layer as torch computes them."""
    rows = []
    for b in range(len(graph)):
        owner = 0 if graph.architecture_index is None else int(graph.architecture_index[b])
        x = images
        for t, timestamp in enumerate(graph.architectures[owner].timestamps):
            weight, bias = graph.edges[t][b], graph.nodes[t][b, :, 0]
            if timestamp.kernel is None:
                x = x.mean(dim=(-2, -1)) @ weight[..., 0].T + bias
            else:
                kernel = weight[..., : timestamp.edges_per_pair].unflatten(-1, timestamp.kernel)
                x = FUNCTIONS[timestamp.activation.name](nn.functional.conv2d(x, kernel, bias))
        rows.append(x)
    return torch.stack(rows)


def images(side: int = 9) -> Tensor:
    return torch.randn(6, 2, side, side, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_relabelling_reorders_the_logits() -> None:
    graph = random_graph(cnn("relu", "tanh"), batch=3, dtype=torch.float64)
    orders = torch.stack([torch.tensor(order) for order in ([1, 2, 3, 0], [3, 2, 1, 0], [0, 1, 3, 2])])
    wanted = torch.stack([part[:, order] for part, order in zip(logits(graph, images()), orders, strict=True)])
    torch.testing.assert_close(logits(relabel(graph, orders), images()), wanted)


@pytest.mark.parametrize("move", range(8))
def test_a_mirrored_network_sees_mirrored_images(move: int) -> None:
    graph = random_graph(cnn("relu", "tanh"), batch=2, dtype=torch.float64)
    moved = images().flip(-1) if move & 1 else images()
    moved = moved.flip(-2) if move & 2 else moved
    moved = moved.transpose(-1, -2) if move & 4 else moved
    found = logits(mirror(graph, torch.full((2,), move)), moved)
    torch.testing.assert_close(found, logits(graph, images()))
    assert move == 0 or not torch.allclose(logits(graph, moved), found)


@pytest.mark.parametrize("activation", ["relu", "tanh", "none"])
def test_rescaling_changes_the_weights_and_not_the_function(activation: str) -> None:
    graph = random_graph(cnn(activation, activation), batch=3, dtype=torch.float64)
    with seeded(0):
        changed = vary(graph, Symmetries(relabel=False, mirror=False))
    for t in range(2):
        assert not torch.allclose(changed.edges[t], graph.edges[t])
        assert not torch.allclose(changed.nodes[t], graph.nodes[t])
    torch.testing.assert_close(logits(changed, images()), logits(graph, images()))


def test_a_factor_goes_in_and_out_again() -> None:
    graph = random_graph(cnn("relu", "relu"), batch=2, dtype=torch.float64)
    factors = torch.rand(2, 5, dtype=torch.float64) + 0.5
    changed = rescale(graph, 1, factors)
    torch.testing.assert_close(changed.edges[0], graph.edges[0] * factors[:, :, None, None])
    torch.testing.assert_close(logits(changed, images()), logits(graph, images()))


def test_gelu_is_left_alone() -> None:
    graph = random_graph(cnn("gelu", "gelu"), batch=2)
    with seeded(0):
        changed = vary(graph, Symmetries(relabel=False, mirror=False))
    assert all(torch.equal(a, b) for a, b in zip(changed.edges, graph.edges, strict=True))


def test_signs_stay_where_a_maximum_is_taken_and_where_norms_or_residuals_stand() -> None:
    signs = Symmetries(relabel=False, mirror=False, rescale=0.0)
    largest = cnn("tanh", "tanh", pooling=Pooling("max"))
    with_norm = cnn("tanh", "tanh")
    first = replace(with_norm.timestamps[0], norm=Norm("batch"))
    with_norm = replace(with_norm, timestamps=(first, *with_norm.timestamps[1:]))
    for architecture, untouched in ((largest, 2), (with_norm, 1)):
        graph = random_graph(architecture, batch=8)
        with seeded(0):
            changed = vary(graph, signs)
        assert torch.equal(changed.nodes[untouched - 1], graph.nodes[untouched - 1])
        assert not torch.equal(changed.nodes[2 - untouched], graph.nodes[2 - untouched])
    residual = residual_cnn(depth=4)
    layers = [replace(t, activation=Activation("tanh")) for t in residual.timestamps]
    graph = random_graph(replace(residual, timestamps=tuple(layers)), batch=8)
    with seeded(0):
        changed = vary(graph, signs)
    # Layer 1 feeds layer 3, and layer 2 feeds layer 4: nothing is free.
    assert all(torch.equal(a, b) for a, b in zip(changed.edges, graph.edges, strict=True))


def test_networks_of_one_batch_are_changed_by_their_own_architectures() -> None:
    """One has kernels of 3 x 3 and ReLU, the other 1 x 1 (padded) and tanh; each computes what it did."""
    wide, narrow = cnn("relu", "relu", kernels=(3, 3)), cnn("tanh", "gelu", kernels=(1, 1))
    graph = random_graph(wide, batch=6, dtype=torch.float64)
    owners = torch.tensor([0, 1, 0, 1, 1, 0])
    masks = tuple(
        torch.arange(edge.shape[-1]).expand(edge.shape)
        < torch.where(owners == 0, edge.shape[-1], 1)[:, None, None, None]
        for edge in graph.edges
    )
    edges = tuple(edge * mask for edge, mask in zip(graph.edges, masks, strict=True))
    graph = replace(
        graph, architectures=(wide, narrow), architecture_index=owners, edges=edges, edge_masks=masks,
        residuals=residuals_of(wide),
    )  # fmt: skip
    with seeded(3):
        changed = vary(graph, Symmetries(relabel=False, mirror=False))
    torch.testing.assert_close(logits(changed, images()), logits(graph, images()))
    flipped = mirror(graph, torch.ones(6, dtype=torch.int64))
    torch.testing.assert_close(logits(flipped, images().flip(-1)), logits(graph, images()))
    assert all(bool((edge[~mask] == 0).all()) for edge, mask in zip(changed.edges, masks, strict=True))


def test_the_same_seed_gives_the_same_networks() -> None:
    graph = random_graph(cnn("relu", "tanh"), batch=4)
    found = []
    for seed in (1, 1, 2):
        with seeded(seed):
            found.append(vary(graph, Symmetries()))
    assert torch.equal(found[0].edges[0], found[1].edges[0])
    assert not torch.equal(found[0].edges[0], found[2].edges[0])


def test_transformers_are_relabelled_alone() -> None:
    graph = random_graph(simple_vit(), batch=2)
    with seeded(0):
        changed = vary(graph, Symmetries())
    assert all(torch.equal(a, b) for a, b in zip(changed.edges[:-3], graph.edges[:-3], strict=True))
    assert not torch.equal(changed.nodes[-1], graph.nodes[-1])


def test_kernels_stay_where_a_layer_reads_places() -> None:
    """A linear layer behind a flattened feature map would have to be mirrored too."""
    first = Timestamp("conv", 3, 1, 9, kernel=(3, 3), activation=Activation("gelu"))
    architecture = Architecture(1, (first, Timestamp("flatten_linear", 2, 3, edges_per_pair=4)), family="cnn")
    graph = random_graph(architecture, batch=8)
    with seeded(0):
        changed = vary(graph, Symmetries(relabel=False))
    assert torch.equal(changed.edges[0], graph.edges[0])
