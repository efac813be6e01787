"""What one layer of a network computes: the parts that a Timestamp is made of. Stdlib only."""

from dataclasses import dataclass
from math import prod
from typing import Literal

LayerKind = Literal["linear", "conv", "flatten_linear", "pool_linear", "qkv", "attention"]


@dataclass(frozen=True)
class Activation:
    """The pointwise function behind a layer, such as `Activation("sine", omega_0=30.0)`."""

    name: str = "none"
    omega_0: float | None = None
    negative_slope: float | None = None


@dataclass(frozen=True)
class Norm:
    """A normalisation layer between a layer's product and its activation, or before the product (`before=True`)."""

    kind: Literal["batch", "layer", "group"]
    eps: float = 1e-5
    num_groups: int | None = None
    affine: bool = True
    before: bool = False


@dataclass(frozen=True)
class Pooling:
    """Pooling of a layer's sources before its product; `size=None` pools over everything that is left."""

    kind: Literal["mean", "max"]
    size: int | None = None
    stride: int | None = None


@dataclass(frozen=True)
class Residual:
    """The nodes of timestamp `source` added again: node i to node i + offset of the target (method, section 1).

    `stride` is the spatial stride of a parameter-free shortcut. `count` nodes take part: by default as many as both
    ends have room for. With `before_activation` the sum is taken before the target's activation, else behind it.
    """

    source: int
    offset: int = 0
    stride: int = 1
    count: int | None = None
    before_activation: bool = True


@dataclass(frozen=True)
class Timestamp:
    """What the event at t = l adds: `num_nodes` nodes, and `edges_per_pair` edges (k) from every source to each.

    For a convolution k is the kernel's height x width, for a linear layer behind a flatten the number of positions
    per channel. The timestamp inside attention has nodes but no stored edges: its k is 0.
    """

    kind: LayerKind
    num_nodes: int
    num_sources: int
    edges_per_pair: int = 1
    has_bias: bool = True
    activation: Activation = Activation()
    kernel: tuple[int, int] | None = None
    stride: int = 1
    padding: int = 0
    pooling: Pooling | None = None
    norm: Norm | None = None
    num_heads: int | None = None
    residuals: tuple[Residual, ...] = ()

    def __post_init__(self) -> None:
        if self.num_nodes < 1 or self.num_sources < 1:
            raise ValueError(f"a layer needs nodes and sources, got {self.num_nodes} and {self.num_sources}")
        if self.edges_per_pair < (0 if self.kind == "attention" else 1):
            raise ValueError(f"a {self.kind} layer can't have {self.edges_per_pair} edges per pair")
        if self.kind == "conv" and (self.kernel is None or prod(self.kernel) != self.edges_per_pair):
            raise ValueError(f"kernel {self.kernel} doesn't have {self.edges_per_pair} edges per pair")

    @property
    def num_edges(self) -> int:
        """Stored edges: targets x sources x k."""
        return self.num_nodes * self.num_sources * self.edges_per_pair

    @property
    def num_stored_nodes(self) -> int:
        """Stored node features: the biases, none where the layer has no bias."""
        return self.num_nodes if self.has_bias else 0
