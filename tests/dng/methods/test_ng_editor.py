from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dng.methods import ng_gnn
from dng.methods.editors import NGEditor, NGGNNEditor, NGTEditor
from dng.models.heads import count_parameters
from dng.testing import (
    assert_batch_independent,
    assert_equal_graphs,
    assert_every_parameter_learns,
    assert_gradients,
    permute_hidden,
    permute_inputs,
    permute_outputs,
    random_graph,
)
from dng.training.seed import seeded
from tests.dng.graphs import small_cnn
from tests.dng.methods.neural_graphs import SIREN, residual_siren
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

GNN_EDITOR, T_EDITOR = NGGNNEditor.presets["inr"], NGTEditor.presets["inr"]
GRAPH = replace(T_EDITOR.graph, num_frequencies=6, sigma=1.0)
TINY_GNN = replace(GNN_EDITOR, dim=6, num_layers=2)
TINY_T = replace(
    T_EDITOR, graph=GRAPH, node_dim=6, edge_dim=5, attention_dim=8, node_hidden_dim=7, edge_hidden_dim=9, num_layers=2
)
EDITORS: dict[str, Any] = {"gnn": (NGGNNEditor, TINY_GNN), "t": (NGTEditor, TINY_T)}


def build(kind: str, architecture: Architecture = SIREN) -> tuple[NGEditor, GraphBatch]:
    editor, config = EDITORS[kind]
    graph = random_graph(architecture, 3, dtype=torch.float64)
    with seeded(0):
        model = editor([architecture], config).double().eval()
    model.fit([graph])
    with torch.no_grad():
        # What each tensor is scaled by is its own, and large enough to be seen.
        model.weight_scales.copy_(torch.arange(1, architecture.num_layers + 1))
        model.bias_scales.copy_(-torch.arange(1, architecture.num_layers + 1))
    return model, graph


def test_parameters_are_as_many_as_published() -> None:
    siren = [siren_architecture(2, (32, 32), 1)]
    with torch.device("meta"):
        assert count_parameters(NGGNNEditor(siren)) == 1_186_696
        assert count_parameters(NGTEditor(siren)) == 391_112


@pytest.mark.parametrize("kind", EDITORS)
def test_permuting_hidden_nodes_permutes_the_edited_weights(kind: str) -> None:
    model, graph = build(kind)
    assert_equal_graphs(model(permute_hidden(graph)), permute_hidden(model(graph)))
    model, graph = model.float(), graph.map_weights(Tensor.float)
    assert_equal_graphs(model(permute_hidden(graph)), permute_hidden(model(graph)), tolerance=1e-3)


@pytest.mark.parametrize("kind", EDITORS)
def test_inputs_and_outputs_have_an_order(kind: str) -> None:
    model, graph = build(kind)
    for permute in (permute_inputs, permute_outputs):
        with pytest.raises(AssertionError):
            assert_equal_graphs(model(permute(graph)), permute(model(graph)), tolerance=1e-6)


@pytest.mark.parametrize("kind", EDITORS)
def test_every_weight_and_bias_is_changed_by_its_own_vector_and_its_tensors_scale(kind: str) -> None:
    model, graph = build(kind)
    edited = model(graph)
    for t, (nodes, edges) in enumerate(model.vectors(graph), start=1):
        change = edited.edges[t - 1] - graph.edges[t - 1]
        assert (change != 0).all()
        torch.testing.assert_close(change[1, 2, 1], t * model.edge_head(edges[1, 2, 1]))
        change = edited.nodes[t - 1] - graph.nodes[t - 1]
        assert (change != 0).all()
        torch.testing.assert_close(change[1, 2], -t * model.node_head(nodes[1, 2]))


def test_vectors_are_those_of_the_nodes_and_edges_that_the_networks_made() -> None:
    model, graph = build("gnn")
    read: Any = model.network(graph)
    vectors = model.vectors(graph)
    assert torch.equal(vectors[0][0], read.nodes[:, 2:7])
    assert torch.equal(vectors[2][0], read.nodes[:, -3:])
    assert torch.equal(vectors[1][1], read.blocks[1].features)
    model, graph = build("t")
    nodes, edges = model.network(graph)
    vectors = model.vectors(graph)
    assert nodes.shape[1] == edges.shape[1] == edges.shape[2] == 2 + 5 + 4 + 3
    assert torch.equal(vectors[1][0], nodes[:, 7:11])
    # Target 1 of layer 2 hears source 3 of layer 1, and rows are sources.
    assert torch.equal(vectors[1][1][:, 1, 3], edges[:, 2 + 3, 7 + 1])


@pytest.mark.parametrize("kind", EDITORS)
def test_what_a_layer_lacks_it_is_not_given(kind: str) -> None:
    model, graph = build(kind, residual_siren())
    named = replace(
        graph,
        nodes=tuple(torch.cat([node, torch.full_like(node, 2.0)], dim=-1) for node in graph.nodes),
        node_names=(("bias", "scale"),) * 4,
    )
    edited = model(named)
    assert not edited.nodes[2][..., 0].any()
    assert (edited.nodes[3] != named.nodes[3])[..., 0].all()
    assert all((node[..., 1] == 2).all() for node in edited.nodes)


@pytest.mark.parametrize("kind", EDITORS)
def test_gradients_and_batches(kind: str) -> None:
    model, graph = build(kind)
    assert_batch_independent(model, graph)
    assert_gradients(model, graph, step=1e-7)


@pytest.mark.parametrize("kind", EDITORS)
def test_every_parameter_has_a_gradient(kind: str) -> None:
    model, graph = build(kind, residual_siren())
    edited = model(graph)
    sums = [tensor.square().sum() for tensor in (*edited.edges, *edited.nodes)]
    assert_every_parameter_learns(model, torch.stack(sums).sum())


def test_changes_begin_small() -> None:
    for model in (NGGNNEditor([SIREN], TINY_GNN), NGTEditor([SIREN], TINY_T)):
        for scales in (model.weight_scales, model.bias_scales):
            torch.testing.assert_close(scales.detach(), torch.full((3,), 0.01))


@pytest.mark.parametrize("kind", EDITORS)
def test_other_networks_are_refused(kind: str) -> None:
    editor, config = EDITORS[kind]
    with pytest.raises(UsageError, match="2 and 3"):
        editor([SIREN, siren_architecture(3, (5,), 3)], config)
    with pytest.raises(UsageError, match="edits MLPs"):
        editor([small_cnn()], replace(config, graph=replace(ng_gnn.SMALL_CNN_GRAPH)))
    with pytest.raises(UsageError, match="edits the networks it is given"):
        editor([SIREN], replace(config, graph=replace(config.graph, rotation=45.0)))
