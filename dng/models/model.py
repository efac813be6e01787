"""The interfaces of what is trained: readers that predict, representations that learn codes, editors of weights."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

Predicts = Literal["class", "accuracy"]


class Model(nn.Module, ABC):
    """A model that a run can hold: `kind` names its type, `config` its settings.

    `architecture` is that of the networks which it was built for, or one of theirs.
    """

    kind: str
    config: Any
    architecture: Architecture

    @abstractmethod
    def encode(self, graph: GraphBatch) -> Tensor:
        """The codes of B networks, (B, ...)."""


class Reader(Model):
    """A method that predicts: codes of networks, and a head that makes of each code a logit per output.

    Built from the architectures of a zoo's networks, a number of outputs and a config, a frozen dataclass of widths and
    options; `presets` are the published ones by task ("inr", "small-cnn", "wild-park", "vit" and variants). With
    `predicts` "accuracy" the one logit is that of an accuracy in [0, 1], else there is one per class.
    """

    name: ClassVar[str]
    presets: ClassVar[dict[str, Any]]
    head: nn.Module
    predicts: Predicts = "class"

    def __init__(self, architectures: Collection[Architecture], num_outputs: int, config: Any) -> None:
        super().__init__()
        self.config, self.num_outputs = config, num_outputs
        if reason := self.refusal(architectures, config):
            raise UsageError(f"{self.method} can't take the zoo: {reason}")
        self.architecture = next(iter(architectures))

    @property
    def method(self) -> str:
        """The name in the registry of a method with such a config."""
        return getattr(self.config, "name", self.name)

    @classmethod
    @abstractmethod
    def refusal(cls, architectures: Collection[Architecture], config: Any = None) -> str | None:
        """Why this method can't take a zoo of these architectures, as a clause such as "its networks differ in
        depth", at all or with `config`; None where it can."""

    @property
    def kind(self) -> str:  # type: ignore[bad-override]
        """What a run calls it."""
        return "classifier" if self.predicts == "class" else "predictor"

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        """Measure what the method takes from its training networks, such as means and scales. Most take nothing."""
        del graphs

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch outputs"]:
        return self.head(self.encode(graph).flatten(1))

    def loss(self, graph: GraphBatch, targets: Shaped[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Cross-entropy against classes, or binary cross-entropy against accuracies in [0, 1]."""
        logits = self(graph)
        if self.predicts == "class":
            return nn.functional.cross_entropy(logits, targets)
        return nn.functional.binary_cross_entropy_with_logits(logits.squeeze(-1), targets)

    def predict(self, graph: GraphBatch) -> Shaped[Tensor, " batch"]:
        """The most likely class (int64), or the predicted accuracy."""
        logits = self(graph)
        return logits.argmax(dim=-1) if self.predicts == "class" else torch.sigmoid(logits.squeeze(-1))


class Representation(Model):
    """A model that learns codes of INRs without labels, from their source images unless it says otherwise."""

    @abstractmethod
    def reconstruct(self, graph: GraphBatch) -> Tensor:
        """The images that the codes stand for, (B, C, H, W) in [-1, 1] as far as the training has come."""

    @abstractmethod
    def loss(self, graph: GraphBatch, images: Tensor) -> Tensor:
        """What training minimises, for source images (B, C, H, W) in [-1, 1]."""


class LearnsFromRenderings(Representation):
    """A model of codes whose targets are what the INRs render themselves: no source image is needed."""

    @abstractmethod
    def loss(self, graph: GraphBatch, images: Tensor | None = None) -> Tensor:
        """What training minimises; images change nothing."""
