import pytest
import torch

from dng.encoder import DNGEncoder, EncoderConfig
from dng.heads import count_parameters, mlp_head
from dng.seed import seeded
from tests.dng.graphs import permute_hidden, random_graph, small_cnn
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

TINY = EncoderConfig(dim=16, num_frequencies=8, head_dim=4)
SIREN = siren_architecture(2, (8, 8), 3)


def build(architecture: Architecture, config: EncoderConfig = TINY, dtype: torch.dtype = torch.float32) -> DNGEncoder:
    with seeded(0):
        return DNGEncoder(architecture, config).to(dtype)


@pytest.mark.parametrize("architecture", [SIREN, small_cnn()], ids=["siren", "cnn"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_permuting_hidden_neurons_changes_nothing(
    architecture: Architecture, dtype: torch.dtype, tolerance: float
) -> None:
    encoder = build(architecture, dtype=dtype)
    graph = random_graph(architecture, batch=3, dtype=dtype)
    permuted = permute_hidden(graph)
    assert not torch.equal(permuted.edges[1], graph.edges[1])
    torch.testing.assert_close(encoder(permuted), encoder(graph), rtol=0, atol=tolerance)


def test_uncoupled_permutations_are_noticed() -> None:
    encoder = build(SIREN)
    graph = random_graph(SIREN, batch=2)
    edges = (graph.edges[0], graph.edges[1].flip(1), graph.edges[2])
    other = type(graph)(graph.architecture, edges, graph.nodes)
    assert (encoder(other) - encoder(graph)).abs().max() > 1e-3


def test_output_nodes_are_permuted_with_the_network() -> None:
    encoder = build(SIREN, dtype=torch.float64)
    graph = random_graph(SIREN, batch=2, dtype=torch.float64)
    order = torch.tensor([2, 0, 1])
    edges = (*graph.edges[:2], graph.edges[2][:, order])
    nodes = (*graph.nodes[:2], graph.nodes[2][:, order])
    moved = encoder(type(graph)(graph.architecture, edges, nodes))
    torch.testing.assert_close(moved, encoder(graph)[:, order], rtol=0, atol=1e-12)


def test_a_network_does_not_see_its_neighbours_in_the_batch() -> None:
    encoder = build(SIREN, dtype=torch.float64)
    graph = random_graph(SIREN, batch=4, dtype=torch.float64)
    alone = graph.map(lambda tensor: tensor[1:2])
    torch.testing.assert_close(encoder(alone), encoder(graph)[1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", [SIREN, small_cnn()], ids=["siren", "cnn"])
def test_every_parameter_gets_a_gradient(architecture: Architecture) -> None:
    encoder = build(architecture)
    encoder(random_graph(architecture, batch=2)).square().mean().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_gradients_match_finite_differences() -> None:
    architecture = siren_architecture(1, (2,), 1)
    encoder = build(architecture, EncoderConfig(dim=3, num_frequencies=2), torch.float64)
    graph = random_graph(architecture, batch=1, dtype=torch.float64)

    def encode(*edges: torch.Tensor) -> torch.Tensor:
        return encoder(type(graph)(architecture, edges, graph.nodes))

    assert torch.autograd.gradcheck(encode, tuple(edge.requires_grad_() for edge in graph.edges))


def test_parameter_count_of_encoder_with_mlp_classifier() -> None:
    encoder = build(siren_architecture(2, (32, 32), 3), EncoderConfig(dim=128))
    assert count_parameters(encoder) + count_parameters(mlp_head(encoder.out_dim, 128, 10)) == 414_090


def test_another_architecture_is_refused() -> None:
    other = siren_architecture(2, (8, 4), 3)
    with pytest.raises(UsageError, match=r"\(2, 8, 8, 3\).*\(2, 8, 4, 3\)"):
        build(SIREN)(random_graph(other, batch=1))


def test_the_same_seed_builds_the_same_encoder() -> None:
    first, second = build(SIREN).state_dict(), build(SIREN).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
