"""What single torch modules and functions are in the words of an Architecture."""

import math
import operator
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from zootool.architecture import Activation, LayerKind, Norm, Residual
from zootool.errors import FormatError
from zootool.nets.draft import Step, Value
from zootool.nets.trace_shapes import pooling_of, shape_step

_NOTHING = Step("nothing")

_MODULE_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.SiLU: "silu",
}  # fmt: skip

_FUNCTION_ACTIVATIONS: dict[Any, str] = {
    torch.relu: "relu", functional.relu: "relu", "relu": "relu", functional.relu6: "relu6",
    torch.tanh: "tanh", functional.tanh: "tanh", "tanh": "tanh",
    torch.sigmoid: "sigmoid", functional.sigmoid: "sigmoid", "sigmoid": "sigmoid",
    functional.silu: "silu", torch.sin: "sine", "sin": "sine",
}  # fmt: skip

_NEUTRAL_FUNCTIONS = (functional.dropout, functional.dropout2d, "contiguous")


def norm_of(module: nn.Module) -> Norm | None:
    """The norm that a module is. Raises FormatError for a layer norm over more than a position's nodes."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return Norm("batch", module.eps)
    if isinstance(module, nn.GroupNorm):
        return Norm("group", module.eps, module.num_groups)
    if isinstance(module, nn.LayerNorm):
        if len(module.normalized_shape) != 1:
            raise FormatError(f"a layer norm over {tuple(module.normalized_shape)} isn't one over nodes")
        return Norm("layer", module.eps)
    return None


def step_of_module(module: nn.Module) -> Step | None:
    """The step that a module without a product is, None where there is no word for it."""
    if isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d):
        return _NOTHING
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return Step("flatten")
    if type(module) in _MODULE_ACTIVATIONS:
        return Step("activation", {"activation": Activation(_MODULE_ACTIVATIONS[type(module)])})
    if isinstance(module, nn.LeakyReLU):
        return Step("activation", {"activation": Activation("leaky_relu", negative_slope=module.negative_slope)})
    if isinstance(module, nn.GELU):
        return Step("activation", {"activation": _gelu(module.approximate)})
    return pooling_of(module)


def step_of_call(node: fx.Node, value: Value) -> Step | None:
    """The step that a function or method call is, None where there is no word for it."""
    target: Any = node.target
    if target in _NEUTRAL_FUNCTIONS:
        return _NOTHING
    if target in _FUNCTION_ACTIVATIONS:
        return Step("activation", {"activation": Activation(_FUNCTION_ACTIVATIONS[target])})
    if target is functional.gelu:
        return Step("activation", {"activation": _gelu(node.kwargs.get("approximate", "none"))})
    if target is functional.leaky_relu:
        slope = node.kwargs.get("negative_slope", node.args[1] if len(node.args) > 1 else 0.01)
        return Step("activation", {"activation": Activation("leaky_relu", negative_slope=float(str(slope)))})
    if target in (operator.mul, torch.mul, "mul"):
        return _with_number(node, "scale")
    if is_addition(node):
        return _with_number(node, "offset")
    return shape_step(node, target, value)


def is_addition(node: fx.Node) -> bool:
    """Whether a call adds."""
    return node.target in (operator.add, operator.iadd, torch.add, "add", "add_") and not node.kwargs


def product_of(module: nn.Linear | nn.Conv2d, value: Value) -> tuple[LayerKind, dict[str, Any]]:
    """The kind of a layer and the fields of its timestamp. Raises FormatError for what they can't say."""
    if isinstance(module, nn.Conv2d):
        return "conv", _convolution(module)
    if value.positions is not None:
        return "flatten_linear", {"edges_per_pair": value.positions}
    if value.pooling is not None and value.pooling.size is None:
        return "pool_linear", {}
    if len(value.shape) == 4:
        raise FormatError("a linear layer on feature maps that are neither flattened nor pooled can't be expressed")
    return "linear", {}


