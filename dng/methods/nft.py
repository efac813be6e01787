"""Neural Functional Transformers as classifiers and predictors (Zhou et al. 2023, NFT, section 3).

Weights and biases become vectors, NFT blocks mix them, and NFN's pooling and head end in logits. The published model
for these tasks isn't public: widths and the places of dropout are inferred. Every layer's weights and every layer's
biases have a linear embedding of their own; a convolution's takes its k numbers to k C channels.

Features are given per layer l = 1..L, channels last: weights (B, n_l, n_{l-1}, C_l) and biases (B, n_l, C). The k
edges per pair of a convolution are folded into the channels, C_l = k C. Blocks are equivariant to permutations of all
neurons, inputs and outputs included.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.methods.common import Settings, check_heads, widened_width
from dng.methods.nfn import HNPPool
from dng.methods.nfn_layers import nfn_refusal
from dng.models.heads import mlp_head
from dng.models.model import Reader
from zootool.architecture import Architecture
from zootool.graph import GraphBatch

_NORM_EPSILON = 1e-5

HeadsOfWeight = Float[Tensor, "3 batch heads _targets _sources width"]
HeadsOfBias = Float[Tensor, "3 batch heads _targets width"]


@dataclass(frozen=True)
class NFTConfig(Settings):
    """Channels C, heads and blocks; the feed-forwards' hidden channels, k times as many for a kernel; NFN's head."""

    dim: int = 256
    num_heads: int = 4
    num_blocks: int = 4
    ff_dim: int = 512
    dropout: float = 0.1
    head_dim: int = 1000
    head_dropout: float = 0.5

    def __post_init__(self) -> None:
        check_heads(self.dim, self.num_heads)

    def widened(self, factor: float) -> "NFTConfig":
        """The same method about `factor` times as wide; the channels stay a multiple of the heads."""
        dim = widened_width(self.dim, factor, self.num_heads)
        # What rounding to heads gave the channels is taken from the widths that they meet in matrices: small steps of
        # `factor` are small steps of the parameters.
        rest = factor**2 * self.dim / dim
        ff_dim, head_dim = widened_width(self.ff_dim, rest), widened_width(self.head_dim, rest)
        return replace(self, dim=dim, ff_dim=ff_dim, head_dim=head_dim)


class NFT(Reader):
    """Embedding, blocks, pooling that keeps inputs and outputs apart, MLP.

    Invariant to permutations of hidden neurons; takes networks of one set of widths, whatever their activations.
    """

    name: ClassVar[str] = "nft"
    presets: ClassVar[dict[str, Any]] = {
        "inr": NFTConfig(),
        "small-cnn": NFTConfig(dim=16, num_heads=2, ff_dim=32, head_dropout=0.0),
    }

    def __init__(
        self, architectures: Collection[Architecture], num_outputs: int, config: NFTConfig = presets["inr"]
    ) -> None:
        super().__init__(architectures, num_outputs, config)
        kernels = self.architecture.edges_per_pair
        self.embed_weights = nn.ModuleList(nn.Linear(k, k * config.dim) for k in kernels)
        self.embed_biases = nn.ModuleList(nn.Linear(1, config.dim) for _ in kernels)
        self.embeddings = LayerEmbeddings(self.architecture, config.dim)
        self.blocks = nn.Sequential(
            *(
                NFTBlock(kernels, config.dim, config.num_heads, config.ff_dim, config.dropout)
                for _ in range(config.num_blocks)
            )
        )
        self.pool = HNPPool(self.architecture, config.dim)
        self.head = mlp_head(self.pool.out_dim, config.head_dim, num_outputs, config.head_dropout)

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: Any = None) -> str | None:
        return nfn_refusal(architectures)

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch features"]:
        features = raw_features(graph).each([*self.embed_weights, *self.embed_biases])
        features = self.blocks(self.embeddings(features))
        return self.pool(features.weights, features.biases)


@dataclass(frozen=True)
class NeuralFeatures:
    """Vectors for every weight and every bias of B networks, as the module's docstring lays them out."""

    weights: tuple[Float[Tensor, "batch _targets _sources _channels"], ...]
    biases: tuple[Float[Tensor, "batch _targets channels"], ...]

    def each(self, functions: Iterable[Callable[[Tensor], Tensor]]) -> "NeuralFeatures":
        """Every tensor through a function of its own, those of the weights first."""
        tensors = (*self.weights, *self.biases)
        done = tuple(function(tensor) for function, tensor in zip(functions, tensors, strict=True))
        return NeuralFeatures(done[: len(self.weights)], done[len(self.weights) :])

    def plus(self, other: "NeuralFeatures") -> "NeuralFeatures":
        """The sums, tensor by tensor."""
        return self.each([tensor.add for tensor in (*other.weights, *other.biases)])

    def entries(self) -> Float[Tensor, "batch entries channels"]:
        """All weights and then all biases as one sequence; needs one edge per pair of neurons."""
        return torch.cat([*(weight.flatten(1, 2) for weight in self.weights), *self.biases], dim=1)


