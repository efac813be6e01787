"""INR2JLS with a part exchanged: the rows of the paper's Table 3 (method, section 4)."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from dng.encoder.config import EncoderConfig
from dng.encoder.dng_encoder import DNGEncoder
from dng.models.inr2jls import check_channels
from dng.models.latent_generator import LatentGenerator
from dng.models.model import Representation
from dng.models.siren_rendering import render_mlps
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class ReconstructionConfig:
    """The images' side and channels, the encoder, and the width of the decoding MLPs' two hidden layers.

    `latent_dim` and `generator_dim` are the widths of the one latent vector and of its generator's hidden layer,
    where the model has them.
    """

    image_side: int
    image_channels: int
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    hidden_dim: int = 512
    latent_dim: int = 256
    generator_dim: int = 1024


class MemoryDecoder(Representation):
    """INR2JLS without the latent generator: each output node's memory is decoded into its channel's pixels.

    One MLP is shared by the channels. `encode` gives the memories, (B, n_L d).
    """

    kind = "memory-decoder"

    def __init__(self, architecture: Architecture, config: ReconstructionConfig) -> None:
        super().__init__()
        check_channels(architecture, config.image_channels)
        self.config, self.architecture = config, architecture
        self.encoder = DNGEncoder(architecture, config.encoder)
        self.decoder = decoding_mlp(config.encoder.dim, config.hidden_dim, config.image_side**2)

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch code"]:
        """The memories of the output nodes, flattened."""
        return self.encoder(graph).flatten(1)

    def reconstruct(self, graph: GraphBatch) -> Float[Tensor, "batch channels height width"]:
        """The decoded images."""
        side = self.config.image_side
        return self.decoder(self.encoder(graph)).unflatten(-1, (side, side))

    def loss(self, graph: GraphBatch, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, ""]:
        """The mean squared error against the source images in [-1, 1]."""
        return (self.reconstruct(graph) - images).square().mean()


class WeightDecoder(Representation):
    """INR-INR: one latent vector is decoded into all weights and all biases of an INR of the same architecture.

    The loss compares what the decoded INR renders with the source image. `encode` gives the latent, (B, latent_dim).
    """

    kind = "weight-decoder"

    def __init__(self, architecture: Architecture, config: ReconstructionConfig) -> None:
        super().__init__()
        check_channels(architecture, config.image_channels)
        _check_renderable(architecture)
        self.config, self.architecture = config, architecture
        self.encoder = DNGEncoder(architecture, config.encoder)
        self.generator = LatentGenerator(
            self.encoder.out_dim, config.encoder.dim, (1, 1, 1), config.generator_dim, config.latent_dim
        )
        self.weights = decoding_mlp(config.latent_dim, config.hidden_dim, architecture.num_edges)
        self.biases = decoding_mlp(config.latent_dim, config.hidden_dim, architecture.num_nodes)

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch code"]:
        """The latent vectors."""
        return self.generator(self.encoder(graph).flatten(1)).flatten(1)

    def reconstruct(self, graph: GraphBatch) -> Float[Tensor, "batch channels height width"]:
        """What the decoded INRs render."""
        latents = self.encode(graph)
        return render_mlps(
            self.encoder.architecture, self.weights(latents), self.biases(latents), self.config.image_side
        )

    def loss(self, graph: GraphBatch, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, ""]:
        """The mean squared error against the source images in [-1, 1]."""
        return (self.reconstruct(graph) - images).square().mean()


def decoding_mlp(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """A ReLU MLP with two hidden layers."""
    first, second = nn.Linear(in_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(hidden_dim, out_dim))


def _check_renderable(architecture: Architecture) -> None:
    for index, timestamp in enumerate(architecture.timestamps, start=1):
        name = timestamp.activation.name
        if timestamp.kind != "linear" or not timestamp.has_bias or name not in ("sine", "relu", "none"):
            raise UsageError(
                f"layer {index} is a {timestamp.kind} layer with activation {name!r}; only MLPs with biases and sine "
                "or relu can be decoded",
                hint="use another ablation on this zoo",
            )
