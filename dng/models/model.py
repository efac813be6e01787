"""The interfaces of trainable models: anything that reads networks, and what learns codes without labels."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from zootool.graph import GraphBatch


class Model(nn.Module):
    """A model that a run can hold: `kind` names its type, `config` its settings, `encoder` reads the networks."""

    kind: ClassVar[str]
    config: Any
    encoder: Any


class Representation(Model, ABC):
    """A model that learns codes of INRs without labels, from their source images unless it says otherwise."""

    @abstractmethod
    def encode(self, graph: GraphBatch) -> Tensor:
        """The codes of B networks, (B, ...)."""

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