def raw_features(graph: GraphBatch) -> NeuralFeatures:
    """The weights, k numbers per pair of neurons, and the biases, one per neuron."""
    return NeuralFeatures(graph.edges, tuple(nodes[..., :1] for nodes in graph.nodes))


class LayerEmbeddings(nn.Module):
    """Adds learned N(0, 1) vectors that say which layer an entry is in, and which input or output it belongs to.

    W^l and b^l have a vector each. W^1 gets one more per input, W^L and b^L one per output. A convolution's k edges get
    the same.
    """

    def __init__(self, architecture: Architecture, dim: int) -> None:
        super().__init__()
        num_layers, counts = architecture.num_layers, architecture.node_counts
        self.layers = nn.Parameter(torch.randn(num_layers, dim))
        self.biases = nn.Parameter(torch.randn(num_layers, dim))
        self.inputs = nn.Parameter(torch.randn(counts[0], dim))
        self.outputs = nn.Parameter(torch.randn(counts[-1], dim))

    def forward(self, features: NeuralFeatures) -> NeuralFeatures:
        weights = [_added(weight, layer) for weight, layer in zip(features.weights, self.layers, strict=True)]
        biases = [bias + layer for bias, layer in zip(features.biases, self.biases, strict=True)]
        weights[0] = _added(weights[0], self.inputs)
        weights[-1] = _added(weights[-1], self.outputs[:, None])
        biases[-1] = biases[-1] + self.outputs
        return NeuralFeatures(tuple(weights), tuple(biases))


