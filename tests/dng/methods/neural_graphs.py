"""Networks for the tests of neural graphs: with residual connections, and batches of different architectures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dng.methods.neural_graph_config import ACTIVATIONS, NeuralGraphConfig
from dng.methods.neural_graph_raw import EdgeBlock, first_nodes, node_layers
from dng.methods.ng_gnn import NGGNN, NGGNNConfig
from dng.methods.ng_t import NGT, NGTConfig
from dng.models.model import Reader
from dng.testing import permute_nodes, random_graph, random_orders
from dng.training.seed import seeded
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from zootool.architecture import Activation, Architecture, Pooling, Residual, Timestamp
from zootool.graph import BatchResidual, GraphBatch
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (5, 4), 3)
SMALL_VIT = simple_vit(dim=6, depth=1, heads=2, dim_head=4, mlp=5)
SINE = Activation("sine", omega_0=30.0)
TINY_GNN = NGGNNConfig(dim=6)
TINY_T = NGTConfig(
    node_dim=6, edge_dim=5, attention_dim=8, node_hidden_dim=7, edge_hidden_dim=9, head_dim=10,
    num_layers=3, num_heads=2,
)  # fmt: skip
Method = TypeVar("Method", bound=Reader)
Edges = dict[tuple[int, int], list[Tensor]]


def residual_siren() -> Architecture:
    """Three hidden layers: the last adds the first, and the first three of its nodes the one before it."""
    return Architecture(
        2,
        (
            Timestamp("linear", 4, 2, activation=SINE),
            Timestamp("linear", 4, 4, activation=SINE, residuals=(Residual(source=1, count=3),)),
            Timestamp("linear", 4, 4, has_bias=False, activation=SINE, residuals=(Residual(source=1),)),
            Timestamp("linear", 3, 4),
        ),
        family="mlp",
    )


def cnn(
    kernels: Sequence[int], activations: Sequence[str], residuals: dict[int, int] | None = None, positions: int = 1
) -> Architecture:
    """Convolutions 2 -> 4 -> 4 -> 4 and 3 outputs; `residuals` of timestamps are added to those that are their keys."""
    layers, width = [], 2
    for t, (side, name) in enumerate(zip(kernels, activations, strict=True), start=1):
        added = (Residual(source=residuals[t]),) if residuals and t in residuals else ()
        layers.append(
            Timestamp(
                "conv",
                4,
                width,
                edges_per_pair=side**2,
                kernel=(side, side),
                activation=Activation(name),
                residuals=added,
            )
        )
        width = 4
    if positions > 1:
        head = Timestamp("flatten_linear", 3, width, edges_per_pair=positions)
    else:
        head = Timestamp("pool_linear", 3, width, pooling=Pooling("mean"))
    return Architecture(2, (*layers, head), family="cnn")


def different_cnns() -> list[GraphBatch]:
    """Batches of networks with equal node counts, and different kernels, activations and residual connections."""
    first = cnn((3, 3, 3), ("relu", "relu", "relu"), {3: 1})
    third = cnn((3, 2, 1), ("relu", "gelu", "none"), {2: 1, 3: 1})
    # A connection of its own between nodes that the first has one between.
    added = replace(third.timestamps[2].residuals[0], added="after_activation")
    layers = (*third.timestamps[:2], replace(third.timestamps[2], residuals=(added,)), third.timestamps[3])
    architectures = [first, cnn((2, 1, 3), ("gelu", "tanh", "relu")), replace(third, timestamps=layers)]
    return [random_graph(a, 2, seed=seed, dtype=torch.float64) for seed, a in enumerate(architectures)]


def symmetric_cases() -> dict[str, tuple[Architecture, NeuralGraphConfig]]:
    """Networks whose hidden nodes may be permuted, and how they become graphs."""
    siren = NeuralGraphConfig(sigma=1.0, num_frequencies=6)
    full = replace(siren, reverse=True, num_probes=5, standardise=True)
    cnns = replace(siren, kernel_size=3, activations=ACTIVATIONS)
    pixels = cnn((3, 2, 1), ("relu", "gelu", "tanh"), {2: 1, 3: 1}, positions=2)
    return {
        "siren": (SIREN, siren),
        "siren, both ways": (SIREN, replace(siren, reverse=True)),
        "siren with probes": (SIREN, full),
        "siren with residuals": (residual_siren(), full),
        "cnn": (small_cnn(), cnns),
        "cnn with residuals": (residual_cnn(4, width=4), cnns),
        "cnn with pixels": (pixels, replace(cnns, repeat_nodes=True)),
        "vit": (SMALL_VIT, replace(siren, attention=True, activations=ACTIVATIONS)),
    }


def tiny_gnn(case: str, **options: Any) -> tuple[NGGNN, GraphBatch]:
    """A narrow NG-GNN for a case of `symmetric_cases`, and the networks that it was fitted to."""
    return fitted(NGGNN, replace(TINY_GNN, **options), case)


def tiny_t(case: str, **options: Any) -> tuple[NGT, GraphBatch]:
    """A narrow NG-T for a case of `symmetric_cases`, and the networks that it was fitted to."""
    return fitted(NGT, replace(TINY_T, **options), case)


def fitted(method: type[Method], config: NGGNNConfig | NGTConfig, case: str) -> tuple[Method, GraphBatch]:
    """A method with four outputs for a case of `symmetric_cases`, fitted to three networks; all in float64."""
    architecture, graph_config = symmetric_cases()[case]
    graph = random_graph(architecture, 3, dtype=torch.float64)
    with seeded(0):
        model = method([architecture], 4, replace(config, graph=graph_config)).double().eval()
    model.fit([graph])
    return model, graph


def permuted(graph: GraphBatch, seed: int = 1) -> GraphBatch:
    """The same networks with their hidden neurons in another order; nodes that residual connections tie share it."""
    orders = random_orders(graph.architecture, seed)
    for edges in sorted(graph.residuals, key=lambda edges: edges.target):
        # A connection of three of four nodes ties those three.
        count = edges.residual.count
        if count is not None:
            orders[edges.residual.source] = torch.cat([orders[1][orders[1] < count], torch.arange(count, 4)])
    for edges in sorted(graph.residuals, key=lambda edges: edges.target):
        orders[edges.target] = orders[edges.residual.source]
    return permute_nodes(graph, orders)


def edges_of(blocks: Sequence[EdgeBlock], counts: Sequence[int], row: int) -> Edges:
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
    """The nodes of every layer of a network's graph."""
    return [layer.num_nodes for layer in node_layers(architecture)]


