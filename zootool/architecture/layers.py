"""What one layer of a network computes: the parts that a Timestamp is made of. Stdlib only."""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

from zootool.architecture.bounds import (
    MAX_ELEMENTS,
    MAX_STEP,
    MAX_WINDOW,
    check_all,
    check_choice,
    check_whole,
    checked_number,
)
from zootool.errors import printable

LayerKind = Literal["linear", "conv", "flatten_linear", "pool_linear", "qkv", "attention"]
NormKind = Literal["batch", "layer", "group"]
PoolingKind = Literal["mean", "max", "first"]
PatchOrder = Literal["pixels", "channels"]
Positions = Literal["none", "learned", "sincos_2d"]
ResidualStep = Literal["before_norm", "before_activation", "after_activation"]

ACTIVATION_NAMES = (
    "none", "sine", "relu", "relu6", "leaky_relu", "gelu", "tanh", "sigmoid", "silu", "elu", "softplus",
)  # fmt: skip

_LAYER_KINDS, _NORM_KINDS, _POOLING_KINDS = get_args(LayerKind), get_args(NormKind), get_args(PoolingKind)
_MAX_RESIDUALS = 1000


@dataclass(frozen=True)
class Activation:
    """The pointwise function behind a layer, such as `Activation("sine", omega_0=30.0)`."""

    name: str = "none"
    omega_0: float | None = None
    negative_slope: float | None = None
    approximate: Literal["tanh"] | None = None

    def __post_init__(self) -> None:
        check_choice("an activation", self.name, ACTIVATION_NAMES)
        # Equal numbers must be written alike: 30 and 30.0 would give two signatures.
        for name in ("omega_0", "negative_slope"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checked_number(f"{name} of an activation", getattr(self, name)))
        if self.approximate is not None:
            check_choice("approximate of an activation", self.approximate, ("tanh",))

    @property
    def frequency(self) -> float:
        """What a sine multiplies its argument by: omega_0, or the usual 30 where none is given."""
        return 30.0 if self.omega_0 is None else self.omega_0


@dataclass(frozen=True)
class Norm:
    """A normalisation: over the batch, over a position's nodes ("layer"), or over groups of channels."""

    kind: NormKind
    eps: float = 1e-5
    num_groups: int | None = None

    def __post_init__(self) -> None:
        check_choice("the kind of a norm", self.kind, _NORM_KINDS)
        object.__setattr__(self, "eps", checked_number("eps of a norm", self.eps, 0))
        if (self.kind == "group") != (self.num_groups is not None):
            raise ValueError(f"a {self.kind} norm has num_groups {self.num_groups}")
        if self.num_groups is not None:
            check_whole("num_groups of a norm", self.num_groups)


