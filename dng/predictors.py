"""The DNG-Encoder with an MLP head: a class, or an accuracy, straight from the memories (method, sections 4 and 5)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dng.config import EncoderConfig
from dng.encoder import DNGEncoder
from dng.graph import DynamicGraph
from dng.heads import mlp_head
from dng.model import Model
from zootool.architecture import Architecture


@dataclass(frozen=True)
class PredictorConfig:
    """The encoder, the width of the head's two hidden layers and its dropout; `num_outputs` classes, or 1."""

    num_outputs: int
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    hidden_dim: int = 128
    dropout: float = 0.5


class NetworkClassifier(Model):
    """Logits of a network's class: encoder and MLP head, trained together."""

    kind = "classifier"

    def __init__(self, architecture: Architecture, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DNGEncoder(architecture, config.encoder)
        self.head = mlp_head(self.encoder.out_dim, config.hidden_dim, config.num_outputs, config.dropout)

    def forward(self, graph: DynamicGraph) -> Float[Tensor, "batch classes"]:
        return self.head(self.encoder(graph).flatten(1))

    def loss(self, graph: DynamicGraph, labels: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self(graph), labels)

    def predict(self, graph: DynamicGraph) -> Int64[Tensor, " batch"]:
        """The most likely class."""
        return self(graph).argmax(dim=-1)


class AccuracyPredictor(Model):
    """A network's accuracy in [0, 1]: encoder and MLP head with a sigmoid, trained on binary cross-entropy."""

    kind = "predictor"

    def __init__(self, architecture: Architecture, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DNGEncoder(architecture, config.encoder)
        self.head = mlp_head(self.encoder.out_dim, config.hidden_dim, 1, config.dropout)

    def forward(self, graph: DynamicGraph) -> Float[Tensor, " batch"]:
        return self.head(self.encoder(graph).flatten(1)).squeeze(-1)

    def loss(self, graph: DynamicGraph, accuracies: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Binary cross-entropy against accuracies in [0, 1]."""
        return nn.functional.binary_cross_entropy_with_logits(self(graph), accuracies)

    def predict(self, graph: DynamicGraph) -> Float[Tensor, " batch"]:
        """Predicted accuracies."""
        return torch.sigmoid(self(graph))
