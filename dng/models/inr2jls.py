"""INR2JLS: from an INR's weights to latent maps that a small decoder turns back into images (paper, section 6).

The last memories of the DNG-Encoder carry what the INR computes but not where; learnable spatial vectors say where.
One latent map per view of the image is made from the same memories.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dng.encoder.config import EncoderConfig
from dng.encoder.dng_encoder import DNGEncoder
from dng.models.latent_generator import LatentGenerator
from dng.models.model import Representation
from dng.models.views import NUM_VIEWS, six_views
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class INR2JLSConfig:
    """The images' side and channels, the number of views (1 or 6) and the widths.

    `latent_side` is the side of a latent map: a quarter of the image's, since the decoder doubles it twice. With one
    view, `noise` is the standard deviation, in [0, 1], of what is added to the images while training (paper, G.3).
    """

    image_side: int
    image_channels: int
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    num_views: int = NUM_VIEWS
    latent_dim: int = 128
    hidden_dim: int = 1024
    decoder_dim: int = 256
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.image_side < 4 or self.image_side % 4:
            raise ValueError(f"the image side must be a multiple of 4 for two doublings, got {self.image_side}")
        if self.num_views not in (1, NUM_VIEWS):
            raise ValueError(f"num_views must be 1 or {NUM_VIEWS}, got {self.num_views}")

    @property
    def latent_side(self) -> int:
        """h_s = w_s."""
        return self.image_side // 4


class INR2JLS(Representation):
    """DNG-Encoder, latent generator and the decoder shared by the views.

    `encode` gives the latents (B, views, latent_dim, h_s, w_s), `forward` the reconstructed views
    (B, views, C, H, W) in [-1, 1] as far as the training has come; there is no output non-linearity.
    """

    kind = "inr2jls"

    def __init__(self, architecture: Architecture, config: INR2JLSConfig) -> None:
        super().__init__()
        check_channels(architecture, config.image_channels)
        self.config, self.architecture = config, architecture
        self.encoder = DNGEncoder(architecture, config.encoder)
        shape = (config.num_views, config.latent_side, config.latent_side)
        self.generator = LatentGenerator(
            self.encoder.out_dim, config.encoder.dim, shape, config.hidden_dim, config.latent_dim
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(config.latent_dim, config.decoder_dim, kernel_size=4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(config.decoder_dim, config.image_channels, kernel_size=4, stride=2, padding=1),
        )

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch views latent side side"]:
        """The latent maps of the networks, one per view."""
        return self.generator(self.encoder(graph).flatten(1))

    def decode(
        self, latents: Float[Tensor, "batch views latent side side"]
    ) -> Float[Tensor, "batch views channels height width"]:
        """The images that latent maps stand for."""
        return self.decoder(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch views channels height width"]:
        return self.decode(self.encode(graph))

    def target_views(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch views channels height width"]:
        """What `forward` should give for the source images in [-1, 1]; noisy in training, where the config says so."""
        if self.config.num_views == NUM_VIEWS:
            return six_views(images)
        if self.config.noise and self.training:
            in_unit = (images + 1) / 2 + self.config.noise * torch.randn_like(images)
            images = in_unit.clamp(0, 1) * 2 - 1
        return images[:, None]

    def loss(self, graph: GraphBatch, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, ""]:
        """The mean squared error over views, channels and pixels."""
        return decoder_error(self.decoder, self.encode(graph).flatten(0, 1), self.target_views(images).flatten(0, 1))

    def reconstruct(self, graph: GraphBatch) -> Float[Tensor, "batch channels height width"]:
        """The image itself, without its other views."""
        return self(graph)[:, 0]


def check_channels(architecture: Architecture, image_channels: int) -> None:
    """Raise UsageError unless the INRs have as many outputs as the images have channels."""
    outputs = architecture.node_counts[-1]
    if outputs != image_channels:
        raise UsageError(
            f"the INRs have {outputs} output channels, the images {image_channels}",
            hint="give the image set that the zoo was built from",
        )


# Images of all views that are decoded at a time.
_CHUNK_IMAGES = 64


def decoder_error(
    decoder: nn.Module,
    latents: Float[Tensor, "images latent _height _width"],
    targets: Float[Tensor, "images channels height width"],
) -> Float[Tensor, ""]:
    """mean((decoder(latents) - targets)^2).

    Where gradients are wanted they are computed together with the error, so that the decoder's activations exist for
    a few images only; backward merely scales them. `decoder` treats images independently of one another.
    """
    parameters = tuple(decoder.parameters())
    if not torch.is_grad_enabled() or not all(parameter.requires_grad for parameter in parameters):
        return (decoder(latents) - targets).square().mean()
    return _DecoderError.apply(decoder, latents, targets, *parameters)


class _DecoderError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decoder: nn.Module, latents: Tensor, targets: Tensor, *parameters: Tensor) -> Tensor:
        grad_latents = torch.empty_like(latents)
        grads = [torch.zeros_like(parameter) for parameter in parameters]
        total = torch.zeros((), dtype=targets.dtype, device=targets.device)
        for start in range(0, len(latents), _CHUNK_IMAGES):
            rows = slice(start, start + _CHUNK_IMAGES)
            with torch.enable_grad():
                part = latents[rows].detach().requires_grad_()
                error = (decoder(part) - targets[rows]).square().sum() / targets.numel()
                found = torch.autograd.grad(error, (part, *parameters))
            total += error.detach()
            grad_latents[rows] = found[0]
            for grad, piece in zip(grads, found[1:], strict=True):
                grad += piece
        ctx.save_for_backward(grad_latents, *grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # type: ignore[bad-override]
        grad_latents, *grads = ctx.saved_tensors
        scale = grad_outputs[0]
        return None, scale * grad_latents, None, *(scale * grad for grad in grads)