def joined(graphs: Sequence[GraphBatch]) -> GraphBatch:
    """The networks of all graphs as one batch, one of each in turn; what is masked holds 9, which nobody may read."""
    owners = [index for index, graph in enumerate(graphs) for _ in range(len(graph))]
    order = sorted(range(len(owners)), key=lambda row: sum(owners[row] == owner for owner in owners[:row]))
    whose = torch.tensor(owners)[order]
    edges, masks = [], []
    for parts in zip(*(graph.edges for graph in graphs), strict=True):
        room = [(0, max(part.shape[-1] for part in parts) - part.shape[-1]) for part in parts]
        edges.append(torch.cat([pad(p, r, value=9.0) for p, r in zip(parts, room, strict=True)])[order])
        real = [pad(torch.ones_like(p, dtype=torch.bool), r) for p, r in zip(parts, room, strict=True)]
        masks.append(torch.cat(real)[order])
    nodes = [torch.cat(parts)[order] for parts in zip(*(graph.nodes for graph in graphs), strict=True)]
    found: dict[tuple, Tensor] = {}
    for index, graph in enumerate(graphs):
        for edge in graph.residuals:
            key = (edge.target, edge.residual)
            found[key] = found.get(key, torch.zeros(len(whose), dtype=torch.bool)) | (whose == index)
    residuals = tuple(BatchResidual(target, residual, networks) for (target, residual), networks in found.items())
    architectures = tuple(graph.architecture for graph in graphs)
    return GraphBatch(architectures, tuple(edges), tuple(nodes), tuple(masks), (), whose, residuals)


def assert_all_is_on_meta(model: nn.Module, graph: GraphBatch, num_outputs: int) -> None:
    """Logits and gradients are made where the networks are: torch refuses to mix what is made elsewhere with them."""
    logits = model.to("meta").train()(on_meta(graph))
    assert logits.is_meta
    assert logits.shape == (len(graph), num_outputs)
    logits.sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(gradients) > 10, "most parameters take part"
    assert all(gradient.is_meta for gradient in gradients)


def on_meta(graph: GraphBatch) -> GraphBatch:
    """The networks on the meta device: whatever a model made elsewhere and added would be refused."""
    masks = tuple(None if mask is None else mask.to("meta") for mask in graph.edge_masks)
    index = None if graph.architecture_index is None else graph.architecture_index.to("meta")
    residuals = tuple(
        replace(edges, networks=None if edges.networks is None else edges.networks.to("meta"))
        for edges in graph.residuals
    )
    moved = graph.map_weights(lambda tensor: tensor.to("meta"))
    return replace(moved, edge_masks=masks, architecture_index=index, residuals=residuals)
