from dataclasses import replace

import pytest
import torch

from dng.encoder.config import ACTIVATIONS, HETEROGENEOUS_CNN_ENCODER, SMALL_CNN_ENCODER, VIT_ENCODER, EncoderConfig
from dng.encoder.dng_encoder import DNGEncoder, Walk
from dng.models.heads import count_parameters, mlp_head
from dng.testing import permute_hidden, random_graph
from dng.training.seed import seeded
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from zootool.architecture import Activation, Architecture, Pooling, Timestamp
from zootool.errors import UsageError
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

TINY = EncoderConfig(dim=16, num_frequencies=8, head_dim=4)
SIREN = siren_architecture(2, (8, 8), 3)


def build(architecture: Architecture, config: EncoderConfig = TINY, dtype: torch.dtype = torch.float32) -> DNGEncoder:
    with seeded(0):
        return DNGEncoder(architecture, config).to(dtype)


FAMILIES = {
    "siren": (SIREN, TINY),
    "cnn": (small_cnn(), TINY),
    "residuals": (residual_cnn(), TINY),
    "residual messages": (residual_cnn(), replace(TINY, residual="message")),
    "shared": (residual_cnn(), replace(TINY, shared=True, max_edges=9, activations=ACTIVATIONS)),
    "vit": (simple_vit(dim=8, depth=2, heads=2, dim_head=4, mlp=12), replace(TINY, residual="plain")),
    "two walks": (SIREN, replace(TINY, rnn_layers=2)),
    "embeddings": (SIREN, replace(TINY, positional=True, activations=("sine", "none"))),
}


