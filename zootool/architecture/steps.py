"""What stands beside a layer's product: activations, norms and poolings, each with its bounds, sum and tracing rule."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from zootool.architecture.bounds import MAX_WINDOW, check_choice, check_whole, checked_number
from zootool.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, fx, nn

NormKind = Literal["batch", "layer", "group"]
PoolingKind = Literal["mean", "max", "first"]
ActivationName = Literal[
    "none", "sine", "relu", "relu6", "leaky_relu", "gelu", "tanh", "sigmoid", "silu", "elu", "softplus"
]
ACTIVATION_NAMES: tuple[ActivationName, ...] = get_args(ActivationName)

_TRACED_ACTIVATIONS: tuple[ActivationName, ...] = ("relu", "relu6", "tanh", "sigmoid", "silu")
"""Those without parameters that tracing knows, by their names among torch's functions."""


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


NO_ACTIVATION = Activation()


def activate(activation: Activation, x: "Tensor") -> "Tensor":
    """Apply a pointwise activation."""
    from torch.nn import functional

    if activation.name == "none":
        return x
    if activation.name == "sine":
        return (activation.frequency * x).sin()
    if activation.name == "leaky_relu":
        return functional.leaky_relu(x, 0.01 if activation.negative_slope is None else activation.negative_slope)
    if activation.name == "gelu":
        return functional.gelu(x, approximate=activation.approximate or "none")
    return getattr(functional, activation.name)(x)


def traced_activation(called: "fx.Node") -> Activation | None:
    """The activation that a call is, None where it is none that can be traced."""
    import torch
    from torch.nn import functional

    target: Any = called.target
    if target in (torch.sin, "sin"):
        return Activation("sine")
    if target is functional.gelu:
        return Activation("gelu", approximate="tanh" if called.kwargs.get("approximate") == "tanh" else None)
    if target is functional.leaky_relu:
        slope = called.kwargs.get("negative_slope", called.args[1] if len(called.args) > 1 else 0.01)
        return Activation("leaky_relu", negative_slope=float(str(slope)))
    if target is functional.hardtanh and (called.kwargs.get("min_val"), called.kwargs.get("max_val")) == (0, 6):
        return Activation("relu6")  # what nn.ReLU6 calls
    for name in _TRACED_ACTIVATIONS:
        if target in (getattr(torch, name, None), getattr(functional, name), name):
            return Activation(name)
    return None


def scaled(activation: Activation, scale: float | None) -> Activation:
    """The activation of a traced number times `scale`. Raises FormatError: only a sine has a name for it."""
    if activation.name == "sine":
        return Activation("sine", omega_0=1.0 if scale is None else scale)
    if scale is not None:
        raise FormatError(f"a factor of {scale} before {activation.name} can't be expressed")
    return activation


@dataclass(frozen=True)
class Norm:
    """A normalisation: over the batch, over a position's nodes ("layer"), or over groups of channels."""

    kind: NormKind
    eps: float = 1e-5
    num_groups: int | None = None

    def __post_init__(self) -> None:
        check_choice("the kind of a norm", self.kind, get_args(NormKind))
        object.__setattr__(self, "eps", checked_number("eps of a norm", self.eps, 0))
        if (self.kind == "group") != (self.num_groups is not None):
            raise ValueError(f"a {self.kind} norm has num_groups {self.num_groups}")
        if self.num_groups is not None:
            check_whole("num_groups of a norm", self.num_groups)


def normalise(norm: Norm, x: "Tensor", parameters: "Mapping[str, Tensor]", is_training: bool) -> "Tensor":
    """Apply a norm to feature maps (batch, channels, ...), or a layer norm to (..., nodes).

    `parameters` may hold scale, shift, running_mean and running_var.
    """
    from torch.nn import functional

    scale, shift = parameters.get("scale"), parameters.get("shift")
    if norm.kind == "layer":
        return functional.layer_norm(x, x.shape[-1:], scale, shift, norm.eps)
    if norm.kind == "group":
        return functional.group_norm(x, norm.num_groups or 1, scale, shift, norm.eps)
    mean, variance = parameters.get("running_mean"), parameters.get("running_var")
    return functional.batch_norm(x, mean, variance, scale, shift, is_training or mean is None, 0.1, norm.eps)


