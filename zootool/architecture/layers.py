"""What one layer of a network computes: `Timestamp`, and the residuals and tokens around it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from zootool.architecture.bounds import MAX_ELEMENTS, MAX_STEP, MAX_WINDOW, check_all, check_choice, check_whole
from zootool.architecture.kinds import KINDS, LayerKind
from zootool.architecture.steps import NO_ACTIVATION, Activation, Norm, Pooling
from zootool.errors import printable

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, fx

PatchOrder = Literal["pixels", "channels"]
Positions = Literal["none", "learned", "sincos_2d"]
ResidualStep = Literal["before_norm", "before_activation", "after_activation"]

_MAX_RESIDUALS = 1000


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


def to_patches(
    tokens: Tokens, x: "Float[Tensor, 'batch channels height width']"
) -> "Float[Tensor, 'batch tokens inputs']":
    """Cut an image into patches, row by row."""
    size = tokens.patch_size or 1
    batch, channels, height, width = x.shape
    patches = x.reshape(batch, channels, height // size, size, width // size, size)
    order = (0, 2, 4, 3, 5, 1) if tokens.patch_order == "pixels" else (0, 2, 4, 1, 3, 5)
    return patches.permute(order).reshape(batch, (height // size) * (width // size), -1)


def sincos_positions(rows: int, columns: int, num_nodes: int) -> "Float[Tensor, 'tokens nodes']":
    """SimpleViT's fixed positions: sines and cosines of column, then of row, at num_nodes / 4 frequencies."""
    import torch

    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    frequencies = 1.0 / 10000 ** (torch.arange(num_nodes // 4) / (num_nodes // 4 - 1))
    angles = [axis.flatten()[:, None] * frequencies for axis in (x, y)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


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


def add_residual(residual: Residual, x: "Tensor", source: "Tensor") -> "Tensor":
    """Add node i of `source` to node i + offset of `x`; nodes are channels of feature maps, else the last axis.

    Raises ValueError where the two differ in another axis.
    """
    from torch.nn import functional

    axis = 1 if x.ndim == 4 else x.ndim - 1
    if x.ndim == 4 and residual.stride > 1:
        source = source[:, :, :: residual.stride, :: residual.stride]
    rest = [shape[:axis] + shape[axis + 1 :] for shape in (source.shape, x.shape)]
    if rest[0] != rest[1]:
        # Where one is 1, torch would repeat it without a word.
        raise ValueError(f"a residual of shape {tuple(source.shape)} isn't added to {tuple(x.shape)}")
    room = min(source.shape[axis], x.shape[axis] - residual.offset)
    count = room if residual.count is None else min(residual.count, room)
    part = source.narrow(axis, 0, count)
    before, after = residual.offset, x.shape[axis] - residual.offset - count
    if before == after == 0:
        return x + part
    # functional.pad counts axes from the last.
    return x + functional.pad(part, [0, 0] * (x.ndim - 1 - axis) + [before, after])


def traced_cut(index: Any) -> int | None:
    """The stride of a shortcut x[:, :c, ::s, ::s], None for another index; the channels follow from the shape."""
    whole = slice(None, None, None)
    if not isinstance(index, tuple) or index[:1] != (whole,) or not all(isinstance(part, slice) for part in index):
        return None
    spatial = index[2:]
    if any(part.start not in (None, 0) or part.stop is not None for part in spatial):
        return None
    strides = {part.step or 1 for part in spatial} or {1}
    if len(strides) != 1 or (len(index) > 1 and (index[1].start or index[1].step or 1) not in (0, 1)):
        return None
    return strides.pop()


def traced_pad(node: "fx.Node", num_axes: int) -> int | None:
    """How many zero channels a call of torch's pad puts before the maps of a shortcut, None where it does else."""
    widths: Any = node.args[1]
    number = node.kwargs.get("value", node.args[3] if len(node.args) > 3 else 0)
    if num_axes != 4 or len(widths) != 6 or any(widths[:4]) or number not in (0, None):
        return None
    return widths[4]


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

    kind: Annotated[str, lambda: tuple(KINDS)]
    num_nodes: int
    num_sources: int
    edges_per_pair: int = 1
    has_bias: bool = True
    activation: Activation = NO_ACTIVATION
    kernel: tuple[int, int] | None = None
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    pooling: Pooling | None = None
    output_pooling: Pooling | None = None
    norm: Norm | None = None
    source_norm: Norm | None = None
    source_activation: Activation = NO_ACTIVATION
    num_heads: int | None = None
    residuals: tuple[Residual, ...] = ()

    def __post_init__(self) -> None:
        check_choice("the kind of a layer", self.kind, KINDS)
        check_whole("the nodes of a layer", self.num_nodes)
        check_whole("the sources of a layer", self.num_sources)
        check_whole(f"the edges per pair of a {self.kind} layer", self.edges_per_pair, int(self.traits.has_edges))
        if self.num_edges > MAX_ELEMENTS:
            raise ValueError(f"a layer has {self.num_edges} edges, at most {MAX_ELEMENTS} are possible")
        if self.kernel is not None:
            if not isinstance(self.kernel, tuple) or len(self.kernel) != 2:
                raise ValueError(f"a kernel has a height and a width, got {printable(self.kernel, 60)}")
            for side in self.kernel:
                check_whole("the side of a kernel", side, 1, MAX_WINDOW)
        check_whole("the stride of a layer", self.stride, 1, MAX_STEP)
        check_whole("the dilation of a layer", self.dilation, 1, MAX_STEP)
        check_whole("the padding of a layer", self.padding, 0, MAX_STEP)
        if self.num_heads is not None:
            check_whole("num_heads of a layer", self.num_heads)
        self.traits.check(self)
        for norm, count in ((self.norm, self.num_nodes), (self.source_norm, self.num_sources)):
            if norm is not None and norm.num_groups is not None and count % norm.num_groups:
                raise ValueError(f"{count} nodes don't make {norm.num_groups} groups for a norm")
        if self.residuals:
            check_all("residuals of a layer", self.residuals, Residual, _MAX_RESIDUALS)

    @property
    def traits(self) -> LayerKind:
        """What is so of all layers of its kind, such as `traits.is_spatial`."""
        return KINDS[self.kind]

    @property
    def num_edges(self) -> int:
        """Stored edges: targets x sources x k."""
        return self.num_nodes * self.num_sources * self.edges_per_pair

    @property
    def num_stored_nodes(self) -> int:
        """Stored node features: the biases, none where the layer has no bias."""
        return self.num_nodes if self.has_bias else 0