def with_step(value: Value, step: Step, shape: tuple[int, ...]) -> Value | None:
    """`value` after a step that waits for the next layer or a sum; None where it comes too late for one."""
    is_fresh = value.shortcut is None and value.scale is None and not value.offset
    before_pooling = is_fresh and value.pooling is None and value.positions is None
    if step.name == "source_norm":
        fits = before_pooling and value.source_activation is None and value.source_norm is None
    elif step.name == "source_activation":
        fits = before_pooling and value.source_activation is None
    elif step.name == "pooling":
        fits = before_pooling
    elif step.name == "flatten":
        return _flattened(value, shape) if is_fresh and value.positions is None else None
    elif step.name in ("cut", "pad"):
        return _shortcut(value, step, shape)
    else:
        fits = value.is_plain
    return replace(value, shape=shape, **step.fields) if fits else None


def with_scale(activation: Activation, scale: float | None) -> Activation:
    """The activation of a scaled number: only a sine has a name for it."""
    if activation.name == "sine":
        return Activation("sine", omega_0=1.0 if scale is None else scale)
    if scale is not None:
        raise FormatError(f"a factor of {scale} before {activation.name} can't be expressed")
    return activation


def unscaled(value: Value) -> Value:
    """`value` without the factor that waits for a sine."""
    return replace(value, scale=None)


def reshaped(value: Value, shape: tuple[int, ...]) -> Value:
    """`value` with the shape of a step that changes nothing else."""
    return replace(value, shape=shape)


def trimmed(residual: Residual, widths: list[int], target: int) -> Residual:
    """The residual without a count that its ends imply anyway."""
    room = min(widths[residual.source], widths[target] - residual.offset)
    return replace(residual, count=None) if residual.count in (None, room) else residual


def _flattened(value: Value, shape: tuple[int, ...]) -> Value:
    if value.pooling is not None and value.pooling.size is None:
        return replace(value, shape=shape)
    positions = math.prod(value.shape[2:])
    return replace(value, shape=shape, positions=positions if len(value.shape) > 2 else None)


def _shortcut(value: Value, step: Step, shape: tuple[int, ...]) -> Value | None:
    """Option A of CIFAR ResNets: every second pixel, zero channels around."""
    bare = Value(value.layer, value.shape)
    if value != replace(bare, shortcut=value.shortcut):
        return None
    residual = value.shortcut or Residual(value.layer, count=value.shape[1])
    if step.name == "cut":
        if residual.offset:
            return None
        residual = replace(residual, stride=residual.stride * step.fields["stride"], count=shape[1])
    else:
        residual = replace(residual, offset=residual.offset + step.fields["before"])
    return replace(value, shape=shape, shortcut=residual)


def _gelu(approximate: Any) -> Activation:
    return Activation("gelu", approximate="tanh" if approximate == "tanh" else None)


def _with_number(node: fx.Node, name: str) -> Step | None:
    numbers = [a for a in node.args if isinstance(a, int | float) and not isinstance(a, bool)]
    return Step(name, {name: float(numbers[0])}) if len(numbers) == 1 and len(node.args) == 2 else None


def _convolution(module: nn.Conv2d) -> dict[str, Any]:
    square = {name: getattr(module, name) for name in ("stride", "padding", "dilation")}
    for name, pair in square.items():
        if not isinstance(pair, tuple) or len(set(pair)) != 1:
            raise FormatError(f"a convolution with {name} {pair} can't be expressed: both directions must be alike")
    if module.groups != 1 or module.padding_mode != "zeros":
        raise FormatError(
            f"a convolution with {module.groups} groups and {module.padding_mode} padding can't be expressed"
        )
    height, width = module.kernel_size
    sizes = {name: pair[0] for name, pair in square.items()}
    return {"edges_per_pair": height * width, "kernel": (height, width)} | sizes
