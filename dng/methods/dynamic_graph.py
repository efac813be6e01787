"""The DNG-Encoder with an MLP head: a class, or an accuracy, straight from the memories (method, sections 4 and 5).

Probe features run the networks that they describe. To tell what they bring from what a method brings, the DNG-Encoder
can have them too: added to the features of every node, as the neural graphs do.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from dng.encoder.config import (
    HETEROGENEOUS_CNN_ENCODER,
    INR_ENCODER,
    SMALL_CNN_ENCODER,
    VIT_ENCODER,
    EncoderConfig,
)
from dng.encoder.dng_encoder import DNGEncoder
from dng.methods.common import Settings, widened_width
from dng.methods.probes import ProbeFeatures
from dng.models.heads import mlp_head
from dng.models.model import Reader
from zootool.architecture import Architecture
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class DNGConfig(Settings):
    """The encoder, the width of its head's hidden layers and their dropout, and the number of probes (None: none)."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head_dim: int = 128
    head_dropout: float = 0.5
    num_probes: int | None = None

    def widened(self, factor: float) -> "DNGConfig":
        """The widths of memories, edges' heads and the MLP times `factor`; features and probes stay."""
        dim, head_dim = (widened_width(width, factor) for width in (self.encoder.dim, self.encoder.head_dim))
        encoder = replace(self.encoder, dim=dim, head_dim=head_dim)
        return replace(self, encoder=encoder, head_dim=widened_width(self.head_dim, factor))

    def covering(self, architectures: Collection[Architecture]) -> "DNGConfig":
        """The same with room for the activations and edges per pair of `architectures`."""
        return replace(self, encoder=self.encoder.covering(architectures))


INR = DNGConfig(replace(INR_ENCODER, dim=128))


class DNG(Reader):
    """Encoder and MLP head. `encode` gives the memories of the output nodes."""

    name: ClassVar[str] = "dng"
    presets: ClassVar[dict[str, Any]] = {
        "inr": INR,
        "inr-probes": replace(INR, num_probes=64),
        "small-cnn": DNGConfig(SMALL_CNN_ENCODER, 1024, 0.0),
        "wild-park": DNGConfig(HETEROGENEOUS_CNN_ENCODER, 256, 0.2),
        "vit": DNGConfig(VIT_ENCODER, 256, 0.2),
    }

    def __init__(self, architectures: Collection[Architecture], num_outputs: int, config: DNGConfig = INR) -> None:
        super().__init__(architectures, num_outputs, config)
        self.encoder = DNGEncoder(self.architecture, config.encoder)
        self.head = mlp_head(self.encoder.out_dim, config.head_dim, num_outputs, config.head_dropout)
        self.probes = None
        if config.num_probes:
            self.probes = ProbeReading(self.architecture, self.encoder.node_dim, config.num_probes)

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: Any = None) -> str | None:
        return ProbeFeatures.refusal(architectures) if config is not None and config.num_probes else None

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch outputs dim"]:
        return self.encoder(graph, None if self.probes is None else self.probes(graph))


class ProbeReading(nn.Module):
    """Every node's answers at the probes as a vector of its own: linear and LayerNorm, by layer."""

    def __init__(self, architecture: Architecture, node_dim: int, num_probes: int) -> None:
        super().__init__()
        self.features = ProbeFeatures(architecture.num_inputs, num_probes)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(num_probes, node_dim), nn.LayerNorm(node_dim)) for _ in architecture.timestamps
        )

    def forward(self, graph: GraphBatch) -> list[Float[Tensor, "batch _nodes node_dim"]]:
        answers = self.features(graph)
        return [layer(answer) for layer, answer in zip(self.layers, answers[1:], strict=True)]