@dataclass(frozen=True)
class Pooling:
    """Pooling over windows of `size`, or over everything that is left where it is None.

    Everything is all pixels of a feature map, or all tokens; "first" takes the first token alone.
    """

    kind: PoolingKind
    size: int | None = None
    stride: int | None = None
    padding: int = 0

    def __post_init__(self) -> None:
        check_choice("the kind of a pooling", self.kind, _POOLING_KINDS)
        if self.size is None:
            if self.stride is not None or self.padding != 0:
                raise ValueError("a pooling over everything has no stride and no padding")
            return
        if self.kind == "first":
            raise ValueError("the first token is no pooling over windows")
        check_whole("the size of a pooling", self.size, 1, MAX_WINDOW)
        # Windows that lie in the padding alone have no maximum.
        check_whole("the padding of a pooling", self.padding, 0, self.size // 2)
        if self.stride is not None:
            check_whole("the stride of a pooling", self.stride, 1, MAX_WINDOW)


@dataclass(frozen=True)
class Tokens:
    """How an image becomes tokens: in patches before the first layer, or by its first layer, a convolution.

    A patch's numbers are in the order `patch_order`: pixel by pixel, or channel by channel. Behind the first layer
    (its norm included) a class token is put first, and positions are added: learned ones, or SimpleViT's fixed sines
    and cosines.
    """

    patch_size: int | None = None
    patch_order: PatchOrder = "pixels"
    positions: Positions = "none"
    class_token: bool = False

    def __post_init__(self) -> None:
        if self.patch_size is not None:
            check_whole("patch_size", self.patch_size, 1, MAX_WINDOW)
        check_choice("patch_order", self.patch_order, get_args(PatchOrder))
        check_choice("positions", self.positions, get_args(Positions))
        if not isinstance(self.class_token, bool):
            raise ValueError("class_token must be true or false")


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
    added: ResidualStep = "before_activation"

    def __post_init__(self) -> None:
        check_whole("the source of a residual", self.source, 0)
        check_whole("the offset of a residual", self.offset, 0)
        check_whole("the stride of a residual", self.stride, 1, MAX_STEP)
        if self.count is not None:
            check_whole("the count of a residual", self.count)
        check_choice("added of a residual", self.added, get_args(ResidualStep))


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
        check_choice("the kind of a layer", self.kind, _LAYER_KINDS)
        check_whole("the nodes of a layer", self.num_nodes)
        check_whole("the sources of a layer", self.num_sources)
        check_whole(f"the edges per pair of a {self.kind} layer", self.edges_per_pair, int(self.kind != "attention"))
        if self.num_edges > MAX_ELEMENTS:
            raise ValueError(f"a layer has {self.num_edges} edges, at most {MAX_ELEMENTS} are possible")
        self._check_window()
        self._check_attention()
        for norm, count in ((self.norm, self.num_nodes), (self.source_norm, self.num_sources)):
            if norm is not None and norm.num_groups is not None and count % norm.num_groups:
                raise ValueError(f"{count} nodes don't make {norm.num_groups} groups for a norm")
        if self.residuals:
            check_all("residuals of a layer", self.residuals, Residual, _MAX_RESIDUALS)

    @property
    def num_edges(self) -> int:
        """Stored edges: targets x sources x k."""
        return self.num_nodes * self.num_sources * self.edges_per_pair

    @property
    def num_stored_nodes(self) -> int:
        """Stored node features: the biases, none where the layer has no bias."""
        return self.num_nodes if self.has_bias else 0

    def _check_window(self) -> None:
        if self.kernel is not None:
            if not isinstance(self.kernel, tuple) or len(self.kernel) != 2:
                raise ValueError(f"a kernel has a height and a width, got {printable(self.kernel, 60)}")
            for side in self.kernel:
                check_whole("the side of a kernel", side, 1, MAX_WINDOW)
        if self.kind == "conv" and (self.kernel is None or prod(self.kernel) != self.edges_per_pair):
            raise ValueError(f"kernel {self.kernel} doesn't have {self.edges_per_pair} edges per pair")
        if self.kind not in ("conv", "flatten_linear", "attention") and self.edges_per_pair != 1:
            raise ValueError(f"a {self.kind} layer has one edge per pair, not {self.edges_per_pair}")
        check_whole("the stride of a layer", self.stride, 1, MAX_STEP)
        check_whole("the dilation of a layer", self.dilation, 1, MAX_STEP)
        check_whole("the padding of a layer", self.padding, 0, MAX_STEP)
        if self.kind != "conv" and (self.stride, self.dilation, self.padding) != (1, 1, 0):
            raise ValueError(f"a {self.kind} layer has no stride, dilation or padding")

    def _check_attention(self) -> None:
        if self.num_heads is not None:
            check_whole("num_heads of a layer", self.num_heads)
        if self.kind not in ("qkv", "attention"):
            if self.num_heads is not None:
                raise ValueError(f"a {self.kind} layer has no heads")
            return
        parts = 3 if self.kind == "qkv" else 1
        if self.num_heads is None or self.num_nodes % (parts * self.num_heads):
            raise ValueError(f"{self.num_nodes} nodes of a {self.kind} layer don't make {self.num_heads} heads")
        is_bare = self.edges_per_pair == 0 and not self.has_bias and self.num_sources == 3 * self.num_nodes
        if self.kind == "attention" and not is_bare:
            raise ValueError("an attention layer has a third as many nodes as sources, no bias and no stored edges")
