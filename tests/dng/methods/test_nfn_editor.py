from dataclasses import replace
from itertools import chain

import pytest
import torch

from dng.methods.editors import NFNEditor, NFNEditorConfig
from dng.models.heads import count_parameters
from dng.testing import (
    assert_batch_independent,
    assert_equal_graphs,
    assert_gradients,
    permute_hidden,
    permute_inputs,
    permute_outputs,
    permute_uncoupled,
    random_graph,
)
from dng.training.seed import seeded
from tests.dng.graphs import residual_cnn
from tests.dng.methods.nfn_networks import ARCHITECTURES
from tests.dng.methods.precisions import IN_BOTH_PRECISIONS
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

TINY = NFNEditorConfig(channels=(5, 4), num_frequencies=3, sigma=1.0)
CONFIGS = {
    "hnp": TINY,
    "np": replace(TINY, variant="np"),
    "np with places": replace(TINY, variant="np", io_bands=2),
}


def build(architecture: Architecture, config: NFNEditorConfig, dtype: torch.dtype = torch.float64) -> NFNEditor:
    with seeded(0, "editor"):
        return NFNEditor([architecture], config).to(dtype).eval()


@IN_BOTH_PRECISIONS
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("config", CONFIGS)
def test_editing_permuted_networks_permutes_the_edited(
    config: str, architecture: str, dtype: torch.dtype, tolerance: float
) -> None:
    editor = build(ARCHITECTURES[architecture], CONFIGS[config], dtype)
    graph = random_graph(ARCHITECTURES[architecture], batch=3, dtype=dtype)
    edited = editor(graph)
    assert all(new.shape == old.shape for new, old in zip(edited.edges, graph.edges, strict=True))
    assert_equal_graphs(editor(permute_hidden(graph)), permute_hidden(edited), tolerance)
    for permute in (permute_outputs,) if architecture == "cnn" else (permute_inputs, permute_outputs):
        moved, wanted = editor(permute(graph)), permute(edited)
        if config == "np":
            assert_equal_graphs(moved, wanted, tolerance)
        else:
            assert not torch.allclose(moved.nodes[0], wanted.nodes[0], rtol=0, atol=1e-5)
    moved, wanted = editor(permute_uncoupled(graph)), permute_uncoupled(edited)
    assert not torch.allclose(moved.nodes[0], wanted.nodes[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_gradients_of_editors_and_batches(config: str) -> None:
    editor = build(ARCHITECTURES["siren"], replace(CONFIGS[config], scale=0.5))
    graph = random_graph(ARCHITECTURES["siren"], batch=3, dtype=torch.float64)
    assert_gradients(editor, graph, step=1e-7)
    assert_batch_independent(editor, graph)


def test_every_tensor_has_a_scale_and_changes_by_it() -> None:
    graph = random_graph(ARCHITECTURES["siren"], batch=3, dtype=torch.float64)
    editor = build(ARCHITECTURES["siren"], TINY)
    weights, biases = editor.changes(graph)
    edited = editor(graph)
    assert min(float(change.detach().min()) for change in (*weights, *biases)) < 0
    for new, old, change in chain(
        zip(edited.edges, graph.edges, weights, strict=True), zip(edited.nodes, graph.nodes, biases, strict=True)
    ):
        torch.testing.assert_close(new, old + 0.01 * change)
    editor.weight_scales.data[1], editor.bias_scales.data[2] = 2.0, 3.0
    edited = editor(graph)
    torch.testing.assert_close(edited.edges[1], graph.edges[1] + 2 * weights[1])
    torch.testing.assert_close(edited.nodes[2], graph.nodes[2] + 3 * biases[2])
    torch.testing.assert_close(edited.edges[0], graph.edges[0] + 0.01 * weights[0])


def test_layers_without_biases_get_none_and_other_node_features_stay() -> None:
    architecture = ARCHITECTURES["siren"]
    first = replace(architecture.timestamps[0], has_bias=False)
    architecture = replace(architecture, timestamps=(first, *architecture.timestamps[1:]), slots=())
    graph = random_graph(architecture, batch=3, dtype=torch.float64)
    graph = replace(graph, nodes=tuple(torch.cat([node, node + 1], dim=-1) for node in graph.nodes))
    edited = build(architecture, TINY)(graph)
    assert (edited.nodes[0][..., 0] == 0).all()
    assert not torch.equal(edited.nodes[1][..., 0], graph.nodes[1][..., 0])
    assert all(torch.equal(new[..., 1], old[..., 1]) for new, old in zip(edited.nodes, graph.nodes, strict=True))


def test_editors_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        editors = [
            NFNEditor([siren_architecture(2, (32, 32), 1)], NFNEditor.presets[name]) for name in ("inr", "inr-np")
        ]
    assert [count_parameters(editor) for editor in editors] == [6_440_853, 4_133_656]
    assert [(editor.config.sigma, editor.config.io_bands) for editor in editors] == [(3.0, 0), (3.0, 3)]
    assert editors[1].config.io_max_frequency == 3.0


def test_editors_are_widened_and_say_what_they_cannot_take() -> None:
    assert NFNEditorConfig().widened(0.5) == NFNEditorConfig(channels=(64, 64, 64))
    assert min(TINY.widened(1e-3).channels) == 1
    with pytest.raises(UsageError, match=r"nfn-hnp-editor can't .* residual connections; .* \(ng-gnn, ng-t\) can"):
        NFNEditor([residual_cnn()])
    with pytest.raises(UsageError, match="channels"):
        NFNEditorConfig(channels=(3, 0))