def _added(weight: Tensor, vectors: Float[Tensor, "... channels"]) -> Tensor:
    return weight + vectors.tile(weight.shape[-1] // vectors.shape[-1])


class NFTBlock(nn.Module):
    """x += Attention(Norm x), then x += FeedForward(Norm x), with norms and feed-forwards of each tensor's own.

    `edges_per_pair` are those of layers 1..L. The feed-forwards are Linear, GELU, Linear with `ff_dim` hidden channels,
    and k times as many for a convolution. Dropout acts on what is added.
    """

    def __init__(
        self, edges_per_pair: tuple[int, ...], dim: int, num_heads: int, ff_dim: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        kernels = [*edges_per_pair, *(1 for _ in edges_per_pair)]
        self.attention_norms = nn.ModuleList(ChannelNorm(k * dim) for k in kernels)
        self.attention = NFTAttention(edges_per_pair, dim, num_heads)
        self.ff_norms = nn.ModuleList(ChannelNorm(k * dim) for k in kernels)
        self.feed_forwards = nn.ModuleList(_feed_forward(k * dim, k * ff_dim, dropout) for k in kernels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: NeuralFeatures) -> NeuralFeatures:
        attended = self.attention(features.each(self.attention_norms))
        features = features.plus(attended.each([self.dropout] * len(self.ff_norms)))
        return features.plus(features.each(self.ff_norms).each(self.feed_forwards))


class ChannelNorm(nn.Module):
    """(x - mean) / (std + 1e-5) over the channels, with the unbiased standard deviation; a learned scale and shift."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "*shape channels"]) -> Float[Tensor, "*shape channels"]:
        std, mean = torch.std_mean(x, dim=-1, keepdim=True)
        return (x - mean) / (std + _NORM_EPSILON) * self.scale + self.shift


class NFTAttention(nn.Module):
    """The sum of an attention over layers and, for every neuron layer, one over its neighbours' vectors.

    One linear map C -> 3C, shared by all tensors, gives queries, keys and values; a convolution has a map kC -> 3C of
    its own, and one C -> kC behind the attention. Nothing else follows it.
    """

    def __init__(self, edges_per_pair: tuple[int, ...], dim: int, num_heads: int) -> None:
        super().__init__()
        self.edges_per_pair, self.num_heads = edges_per_pair, num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        kernels = {str(index): k for index, k in enumerate(edges_per_pair) if k > 1}
        self.kernel_qkv = nn.ModuleDict({index: nn.Linear(k * dim, 3 * dim) for index, k in kernels.items()})
        self.kernel_out = nn.ModuleDict({index: nn.Linear(dim, k * dim) for index, k in kernels.items()})

    def forward(self, features: NeuralFeatures) -> NeuralFeatures:
        weights = [self._heads_of_weight(index, weight) for index, weight in enumerate(features.weights)]
        biases = [self._split_heads(self.qkv(bias)) for bias in features.biases]
        to_weights, to_biases = _between_layers(weights, biases)
        for layer in range(len(weights) + 1):
            # The neurons of layer l = 0..L are the targets of W^l and b^l, and the sources of W^(l+1).
            below = [weights[layer - 1].transpose(3, 4), biases[layer - 1][:, :, :, None]] if layer > 0 else []
            above = [weights[layer]] if layer < len(weights) else []
            attended = _attend([*below, *above])
            if below:
                to_weights[layer - 1] = to_weights[layer - 1] + attended[0].transpose(2, 3)
                to_biases[layer - 1] = to_biases[layer - 1] + attended[1].squeeze(2)
            if above:
                to_weights[layer] = to_weights[layer] + attended[-1]
        joined = tuple(self._join_heads(index, weight) for index, weight in enumerate(to_weights))
        return NeuralFeatures(joined, tuple(_channels(bias) for bias in to_biases))

    def _heads_of_weight(self, index: int, weight: Tensor) -> HeadsOfWeight:
        qkv = self.kernel_qkv[str(index)] if self.edges_per_pair[index] > 1 else self.qkv
        return self._split_heads(qkv(weight))

    def _split_heads(self, qkv: Float[Tensor, "batch *neurons channels"]) -> Tensor:
        return qkv.unflatten(-1, (3, self.num_heads, -1)).movedim((-3, -2), (0, 2))

    def _join_heads(self, index: int, attended: Tensor) -> Float[Tensor, "batch targets sources channels"]:
        joined = _channels(attended)
        return self.kernel_out[str(index)](joined) if self.edges_per_pair[index] > 1 else joined


def _between_layers(
    weights: Sequence[HeadsOfWeight], biases: Sequence[HeadsOfBias]
) -> tuple[list[Tensor], list[Tensor]]:
    """Attention among 2 L tokens, the means of every W^l and b^l; what each gets is the same for all its entries."""
    tokens = [weight.mean(dim=(3, 4), keepdim=True) for weight in weights]
    tokens += [bias.mean(dim=3, keepdim=True)[:, :, :, None] for bias in biases]
    attended = _attend(tokens)
    return attended[: len(weights)], [bias.squeeze(2) for bias in attended[len(weights) :]]


def _attend(
    parts: Sequence[Float[Tensor, "3 batch heads _tokens neurons width"]],
) -> list[Float[Tensor, "batch heads _tokens neurons width"]]:
    """Attention among the tokens of all parts, each token a vector of neurons x width numbers."""
    shape = parts[0].shape[4:]
    query, key, value = torch.cat(list(parts), dim=3).flatten(4)
    attended = nn.functional.scaled_dot_product_attention(query, key, value).unflatten(-1, shape)
    return list(attended.split([part.shape[3] for part in parts], dim=2))


def _channels(heads: Float[Tensor, "batch heads *neurons width"]) -> Float[Tensor, "batch *neurons channels"]:
    return heads.movedim(1, -2).flatten(-2)


def _feed_forward(dim: int, hidden_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim), nn.Dropout(dropout))
