"""Neural Functional Transformers as classifiers and predictors (Zhou et al. 2023, NFT).

Weights and biases become vectors, NFT blocks mix them, and NFN's pooling and head end in logits. The published model
for these tasks isn't public: widths and the places of dropout are inferred. Every layer's weights and every layer's
biases have a linear embedding of their own; a convolution's takes its k numbers to k C channels.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.methods.baseline import Baseline
from dng.methods.nfn_layers import nfn_refusal
from dng.methods.nfn_pooling import HNPPool, nfn_head
from dng.methods.nft_attention import NeuralFeatures, NFTBlock, check_heads, widened_width
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class NFTConfig:
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


INR = NFTConfig()
PRESETS = {"inr": INR, "small-cnn": NFTConfig(dim=16, num_heads=2, ff_dim=32, head_dropout=0.0)}


class NFT(Baseline):
    """Embedding, blocks, pooling that keeps inputs and outputs apart, MLP.

    Invariant to permutations of hidden neurons; takes networks of one set of widths, whatever their activations.
    """

    name: ClassVar[str] = "nft"
    presets: ClassVar[dict[str, NFTConfig]] = PRESETS

    def __init__(self, architectures: Collection[Architecture], num_outputs: int, config: NFTConfig = INR) -> None:
        super().__init__()
        if reason := self.refusal(architectures):
            raise UsageError(f"{self.name} can't take the zoo: {reason}")
        self.config = config
        architecture = next(iter(architectures))
        kernels = architecture.edges_per_pair
        self.embed_weights = nn.ModuleList(nn.Linear(k, k * config.dim) for k in kernels)
        self.embed_biases = nn.ModuleList(nn.Linear(1, config.dim) for _ in kernels)
        self.embeddings = LayerEmbeddings(architecture, config.dim)
        self.blocks = nn.Sequential(
            *(
                NFTBlock(kernels, config.dim, config.num_heads, config.ff_dim, config.dropout)
                for _ in range(config.num_blocks)
            )
        )
        self.pool = HNPPool(architecture, config.dim)
        self.head = nfn_head(self.pool.out_dim, num_outputs, config.head_dim, config.head_dropout)

    @classmethod
    def refusal(cls, architectures: Collection[Architecture]) -> str | None:
        return nfn_refusal(architectures)

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch outputs"]:
        features = raw_features(graph).each([*self.embed_weights, *self.embed_biases])
        features = self.blocks(self.embeddings(features))
        weights = [weight.movedim(-1, 1) for weight in features.weights]
        return self.head(self.pool(weights, [bias.movedim(-1, 1) for bias in features.biases]))


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


def raw_features(graph: GraphBatch) -> NeuralFeatures:
    """The weights, k numbers per pair of neurons, and the biases, one per neuron."""
    return NeuralFeatures(graph.edges, tuple(nodes[..., :1] for nodes in graph.nodes))


def _added(weight: Tensor, vectors: Float[Tensor, "... channels"]) -> Tensor:
    return weight + vectors.tile(weight.shape[-1] // vectors.shape[-1])
