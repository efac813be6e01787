"""The models whose cost is measured, each as the paper writes it and as we compute it (paper, Tables 5 and 8)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.data import SimpleVitConfig, simple_vit_architecture, siren_architecture
from dng.encoder.config import INR_ENCODER, VIT_ENCODER, EncoderConfig
from dng.methods.dynamic_graph import DNG, DNGConfig
from dng.models.heads import LatentClassifier
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.models.latent_generator import LatentGenerator
from dng.training.seed import derived_seed
from zootool.architecture import Architecture
from zootool.graph import GraphBatch, residuals_of

Form = Literal["as written", "as computed", "as written and computed"]
"""What is counted and timed: the formulas as they stand, what takes their place here, or formulas that nothing does."""

AS_WRITTEN: Form = "as written"
AS_COMPUTED: Form = "as computed"
BOTH: Form = "as written and computed"

NUM_CLASSES = 10
_IMAGES = ((28, 1), (32, 3))
_WEIGHT_BOUND = 0.5


@dataclass(frozen=True)
class Case:
    """A model and the networks that it reads. `as_written` takes no short cuts: see `build`.

    `build(False)` is the model as it is used. `build(True)` gives the same results from the formulas as they stand:
    every Fourier feature (no polynomials) and the latent generator's first layer on every pair of a spatial vector
    and a memory. Where there is no fast path, both are the same: the formulas where `is_as_written`, else what takes
    their place here alone.
    """

    name: str
    architecture: Architecture
    build: Callable[[bool], nn.Module]
    has_fast_path: bool = True
    is_as_written: bool = True

    @property
    def forms(self) -> tuple[Form, ...]:
        """What is measured of the case."""
        if self.has_fast_path:
            return AS_WRITTEN, AS_COMPUTED
        return (BOTH,) if self.is_as_written else (AS_COMPUTED,)

    def networks(self, count: int) -> GraphBatch:
        """`count` networks with weights and biases as large as trained ones: uniform in +-0.5."""
        generator = torch.Generator().manual_seed(derived_seed("efficiency", count))

        def draw(*shape: int) -> Tensor:
            return (2 * torch.rand(shape, generator=generator) - 1) * _WEIGHT_BOUND

        timestamps = self.architecture.timestamps
        edges = tuple(draw(count, t.num_nodes, t.num_sources, t.edges_per_pair) for t in timestamps)
        nodes = tuple(draw(count, t.num_nodes, 1) * t.has_bias for t in timestamps)
        return GraphBatch((self.architecture,), edges, nodes, residuals=residuals_of(self.architecture))


class INREncoding(nn.Module):
    """The part of INR2JLS that a new INR goes through: encoder, latent generator and perhaps the classifier."""

    def __init__(self, model: INR2JLS, classifier: LatentClassifier | None, as_written: bool) -> None:
        super().__init__()
        self.encoder, self.generator = model.encoder, model.generator
        self.classifier = classifier
        self.as_written = as_written

    def forward(self, graph: GraphBatch) -> Tensor:
        memory = self.encoder(graph).flatten(1)
        latents = generate_as_written(self.generator, memory) if self.as_written else self.generator(memory)
        return latents if self.classifier is None else self.classifier(latents)


def generate_as_written(
    generator: LatentGenerator, memory: Float[Tensor, "batch memory"]
) -> Float[Tensor, "batch views latent height width"]:
    """The latent maps from the generator's MLP on every concatenation [theta^n, s]."""
    batch, count = len(memory), len(generator.spatial)
    spatial, memories = generator.spatial.expand(batch, -1, -1), memory[:, None].expand(-1, count, -1)
    hidden = torch.relu(generator.hidden(torch.cat([spatial, memories], dim=-1)))
    return generator.out(hidden).unflatten(1, generator.shape).movedim(-1, 2)


def efficiency_cases() -> list[Case]:
    """INR2JLS without and with its classifier, encoder + MLP classifier, and the predictor of ViTs' accuracy."""
    cases = []
    for side, channels in _IMAGES:
        siren, images = siren_architecture(2, (32, 32), channels), f"{side}x{side}x{channels}"
        cases += [
            Case(f"INR2JLS encode, {images}", siren, _inr2jls(siren, side, has_classifier=False)),
            Case(f"INR2JLS + classifier, {images}", siren, _inr2jls(siren, side, has_classifier=True)),
            Case(f"DNG-Encoder + MLP classifier, {images}", siren, _classifier(siren)),
        ]
    vit = simple_vit_architecture(SimpleVitConfig())
    return [*cases, Case("DNG-Encoder + MLP, SimpleViT", vit, _vit_predictor(vit))]


def _inr2jls(siren: Architecture, side: int, has_classifier: bool) -> Callable[[bool], nn.Module]:
    def build(as_written: bool) -> nn.Module:
        encoder = _encoder(INR_ENCODER, as_written)
        model = INR2JLS(siren, INR2JLSConfig(side, siren.node_counts[-1], encoder))
        config = model.config
        classifier = LatentClassifier(config.latent_dim, config.latent_side, NUM_CLASSES) if has_classifier else None
        return INREncoding(model, classifier, as_written)

    return build


def _classifier(siren: Architecture) -> Callable[[bool], nn.Module]:
    def build(as_written: bool) -> nn.Module:
        encoder = _encoder(replace(INR_ENCODER, dim=128), as_written)
        return DNG([siren], NUM_CLASSES, DNGConfig(encoder))

    return build


def _vit_predictor(vit: Architecture) -> Callable[[bool], nn.Module]:
    def build(as_written: bool) -> nn.Module:
        encoder = _encoder(VIT_ENCODER, as_written)
        return DNG([vit], 1, DNGConfig(encoder, 256, 0.2))

    return build


def _encoder(config: EncoderConfig, as_written: bool) -> EncoderConfig:
    return replace(config, expansion_range=0.0) if as_written else config
