"""INR2ARRAY: NFT blocks that turn a SIREN into a grid of latent vectors, learned without labels (Zhou et al. 2023).

The latents are decoded into SIRENs, one per cell of the grid, which together render the image that the input SIREN
renders: each computes the pixels of its own cell alone (section 4). The classifier of frozen latents is a transformer.

The Fourier features have their sines in front of their cosines; the published ones begin with the cosines, which no
learned map could tell. The norms around the pooling are torch's; those in the blocks divide by an unbiased deviation.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.encoder.features import FourierFeatures
from dng.methods.common import check_heads
from dng.methods.nfn_layers import nfn_refusal
from dng.methods.nft import LayerEmbeddings, NFTBlock, raw_features
from dng.models.ablations import decoding_mlp
from dng.models.heads import CodesClassifier
from dng.models.model import LearnsFromRenderings
from dng.models.siren_rendering import mlp_outputs, render_graph
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

_SMALL_START = 0.01
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
        architecture = next(iter(architectures))
        self.config, self.architecture = config, architecture
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


class LatentTransformer(CodesClassifier):
    """Reader frozen latent grids: pre-norm transformer layers, of whose outputs the first token's is read."""

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


class TensorwiseDecoder(nn.Module):
    """One MLP per weight and bias tensor of the SIREN, shared by the cells.

    The last layers begin as hypernetworks of SIRENs do (Sitzmann et al. 2020): weights a hundredth of Kaiming's, biases
    uniform within 1 / fan-in of the SIREN's layer, and within 1 / `hidden_dim` where a bias is decoded.
    """

    def __init__(self, architecture: Architecture, latent_dim: int, hidden_dim: int) -> None:
        super().__init__()
        timestamps = architecture.timestamps
        self.weights = nn.ModuleList(
            _hypernetwork(latent_dim, hidden_dim, t.num_edges, 1 / t.num_sources) for t in timestamps
        )
        self.biases = nn.ModuleList(
            _hypernetwork(latent_dim, hidden_dim, t.num_nodes, 1 / hidden_dim) for t in timestamps
        )

    def forward(
        self, latents: Float[Tensor, "sirens latent"]
    ) -> tuple[Float[Tensor, "sirens edges"], Float[Tensor, "sirens nodes"]]:
        """Weights and biases, each layer by layer."""
        weights = torch.cat([decode(latents) for decode in self.weights], dim=1)
        return weights, torch.cat([decode(latents) for decode in self.biases], dim=1)


class JointDecoder(nn.Module):
    """One MLP for all weights and biases, times a learned scale per tensor, added to a learned SIREN.

    The learned SIREN begins as SIRENs are initialised, the scales as the standard deviations of its tensors (of one
    number: as its size).
    """

    tensor_of: Tensor

    def __init__(self, architecture: Architecture, latent_dim: int, hidden_dim: int) -> None:
        super().__init__()
        tensors = _siren_start(architecture)
        sizes = [tensor.numel() for tensor in tensors]
        self.num_edges = architecture.num_edges
        self.start = nn.Parameter(torch.cat(tensors))
        self.scales = nn.Parameter(torch.stack([t.std() if len(t) > 1 else t.abs()[0] for t in tensors]))
        self.offsets = decoding_mlp(latent_dim, hidden_dim, sum(sizes))
        tensor_of = [index for index, size in enumerate(sizes) for _ in range(size)]
        self.register_buffer("tensor_of", torch.tensor(tensor_of), persistent=False)

    def forward(
        self, latents: Float[Tensor, "sirens latent"]
    ) -> tuple[Float[Tensor, "sirens edges"], Float[Tensor, "sirens nodes"]]:
        """Weights and biases, each layer by layer."""
        parameters = self.start + self.scales[self.tensor_of] * self.offsets(latents)
        return parameters[:, : self.num_edges], parameters[:, self.num_edges :]


class CellRenderer(nn.Module):
    """Images of `image_side` from a grid of `latent_side` SIRENs per axis.

    The pixel at coordinate u in [-1, 1] is in cell round((latent_side - 1) (u + 1) / 2) of its axis: cells at the
    border are half as wide.
    """

    pixels: Tensor
    places: Tensor

    def __init__(self, architecture: Architecture, latent_side: int, image_side: int) -> None:
        super().__init__()
        self.architecture, self.latent_side, self.image_side = architecture, latent_side, image_side
        cells = [round((latent_side - 1) * pixel / (image_side - 1)) for pixel in range(image_side)]
        largest = max(cells.count(cell) for cell in range(latent_side))
        # Cells are rendered at one size: the smaller ones repeat their last pixel, which isn't looked at again.
        pixels = [[p for p in range(image_side) if cells[p] == cell] for cell in range(latent_side)]
        padded = [own + own[-1:] * (largest - len(own)) for own in pixels]
        places = [cell * largest + place for cell, own in enumerate(pixels) for place in range(len(own))]
        self.register_buffer("pixels", torch.tensor(padded), persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def forward(
        self, weights: Float[Tensor, "sirens edges"], biases: Float[Tensor, "sirens nodes"]
    ) -> Float[Tensor, "batch channels side side"]:
        """The images of B grids of SIRENs, whose cells are row by row in the first axis."""
        side, size = self.pixels.shape
        points = self._points(weights)
        batch = len(weights) // len(points)
        points = points.expand(batch, -1, -1, -1).flatten(0, 1)
        values = mlp_outputs(self.architecture, weights, biases, points)
        values = values.view(batch, side, side, -1, size, size).permute(0, 3, 1, 4, 2, 5)
        image = values.flatten(4).flatten(2, 3)
        return image[:, :, self.places[:, None], self.places]

    def _points(self, like: Tensor) -> Float[Tensor, "cells 2 points"]:
        axis = torch.linspace(-1, 1, self.image_side, dtype=like.dtype, device=like.device)
        coordinates = axis[self.pixels]
        rows = coordinates[:, None, :, None].expand(-1, len(coordinates), -1, coordinates.shape[1])
        columns = coordinates[None, :, None, :].expand(len(coordinates), -1, coordinates.shape[1], -1)
        return torch.stack([rows.flatten(0, 1).flatten(1), columns.flatten(0, 1).flatten(1)], dim=1)


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


def _hypernetwork(in_dim: int, hidden_dim: int, out_dim: int, bias_bound: float) -> nn.Sequential:
    mlp = decoding_mlp(in_dim, hidden_dim, out_dim)
    last = mlp[-1]
    assert isinstance(last, nn.Linear)
    nn.init.kaiming_normal_(last.weight, nonlinearity="relu")
    with torch.no_grad():
        last.weight.mul_(_SMALL_START)
    nn.init.uniform_(last.bias, -bias_bound, bias_bound)
    return mlp


def _siren_start(architecture: Architecture) -> list[Tensor]:
    """The weights and then the biases of a SIREN as it is initialised, flat; biases begin as torch's own do."""
    omega_0 = architecture.timestamps[0].activation.frequency
    fan_ins = [timestamp.num_sources for timestamp in architecture.timestamps]
    bounds = [1 / fan_ins[0], *(math.sqrt(6 / fan_in) / omega_0 for fan_in in fan_ins[1:])]
    bounds += [1 / math.sqrt(fan_in) for fan_in in fan_ins]
    sizes = [t.num_edges for t in architecture.timestamps] + [t.num_nodes for t in architecture.timestamps]
    return [torch.empty(size).uniform_(-bound, bound) for size, bound in zip(sizes, bounds, strict=True)]