@pytest.mark.parametrize(("architecture", "config"), FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_permuting_hidden_neurons_changes_nothing(
    architecture: Architecture, config: EncoderConfig, dtype: torch.dtype, tolerance: float
) -> None:
    encoder = build(architecture, config, dtype)
    graph = random_graph(architecture, batch=3, dtype=dtype)
    permuted = permute_hidden(graph)
    assert not torch.equal(permuted.edges[-1], graph.edges[-1])
    torch.testing.assert_close(encoder(permuted), encoder(graph), rtol=0, atol=tolerance)


def test_uncoupled_permutations_are_noticed() -> None:
    encoder = build(SIREN)
    graph = random_graph(SIREN, batch=2)
    edges = (graph.edges[0], graph.edges[1].flip(1), graph.edges[2])
    other = replace(graph, edges=edges)
    assert (encoder(other) - encoder(graph)).abs().max() > 1e-3


def test_output_nodes_are_permuted_with_the_network() -> None:
    encoder = build(SIREN, dtype=torch.float64)
    graph = random_graph(SIREN, batch=2, dtype=torch.float64)
    order = torch.tensor([2, 0, 1])
    edges = (*graph.edges[:2], graph.edges[2][:, order])
    nodes = (*graph.nodes[:2], graph.nodes[2][:, order])
    moved = encoder(replace(graph, edges=edges, nodes=nodes))
    torch.testing.assert_close(moved, encoder(graph)[:, order], rtol=0, atol=1e-12)


def test_a_network_does_not_see_its_neighbours_in_the_batch() -> None:
    encoder = build(SIREN, dtype=torch.float64)
    graph = random_graph(SIREN, batch=4, dtype=torch.float64)
    alone = graph.map_weights(lambda tensor: tensor[1:2])
    torch.testing.assert_close(encoder(alone), encoder(graph)[1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("architecture", "config"), FAMILIES.values(), ids=FAMILIES)
def test_every_parameter_gets_a_gradient(architecture: Architecture, config: EncoderConfig) -> None:
    encoder = build(architecture, config)
    out = encoder(random_graph(architecture, batch=2))
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    if config.activations:
        # Activations that these networks don't have can't learn from them.
        used = {config.activations.index(t.activation.name) for t in architecture.timestamps}
        walk = encoder.walks[0]
        assert isinstance(walk, Walk)
        assert walk.activations is not None
        assert walk.activations.grad is not None
        assert all((row.abs().sum() > 0) == (index in used) for index, row in enumerate(walk.activations.grad))
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_gradients_match_finite_differences() -> None:
    architecture = siren_architecture(1, (2,), 1)
    encoder = build(architecture, EncoderConfig(dim=3, num_frequencies=2), torch.float64)
    graph = random_graph(architecture, batch=1, dtype=torch.float64)

    def encode(*edges: torch.Tensor) -> torch.Tensor:
        return encoder(replace(graph, edges=edges))

    assert torch.autograd.gradcheck(encode, tuple(edge.requires_grad_() for edge in graph.edges))


def test_parameter_count_of_encoder_with_mlp_classifier() -> None:
    encoder = build(siren_architecture(2, (32, 32), 3), EncoderConfig(dim=128))
    assert count_parameters(encoder) + count_parameters(mlp_head(encoder.out_dim, 128, 10)) == 414_090


def published_small_cnn() -> Architecture:
    conv = {"edges_per_pair": 9, "kernel": (3, 3), "stride": 2, "activation": Activation("relu")}
    layers = (Timestamp("conv", 16, 1, **conv), Timestamp("conv", 16, 16, **conv), Timestamp("conv", 16, 16, **conv))
    return Architecture(1, (*layers, Timestamp("pool_linear", 10, 16, pooling=Pooling("mean"))))


def test_parameter_count_of_the_small_cnn_predictor() -> None:
    architecture = published_small_cnn()
    assert architecture.num_edges + architecture.num_nodes == 4970
    encoder = build(architecture, SMALL_CNN_ENCODER)
    assert count_parameters(encoder) + count_parameters(mlp_head(encoder.out_dim, 1024, 1)) == 2_990_209


def test_parameter_count_of_the_heterogeneous_cnn_predictor() -> None:
    layers = (
        Timestamp("conv", 8, 3, edges_per_pair=49, kernel=(7, 7), activation=Activation("gelu")),
        Timestamp("pool_linear", 10, 8, pooling=Pooling("mean")),
    )
    encoder = build(Architecture(3, layers), HETEROGENEOUS_CNN_ENCODER)
    assert count_parameters(encoder) + count_parameters(mlp_head(encoder.out_dim, 256, 1)) == 376_033


@pytest.mark.parametrize(("norm_fc2", "count"), [(True, 252_417), (False, 252_289)])
def test_parameter_count_of_the_vit_predictor(norm_fc2: bool, count: int) -> None:
    architecture = simple_vit()
    assert (architecture.num_edges, architecture.num_nodes) == (26_432, 234)
    assert architecture.num_layers == 12
    encoder = build(architecture, replace(VIT_ENCODER, norm_fc2=norm_fc2))
    assert count_parameters(encoder) + count_parameters(mlp_head(encoder.out_dim, 256, 1)) == count


VIT_NORMS = replace(TINY, residual="plain", norms="features")
SMALL_VIT = simple_vit(dim=8, depth=2, heads=2, dim_head=4, mlp=12)


def with_norms(graph: GraphBatch, scale: float = 1.0) -> GraphBatch:
    """The same networks with the norms' parameters among the features of the nodes that they normalise."""
    timestamps = graph.architecture.timestamps
    generator = torch.Generator().manual_seed(7)
    nodes, names = [], []
    for t, bias in enumerate(graph.nodes):
        features, found = [bias], ["bias"]
        owners = ["", "source_"] if timestamps[t].norm else ["source_"]
        for prefix in (
            owners if t + 1 < len(timestamps) and (timestamps[t].norm or timestamps[t + 1].source_norm) else []
        ):
            for role in ("scale", "shift"):
                features.append(scale * torch.rand(bias.shape, generator=generator, dtype=bias.dtype))
                found.append(prefix + role)
        nodes.append(torch.cat(features, dim=-1))
        names.append(tuple(found))
    return replace(graph, nodes=tuple(nodes), node_names=tuple(names))


def test_norms_as_features_change_the_memories_at_every_place() -> None:
    encoder, learned = build(SMALL_VIT, VIT_NORMS), build(SMALL_VIT, replace(VIT_NORMS, norms="learned"))
    plain = random_graph(SMALL_VIT, batch=2)
    graph = with_norms(plain)
    assert torch.equal(learned(graph), learned(plain))
    for t, names in enumerate(graph.node_names):
        for column in range(1, len(names)):
            nodes = [node.clone() for node in graph.nodes]
            nodes[t][..., column] += 0.5
            assert (encoder(replace(graph, nodes=tuple(nodes))) - encoder(graph)).abs().max() > 1e-4, (t, names[column])


def test_norms_as_features_are_permuted_with_their_nodes() -> None:
    encoder = build(SMALL_VIT, VIT_NORMS, torch.float64)
    graph = with_norms(random_graph(SMALL_VIT, batch=2, dtype=torch.float64))
    torch.testing.assert_close(encoder(permute_hidden(graph)), encoder(graph), rtol=0, atol=1e-12)


def test_norms_that_are_features_have_no_learned_stand_ins() -> None:
    encoder = build(SMALL_VIT, VIT_NORMS)
    assert not any("scale" in name or "source_norm" in name for name, _ in encoder.named_parameters())
    # A network without stored norms reads as one with neutral norms: scale 1, shift 0.
    plain = random_graph(SMALL_VIT, batch=2)
    neutral = with_norms(plain, scale=0.0)
    nodes = [
        node + torch.tensor([float(name.endswith("scale")) for name in names])
        for node, names in zip(neutral.nodes, neutral.node_names, strict=True)
    ]
    torch.testing.assert_close(encoder(replace(neutral, nodes=tuple(nodes))), encoder(plain), rtol=0, atol=1e-6)


def test_another_architecture_is_refused() -> None:
    other = siren_architecture(2, (8, 4), 3)
    with pytest.raises(UsageError, match=r"\(2, 8, 8, 3\).*\(2, 8, 4, 3\)"):
        build(SIREN)(random_graph(other, batch=1))


def test_the_same_seed_builds_the_same_encoder() -> None:
    first, second = build(SIREN).state_dict(), build(SIREN).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
