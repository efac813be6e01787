"""INR2ARRAY: NFT blocks that turn a SIREN into a grid of latent vectors, learned without labels (Zhou et al. 2023).

The latents are decoded into SIRENs, one per cell of the grid, which together render the image that the input SIREN
renders. The classifier of frozen latents is a transformer.

The Fourier features have their sines in front of their cosines; the published ones begin with the cosines, which no
learned map could tell. The norms around the pooling are torch's; those in the blocks divide by an unbiased deviation.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import lcm
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dng.encoder.features import FourierFeatures
from dng.methods.inr2array_decoder import CellRenderer, JointDecoder, TensorwiseDecoder
from dng.methods.nfn_layers import nfn_refusal
from dng.methods.nft import LayerEmbeddings, raw_features
from dng.methods.nft_attention import NFTBlock, check_heads, widened_width
from dng.models.model import LearnsFromRenderings
from dng.models.siren_rendering import render_graph
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

_WHO_CAN = "the DNG-Encoder and the neural-graph methods (ng-gnn, ng-t) can"


@dataclass(frozen=True)
class INR2ArrayConfig:
    """The side of the compared renderings and of the latent grid (published: 4, also 2 and 8), widths and options.

    `ff_dim` are the hidden channels of the feed-forwards, of the blocks and behind the pooling. `decoder` is an MLP per
    tensor, as for grey images, or one for all, as for coloured ones.
    """

    image_side: int
    latent_side: int = 4
    dim: int = 256
    num_heads: int = 4
    num_blocks: int = 6
    ff_dim: int = 1024
    sigma: float = 3.0
    decoder: Literal["tensorwise", "joint"] = "tensorwise"
    decoder_dim: int = 256

    def __post_init__(self) -> None:
        check_heads(self.dim, self.num_heads)
        if self.dim % 2:
            raise UsageError(f"dim (={self.dim}) must be even: half sines, half cosines")
        if not 1 <= self.latent_side <= self.image_side or self.image_side < 2:
            raise UsageError(f"a grid of side {self.latent_side} can't cover an image of side {self.image_side}")

    def widened(self, factor: float) -> "INR2ArrayConfig":
        """The same method about `factor` times as wide; the channels stay even and a multiple of the heads."""
        dim = widened_width(self.dim, factor, lcm(self.num_heads, 2))
        rest = factor**2 * self.dim / dim
        ff_dim, decoder_dim = widened_width(self.ff_dim, rest), widened_width(self.decoder_dim, factor)
        return replace(self, dim=dim, ff_dim=ff_dim, decoder_dim=decoder_dim)


class INR2Array(LearnsFromRenderings):
    """Encoder and decoder; `encode` gives the latents.

    Takes SIRENs of one architecture with two inputs. Invariant to permutations of their hidden neurons.
    """

    kind = name = "inr2array"
    presets: ClassVar[dict[str, INR2ArrayConfig]] = {
        "inr": INR2ArrayConfig(image_side=28),
        "inr-rgb": INR2ArrayConfig(image_side=32, decoder="joint"),
    }

    def __init__(self, architectures: Collection[Architecture], config: INR2ArrayConfig) -> None:
        super().__init__()
        if reason := self.refusal(architectures):
            raise UsageError(f"{self.name} can't take the zoo: {reason}")
        self.config = config
        architecture = next(iter(architectures))
        self.encoder = INR2ArrayEncoder(architecture, config)
        decoder = TensorwiseDecoder if config.decoder == "tensorwise" else JointDecoder
        self.decoder = decoder(architecture, config.dim, config.decoder_dim)
        self.renderer = CellRenderer(architecture, config.latent_side, config.image_side)

    @classmethod
    def refusal(cls, architectures: Collection[Architecture]) -> str | None:
        """Why INR2ARRAY can't take a zoo of these architectures, or None where it can."""
        return nfn_refusal(architectures) or _not_sirens(architectures)

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch side side dim"]:
        """The latent grids, rows first."""
        return self.encoder(graph)

    def reconstruct(self, graph: GraphBatch) -> Float[Tensor, "batch channels height width"]:
        """What the decoded SIRENs render, every one in its cell."""
        return self.renderer(*self.decoder(self.encode(graph).flatten(0, 2)))

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch channels height width"]:
        return self.reconstruct(graph)

    def rendered(self, graph: GraphBatch) -> Float[Tensor, "batch channels height width"]:
        """What the input SIRENs render: the targets."""
        return render_graph(graph, self.config.image_side)

    def loss(self, graph: GraphBatch, images: Tensor | None = None) -> Float[Tensor, ""]:
        """The mean squared error against what the input SIRENs render. Source images aren't used."""
        del images
        return (self.reconstruct(graph) - self.rendered(graph)).square().mean()


