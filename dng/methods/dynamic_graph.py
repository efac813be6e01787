"""The DNG-Encoder with an MLP head, in the form of its rivals, and with their probe features as a control.

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
from dng.methods.baseline import Baseline
from dng.methods.probes import ProbeFeatures
from dng.models.heads import mlp_head
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class DynamicGraphConfig:
    """The encoder, its head, and the number of probes (0: none)."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head_dim: int = 128
    head_dropout: float = 0.5
    num_probes: int = 0

    def widened(self, factor: float) -> "DynamicGraphConfig":
        """The widths of memories, edges' heads and the MLP times `factor`; features and probes stay."""

        def scaled(width: int) -> int:
            return max(1, round(factor * width))

        encoder = replace(self.encoder, dim=scaled(self.encoder.dim), head_dim=scaled(self.encoder.head_dim))
        return replace(self, encoder=encoder, head_dim=scaled(self.head_dim))


INR = DynamicGraphConfig(replace(INR_ENCODER, dim=128))


class DynamicGraphModel(Baseline):
    """Encoder and MLP head (method, section 5)."""

    name: ClassVar[str] = "dng"
    presets: ClassVar[dict[str, Any]] = {
        "inr": INR,
        "inr-probes": replace(INR, num_probes=64),
        "small-cnn": DynamicGraphConfig(SMALL_CNN_ENCODER, 1024, 0.0),
        "wild-park": DynamicGraphConfig(HETEROGENEOUS_CNN_ENCODER, 256, 0.2),
        "vit": DynamicGraphConfig(VIT_ENCODER, 256, 0.2),
    }

    def __init__(
        self, architectures: Collection[Architecture], num_outputs: int, config: DynamicGraphConfig = INR
    ) -> None:
        super().__init__()
        self.config = config
        if reason := self.refusal(architectures, config):
            raise UsageError(f"{self.name} can't take the zoo: {reason}")
        first = next(iter(architectures))
        self.encoder = DNGEncoder(first, config.encoder)
        self.head = mlp_head(self.encoder.out_dim, config.head_dim, num_outputs, config.head_dropout)
        self.probes = ProbeReading(first, self.encoder.node_dim, config.num_probes) if config.num_probes else None

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: DynamicGraphConfig | None = None) -> str | None:
        if config is None or not config.num_probes:
            return None
        return ProbeFeatures.refusal(architectures)

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch outputs"]:
        known = None if self.probes is None else self.probes(graph)
        return self.head(self.encoder(graph, known).flatten(1))


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
