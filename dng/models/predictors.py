"""The DNG-Encoder with an MLP head: a class, or an accuracy, straight from the memories (method, sections 4 and 5)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dng.encoder.config import EncoderConfig
from dng.encoder.dng_encoder import DNGEncoder
from dng.models.heads import mlp_head
from dng.models.model import Model
from zootool.architecture import Architecture
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class PredictorConfig:
    """The encoder, the width of the head's two hidden layers and its dropout; `num_outputs` classes, or 1."""

    num_outputs: int
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    hidden_dim: int = 128
    dropout: float = 0.5


class Classifies(nn.Module):
    """A model whose outputs are logits of classes, (B, classes)."""

    def loss(self, graph: GraphBatch, labels: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self(graph), labels)

    def predict(self, graph: GraphBatch) -> Int64[Tensor, " batch"]:
        """The most likely class."""
        return self(graph).argmax(dim=-1)


class PredictsAccuracy(nn.Module):
    """A model whose outputs are logits of accuracies in [0, 1], (B,), trained on binary cross-entropy."""

    def loss(self, graph: GraphBatch, accuracies: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Binary cross-entropy against accuracies in [0, 1]."""
        return nn.functional.binary_cross_entropy_with_logits(self(graph), accuracies)

    def predict(self, graph: GraphBatch) -> Float[Tensor, " batch"]:
        """Predicted accuracies."""
        return torch.sigmoid(self(graph))


class NetworkClassifier(Classifies, Model):
    """Logits of a network's class: encoder and MLP head, trained together."""

    kind = "classifier"

    def __init__(self, architecture: Architecture, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DNGEncoder(architecture, config.encoder)
        self.head = mlp_head(self.encoder.out_dim, config.hidden_dim, config.num_outputs, config.dropout)

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch classes"]:
        return self.head(self.encoder(graph).flatten(1))


class AccuracyPredictor(PredictsAccuracy, Model):
    """A network's accuracy: encoder and MLP head."""

    kind = "predictor"

    def __init__(self, architecture: Architecture, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DNGEncoder(architecture, config.encoder)
        self.head = mlp_head(self.encoder.out_dim, config.hidden_dim, 1, config.dropout)

    def forward(self, graph: GraphBatch) -> Float[Tensor, " batch"]:
        return self.head(self.encoder(graph).flatten(1)).squeeze(-1)


class MethodClassifier(Classifies):
    """Any method that gives logits per network, as a classifier."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch classes"]:
        return self.body(graph)


class MethodPredictor(PredictsAccuracy):
    """Any method that gives one logit per network, as a predictor of accuracies."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, graph: GraphBatch) -> Float[Tensor, " batch"]:
        return self.body(graph).squeeze(-1)
