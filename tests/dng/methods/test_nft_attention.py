from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dng.methods.nft import ChannelNorm, NeuralFeatures, NFTAttention, NFTBlock, raw_features
from dng.models.heads import count_parameters
from dng.testing import (
    assert_equal_graphs,
    permute_hidden,
    permute_inputs,
    permute_outputs,
    permute_uncoupled,
    random_graph,
)
from dng.training.seed import seeded
from tests.dng.graphs import small_cnn
from zootool.architecture import Architecture, Timestamp
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (5, 6), 3)
ARCHITECTURES = [SIREN, small_cnn()]
NAMES = ["siren", "cnn"]
DIM, HEADS = 8, 2


class Bare(nn.Module):
    """Fixed maps from scalars to channels, the module, and fixed maps back: an editor without embeddings."""

    def __init__(self, architecture: Architecture, module: nn.Module) -> None:
        super().__init__()
        kernels = [*architecture.edges_per_pair, *(1 for _ in architecture.timestamps)]
        with seeded("ends"):
            self.first = nn.ModuleList(nn.Linear(k, k * DIM) for k in kernels)
            self.last = nn.ModuleList(nn.Linear(k * DIM, k) for k in kernels)
        self.module = module

    def forward(self, graph: GraphBatch) -> GraphBatch:
        done = self.module(raw_features(graph).each(self.first)).each(self.last)
        return replace(graph, edges=done.weights, nodes=done.biases)


def bare_blocks(architecture: Architecture) -> Bare:
    with seeded(1):
        shape = (architecture.edges_per_pair, DIM, HEADS, 12)
        return Bare(architecture, nn.Sequential(NFTBlock(*shape), NFTBlock(*shape))).double().eval()


def random_features(architecture: Architecture, batch: int = 2) -> NeuralFeatures:
    generator = torch.Generator().manual_seed(0)
    graph = random_graph(architecture, batch, dtype=torch.float64)

    def draw(tensor: Tensor) -> Tensor:
        shape = (*tensor.shape[:-1], tensor.shape[-1] * DIM)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    raw = raw_features(graph)
    return raw.each([draw] * 2 * architecture.num_layers)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
@pytest.mark.parametrize("permute", [permute_hidden, permute_inputs, permute_outputs])
def test_blocks_move_with_all_neurons_inputs_and_outputs_too(
    architecture: Architecture, permute: Callable[[GraphBatch], GraphBatch]
) -> None:
    blocks = bare_blocks(architecture)
    graph = random_graph(architecture, batch=2, dtype=torch.float64)
    assert_equal_graphs(blocks(permute(graph)), permute(blocks(graph)))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
def test_blocks_know_which_neurons_are_connected(architecture: Architecture) -> None:
    blocks = bare_blocks(architecture)
    graph = random_graph(architecture, batch=2, dtype=torch.float64)
    moved, expected = blocks(permute_uncoupled(graph)), permute_uncoupled(blocks(graph))
    assert (moved.edges[0] - expected.edges[0]).abs().max() > 1e-4


def test_attention_is_the_published_sum() -> None:
    with seeded(2):
        attention = NFTAttention(SIREN.edges_per_pair, 8, num_heads=2).double()
    features = random_features(SIREN)
    found = attention(features)
    for index in range(2):
        weights = [weight[index] for weight in features.weights]
        biases = [bias[index] for bias in features.biases]
        expected = plain_attention(attention.qkv, weights, biases, num_heads=2)
        for tensor, wanted in zip((*found.weights, *found.biases), expected, strict=True):
            torch.testing.assert_close(tensor[index], wanted, rtol=0, atol=1e-12)


