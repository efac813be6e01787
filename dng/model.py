"""The two interfaces of trainable models: anything with an encoder, and what learns codes from images."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from dng.encoder import DNGEncoder
from dng.graph import DynamicGraph


class Model(nn.Module):
    """A model that a run can hold: `kind` names its type, `config` its settings, `encoder` is its DNG-Encoder."""

    kind: ClassVar[str]
    config: Any
    encoder: DNGEncoder


class Representation(Model, ABC):
    """A model that learns codes of INRs from their source images, without labels."""

    @abstractmethod
    def encode(self, graph: DynamicGraph) -> Tensor:
        """The codes of B networks, (B, ...)."""

    @abstractmethod
    def reconstruct(self, graph: DynamicGraph) -> Tensor:
        """The images that the codes stand for, (B, C, H, W) in [-1, 1] as far as the training has come."""

    @abstractmethod
    def loss(self, graph: DynamicGraph, images: Tensor) -> Tensor:
        """What training minimises, for source images (B, C, H, W) in [-1, 1]."""