class INR2ArrayEncoder(nn.Module):
    """Fourier features of every weight and bias, learned embeddings, NFT blocks, and a pooling into latent vectors."""

    def __init__(self, architecture: Architecture, config: INR2ArrayConfig) -> None:
        super().__init__()
        self.architecture, self.latent_side = architecture, config.latent_side
        self.features = FourierFeatures(config.dim // 2, config.sigma)
        self.embeddings = LayerEmbeddings(architecture, config.dim)
        kernels = architecture.edges_per_pair
        self.blocks = nn.Sequential(
            *(NFTBlock(kernels, config.dim, config.num_heads, config.ff_dim) for _ in range(config.num_blocks))
        )
        self.pool = LatentPool(config.dim, config.latent_side**2, config.ff_dim)

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch side side dim"]:
        self.check(graph)
        raw = raw_features(graph)
        features = raw.each([self._fourier] * (len(raw.weights) + len(raw.biases)))
        entries = self.blocks(self.embeddings(features)).entries()
        return self.pool(entries).unflatten(1, (self.latent_side, self.latent_side))

    def check(self, graph: GraphBatch) -> None:
        """Raise UsageError where `graph` holds networks that this encoder wasn't built for."""
        built = self.architecture
        for given in graph.architectures:
            if _computes(given) != _computes(built):
                raise UsageError(
                    f"the encoder was built for SIRENs with {_words(built)}, the networks have {_words(given)}",
                    hint="train INR2ARRAY on this zoo, or select the networks of its architecture",
                )

    def _fourier(self, scalars: Float[Tensor, "*shape 1"]) -> Float[Tensor, "*shape dim"]:
        return self.features(scalars.squeeze(-1))


class LatentPool(nn.Module):
    """Learned latents that each attend to all entries with one head, then a GEGLU feed-forward; both added."""

    def __init__(self, dim: int, num_latents: int, ff_dim: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(num_latents, dim))
        self.latent_norm, self.entry_norm, self.ff_norm = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.ff_in = nn.Linear(dim, 2 * ff_dim)
        self.ff_out = nn.Linear(ff_dim, dim)

    def forward(self, entries: Float[Tensor, "batch entries dim"]) -> Float[Tensor, "batch latents dim"]:
        query = self.query(self.latent_norm(self.latents)).expand(len(entries), -1, -1)
        key, value = self.key_value(self.entry_norm(entries)).chunk(2, dim=-1)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        latents = self.latents + self.out(attended)
        hidden, gate = self.ff_in(self.ff_norm(latents)).chunk(2, dim=-1)
        return latents + self.ff_out(hidden * nn.functional.gelu(gate))


@dataclass(frozen=True)
class LatentTransformerConfig:
    """Width, layers, heads and hidden width of the feed-forwards; the positions that an embedding is kept for."""

    dim: int = 512
    num_layers: int = 12
    num_heads: int = 4
    ff_dim: int = 2048
    dropout: float = 0.1
    max_latents: int = 64

    def __post_init__(self) -> None:
        check_heads(self.dim, self.num_heads)

    def widened(self, factor: float) -> "LatentTransformerConfig":
        """The same method about `factor` times as wide; the width stays a multiple of the heads."""
        dim = widened_width(self.dim, factor, self.num_heads)
        return replace(self, dim=dim, ff_dim=widened_width(self.ff_dim, factor**2 * self.dim / dim))


class LatentTransformer(nn.Module):
    """Classifies frozen latent grids: pre-norm transformer layers, of whose outputs the first token's is read."""

    def __init__(self, latent_dim: int, num_classes: int, config: LatentTransformerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LatentTransformerConfig()
        self.embed = nn.Linear(latent_dim, config.dim)
        self.positions = nn.Parameter(torch.randn(config.max_latents, config.dim))
        self.layers = nn.Sequential(*(_transformer_layer(config) for _ in range(config.num_layers)))
        self.head = nn.Sequential(nn.Linear(config.dim, config.dim), nn.ReLU(), nn.Linear(config.dim, num_classes))

    def forward(self, latents: Float[Tensor, "batch height width latent"]) -> Float[Tensor, "batch classes"]:
        tokens = self.embed(latents.flatten(1, 2))
        num_tokens = tokens.shape[1]
        if num_tokens > len(self.positions):
            raise UsageError(f"{num_tokens} latents, but positions for {len(self.positions)}", hint="raise max_latents")
        return self.head(self.layers(tokens + self.positions[:num_tokens])[:, 0])

    def loss(
        self, latents: Float[Tensor, "batch height width latent"], labels: Int64[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self(latents), labels)

    def predict(self, latents: Float[Tensor, "batch height width latent"]) -> Int64[Tensor, " batch"]:
        """The most likely class."""
        return self(latents).argmax(dim=-1)


def _transformer_layer(config: LatentTransformerConfig) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        config.dim, config.num_heads, config.ff_dim, config.dropout, "gelu", batch_first=True, norm_first=True
    )


def _computes(architecture: Architecture) -> tuple[object, ...]:
    layers = tuple((t.kind, t.edges_per_pair, t.activation) for t in architecture.timestamps)
    return architecture.node_counts, layers, architecture.output_offset


def _words(architecture: Architecture) -> str:
    omega_0 = architecture.timestamps[0].activation.frequency
    return f"node counts {architecture.node_counts}, omega_0 {omega_0:g} and offset {architecture.output_offset:g}"


def _not_sirens(architectures: Collection[Architecture]) -> str | None:
    timestamps = [timestamp for architecture in architectures for timestamp in architecture.timestamps]
    activations = {tuple(t.activation for t in architecture.timestamps) for architecture in architectures}
    *hidden, last = activations.pop()
    is_siren = len(set(hidden)) == 1 and hidden[0].name == "sine" and last.name == "none"
    if not is_siren or any(t.kind != "linear" or not t.has_bias for t in timestamps):
        return f"its networks aren't SIRENs; {_WHO_CAN}"
    if activations or len({architecture.output_offset for architecture in architectures}) != 1:
        return f"its SIRENs differ in omega_0 or output offset; {_WHO_CAN}"
    inputs = next(iter(architectures)).num_inputs
    return None if inputs == 2 else f"its SIRENs have {inputs} inputs, not 2; {_WHO_CAN}"