def plain_attention(qkv: nn.Linear, weights: list[Tensor], biases: list[Tensor], num_heads: int) -> list[Tensor]:
    """The formulas for one network, head by head, token by token; W^l is (n_l, n_{l-1}, C), b^l is (n_l, C)."""
    num_layers, width = len(weights), biases[0].shape[-1] // num_heads
    out = [torch.zeros_like(tensor) for tensor in (*weights, *biases)]
    for head in range(num_heads):
        part = slice(head * width, (head + 1) * width)
        # Each tensor's queries, keys and values of this head.
        triples = [[x[..., part] for x in qkv(tensor).chunk(3, dim=-1)] for tensor in (*weights, *biases)]
        means = [[x.flatten(0, -2).mean(dim=0) for x in triple] for triple in triples]
        for target, value in enumerate(plain_softmax_attention(means)):
            out[target][..., part] += value
        for layer in range(num_layers + 1):
            tokens, places = [], []
            if layer > 0:
                columns, bias = triples[layer - 1], triples[num_layers + layer - 1]
                for source in range(columns[0].shape[1]):
                    tokens.append([x[:, source].flatten() for x in columns])
                    places.append(out[layer - 1][:, source, part])
                tokens.append([x.flatten() for x in bias])
                places.append(out[num_layers + layer - 1][:, part])
            if layer < num_layers:
                for target in range(triples[layer][0].shape[0]):
                    tokens.append([x[target].flatten() for x in triples[layer]])
                    places.append(out[layer][target, :, part])
            for place, value in zip(places, plain_softmax_attention(tokens), strict=True):
                place += value.view(place.shape)
    return out


def plain_softmax_attention(tokens: list[list[Tensor]]) -> list[Tensor]:
    results = []
    for query, _, _ in tokens:
        scores = torch.stack([query @ key for _, key, _ in tokens]) / len(query) ** 0.5
        shares = torch.softmax(scores, dim=0)
        results.append(sum((share * value for share, (_, _, value) in zip(shares, tokens, strict=True)), 0 * query))
    return results


def test_a_convolution_enters_and_leaves_attention_by_maps_of_its_own() -> None:
    # A kernel that only its first edge's channels enter and leave is a linear layer.
    linear = siren_architecture(1, (5, 6), 3)
    kernels = Architecture(
        1, (Timestamp("conv", 5, 1, 4, kernel=(2, 2)), *(replace(t, kind="linear") for t in linear.timestamps[1:]))
    )
    with seeded(3):
        plain = NFTAttention(linear.edges_per_pair, 8, 2).double()
        folded = NFTAttention(kernels.edges_per_pair, 8, 2).double()
    folded.qkv.load_state_dict(plain.qkv.state_dict())
    enter, leave = folded.kernel_qkv["0"], folded.kernel_out["0"]
    with torch.no_grad():
        for parameter in (*enter.parameters(), *leave.parameters()):
            parameter.zero_()
        enter.get_parameter("weight")[:, :8] = plain.qkv.weight
        enter.get_parameter("bias").copy_(plain.qkv.bias)
        leave.get_parameter("weight")[:8] = torch.eye(8)
    features = random_features(kernels)
    found = folded(features)
    first = features.weights[0][..., :8]
    expected = plain(replace(features, weights=(first, *features.weights[1:])))
    torch.testing.assert_close(found.weights[0][..., :8], expected.weights[0])
    assert not found.weights[0][..., 8:].any()
    torch.testing.assert_close(found.weights[1], expected.weights[1])
    torch.testing.assert_close(found.biases[0], expected.biases[0])


def test_the_norm_divides_by_an_unbiased_deviation() -> None:
    norm = ChannelNorm(3).double()
    values = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]], dtype=torch.float64)
    root_seven = 7**0.5 + 1e-5
    expected = torch.tensor([[-2 / root_seven, -1 / root_seven, 3 / root_seven], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(norm(values), expected)
    assert count_parameters(norm) == 6


def test_a_block_adds_attention_and_then_a_feed_forward() -> None:
    with seeded(4):
        block = NFTBlock(SIREN.edges_per_pair, DIM, HEADS, 12, dropout=0.5).double().eval()
    features = random_features(SIREN)
    middle = features.plus(block.attention(features.each(block.attention_norms))).biases[-1]
    first, last = (block.feed_forwards[-1].get_submodule(name) for name in ("0", "2"))
    expected = middle + last(nn.functional.gelu(first(block.ff_norms[-1](middle))))
    torch.testing.assert_close(block(features).biases[-1], expected, rtol=0, atol=1e-12)


def test_dropout_acts_on_all_that_a_block_adds() -> None:
    block = NFTBlock(small_cnn().edges_per_pair, DIM, HEADS, 12, dropout=1.0).double().train()
    features = random_features(small_cnn())
    found = block(features)
    for tensor, wanted in zip((*found.weights, *found.biases), (*features.weights, *features.biases), strict=True):
        assert torch.equal(tensor, wanted)
