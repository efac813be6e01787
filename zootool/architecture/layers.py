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
    approximate: Literal["tanh"] | None = None

    def __post_init__(self) -> None:
        # Equal numbers must be written alike: 30 and 30.0 would give two signatures.
        for name in ("omega_0", "negative_slope"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def frequency(self) -> float:
        """What a sine multiplies its argument by: omega_0, or the usual 30 where none is given."""
        return 30.0 if self.omega_0 is None else self.omega_0


@dataclass(frozen=True)
class Norm:
    """A normalisation: over the batch, over a position's nodes ("layer"), or over groups of channels."""

    kind: Literal["batch", "layer", "group"]
    eps: float = 1e-5
    num_groups: int | None = None

    def __post_init__(self) -> None:
        if (self.kind == "group") != (self.num_groups is not None):
            raise ValueError(f"a {self.kind} norm has num_groups {self.num_groups}")


@dataclass(frozen=True)
class Pooling:
    """Pooling over windows of `size`, or over everything that is left where it is None.

    Everything is all pixels of a feature map, or all tokens; "first" takes the first token alone.
    """

    kind: Literal["mean", "max", "first"]
    size: int | None = None
    stride: int | None = None
    padding: int = 0


@dataclass(frozen=True)
class Tokens:
    """How an image becomes tokens: in patches before the first layer, or by its first layer, a convolution.

    A patch's numbers are in the order `patch_order`: pixel by pixel, or channel by channel. Behind the first layer
    (its norm included) a class token is put first, and positions are added: learned ones, or SimpleViT's fixed sines
    and cosines.
    """

    patch_size: int | None = None
    patch_order: Literal["pixels", "channels"] = "pixels"
    positions: Literal["none", "learned", "sincos_2d"] = "none"
    class_token: bool = False


@dataclass(frozen=True)
class Residual:
    """The output of timestamp `source` added again: node i to node i + offset of the target.

    `stride` is the spatial stride of a parameter-free shortcut. `count` nodes take part: by default as many as both
    ends have room for. `added` says at which step of the target.
    """

    source: int
    offset: int = 0
    stride: int = 1
    count: int | None = None
    added: Literal["before_norm", "before_activation", "after_activation"] = "before_activation"

    def __post_init__(self) -> None:
        if self.offset < 0 or self.stride < 1 or (self.count is not None and self.count < 1):
            raise ValueError(f"a residual can't have offset {self.offset}, stride {self.stride}, count {self.count}")


@dataclass(frozen=True)
class Timestamp:
    """What the event at t adds: `num_nodes` nodes, and `edges_per_pair` edges (k) from every source to each.

    For a convolution k is the kernel's height x width, for a linear layer behind a flatten the number of positions
    per channel (channels first). "pool_linear" is a linear layer behind a pooling over everything. "qkv" adds the
    queries, keys and values of all heads, in this order; "attention" adds the heads' outputs and has no stored edges.

    The layer computes, leaving out what it doesn't have: source_norm, source_activation and pooling of the sources;
    the product and the bias; residuals "before_norm"; norm; residuals "before_activation"; output_pooling;
    activation; residuals "after_activation".
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
    dilation: int = 1
    pooling: Pooling | None = None
    output_pooling: Pooling | None = None
    norm: Norm | None = None
    source_norm: Norm | None = None
    source_activation: Activation = Activation()
    num_heads: int | None = None
    residuals: tuple[Residual, ...] = ()

    def __post_init__(self) -> None:
        if self.num_nodes < 1 or self.num_sources < 1:
            raise ValueError(f"a layer needs nodes and sources, got {self.num_nodes} and {self.num_sources}")
        if self.edges_per_pair < 1 and self.kind != "attention":
            raise ValueError(f"a {self.kind} layer can't have {self.edges_per_pair} edges per pair")
        if self.kind == "conv" and (self.kernel is None or prod(self.kernel) != self.edges_per_pair):
            raise ValueError(f"kernel {self.kernel} doesn't have {self.edges_per_pair} edges per pair")
        if self.kind not in ("conv", "flatten_linear", "attention") and self.edges_per_pair != 1:
            raise ValueError(f"a {self.kind} layer has one edge per pair, not {self.edges_per_pair}")
        if min(self.stride, self.dilation, self.padding + 1) < 1:
            raise ValueError(f"a layer has stride {self.stride}, dilation {self.dilation}, padding {self.padding}")
        self._check_attention()

    @property
    def num_edges(self) -> int:
        """Stored edges: targets x sources x k."""
        return self.num_nodes * self.num_sources * self.edges_per_pair

    @property
    def num_stored_nodes(self) -> int:
        """Stored node features: the biases, none where the layer has no bias."""
        return self.num_nodes if self.has_bias else 0

    def _check_attention(self) -> None:
        if self.kind not in ("qkv", "attention"):
            return
        parts = 3 if self.kind == "qkv" else 1
        if self.num_heads is None or self.num_heads < 1 or self.num_nodes % (parts * self.num_heads):
            raise ValueError(f"{self.num_nodes} nodes of a {self.kind} layer don't make {self.num_heads} heads")
        is_bare = self.edges_per_pair == 0 and not self.has_bias and self.num_sources == 3 * self.num_nodes
        if self.kind == "attention" and not is_bare:
            raise ValueError("an attention layer has a third as many nodes as sources, no bias and no stored edges")