def traced_norm(module: "nn.Module") -> Norm | None:
    """The norm that a module is. Raises FormatError for a layer norm over more than a position's nodes."""
    from torch import nn

    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return Norm("batch", module.eps)
    if isinstance(module, nn.GroupNorm):
        return Norm("group", module.eps, module.num_groups)
    if not isinstance(module, nn.LayerNorm):
        return None
    if len(module.normalized_shape) != 1:
        raise FormatError(f"a layer norm over {tuple(module.normalized_shape)} isn't one over nodes")
    return Norm("layer", module.eps)


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
        check_choice("the kind of a pooling", self.kind, get_args(PoolingKind))
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


def pool(pooling: Pooling, x: "Tensor") -> "Tensor":
    """Pool feature maps (batch, channels, height, width), or tokens (batch, tokens, nodes) to one.

    Raises ValueError for anything else.
    """
    from torch.nn import functional

    if x.ndim != 4 and (x.ndim != 3 or pooling.size is not None):
        raise ValueError("there is nothing to pool over")
    if pooling.size is None:
        if pooling.kind == "first" and x.ndim == 4:
            raise ValueError("feature maps have no first token")
        if pooling.kind == "first":
            return x[:, 0]
        axes = (2, 3) if x.ndim == 4 else (1,)
        return x.mean(axes) if pooling.kind == "mean" else x.amax(axes)
    windows = functional.avg_pool2d if pooling.kind == "mean" else functional.max_pool2d
    return windows(x, pooling.size, pooling.stride, pooling.padding)


def traced_pooling(called: "nn.Module | fx.Node", shape: tuple[int, ...]) -> Pooling | None:
    """The pooling that a call on a tensor of `shape` is, or a module; None where there is no word for it."""
    import torch
    from torch import nn
    from torch.nn import functional

    if isinstance(called, nn.Module):
        # Apart from the function, which stands for a pooling over everything where its window is the whole map.
        if not isinstance(called, nn.AvgPool2d) or called.ceil_mode or called.divisor_override is not None:
            return None
        counts_padding = called.count_include_pad or not called.padding
        return _windows("mean", called.kernel_size, called.stride, called.padding) if counts_padding else None
    target: Any = called.target
    if target in (torch.mean, "mean"):
        axes: Any = called.args[1] if len(called.args) > 1 else called.kwargs.get("dim")
        axes = (axes,) if isinstance(axes, int) else tuple(axes or ())
        wanted = {3: {1}, 4: {2, 3}}.get(len(shape))
        found = {axis % len(shape) for axis in axes if isinstance(axis, int)}
        return Pooling("mean") if found == wanted else None
    if target in (functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d):
        kind = "mean" if target is functional.adaptive_avg_pool2d else "max"
        return Pooling(kind) if called.args[1] in (1, (1, 1)) else None
    if target not in (functional.max_pool2d, functional.avg_pool2d):
        return None
    given: Any = dict(zip(("kernel_size", "stride", "padding"), called.args[1:], strict=False)) | called.kwargs
    if set(given) - {"kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"}:
        return None
    if given.get("ceil_mode") or given.get("return_indices") or given.get("dilation", 1) != 1:
        return None
    size = given["kernel_size"]
    is_mean = target is functional.avg_pool2d
    if is_mean and shape[2:] == (size if isinstance(size, tuple) else (size, size)):
        # The window is the whole map: what ResNets call with out.size()[3].
        return Pooling("mean")
    return _windows("mean" if is_mean else "max", size, given.get("stride"), given.get("padding", 0))


def _windows(kind: PoolingKind, size: Any, stride: Any, padding: Any) -> Pooling | None:
    sides = [side if isinstance(side, tuple) else (side, side) for side in (size, stride or size, padding)]
    return Pooling(kind, *(side for side, _ in sides)) if all(a == b for a, b in sides) else None
