"""What a baseline is: logits from networks' weights, read from the same batches as the DNG-Encoder."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from zootool.architecture import Architecture
from zootool.graph import GraphBatch


@runtime_checkable
class BaselineConfig(Protocol):
    """A baseline's widths and options: a frozen dataclass."""

    def widened(self, factor: float) -> "BaselineConfig":
        """The same method with all its widths multiplied by about `factor`; what is fixed stays fixed."""
        ...


class Baseline(nn.Module, ABC):
    """A published method with its head: `num_outputs` logits per network.

    Built from the architectures of a zoo's networks, a number of outputs and a config; `presets` are the published
    configurations by task ("inr", "small-cnn", "wild-park", "vit" and variants). Every subclass checks in its
    constructor, by `refusal`, that it can take the architectures.
    """

    name: ClassVar[str]
    presets: ClassVar[dict[str, Any]]
    config: Any

    @classmethod
    @abstractmethod
    def refusal(cls, architectures: Collection[Architecture]) -> str | None:
        """Why this method can't take a zoo of these architectures, as a clause such as "its networks differ in
        depth", or None where it can."""

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        """Measure what the method takes from its training networks, such as means and scales. Most take nothing."""
        del graphs

    @abstractmethod
    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch outputs"]:
        """The logits of B networks."""


class Editor(nn.Module, ABC):
    """A method that changes networks: the same graphs with other weights and biases."""

    name: ClassVar[str]
    config: Any

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        """As `Baseline.fit`."""
        del graphs

    @abstractmethod
    def forward(self, graph: GraphBatch) -> GraphBatch:
        """The edited networks."""
