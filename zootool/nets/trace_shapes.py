"""Flattening, pooling, cutting and padding: what changes the shape of feature maps while a module is traced."""

import math
import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from zootool.architecture import Pooling
from zootool.nets.draft import Step, Value


def pooling_of(module: nn.Module) -> Step | None:
    """The pooling that a module is, None where there is no word for it."""
    if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        return _global_pooling(module.output_size, "mean" if isinstance(module, nn.AdaptiveAvgPool2d) else "max")
    if isinstance(module, nn.MaxPool2d) and module.dilation == 1 and not module.ceil_mode:
        return _windows("max", module.kernel_size, module.stride, module.padding)
    if isinstance(module, nn.AvgPool2d) and not module.ceil_mode and module.divisor_override is None:
        counts_padding = module.count_include_pad or not module.padding
        return _windows("mean", module.kernel_size, module.stride, module.padding) if counts_padding else None
    return None


def _global_pooling(output_size: Any, kind: Any) -> Step | None:
    return Step("pooling", {"pooling": Pooling(kind)}) if output_size in (1, (1, 1)) else None


def _windows(kind: Any, size: Any, stride: Any, padding: Any) -> Step | None:
    sides = [side if isinstance(side, tuple) else (side, side) for side in (size, stride or size, padding)]
    if any(a != b for a, b in sides):
        return None
    (size, _), (stride, _), (padding, _) = sides
    return Step("pooling", {"pooling": Pooling(kind, size, stride, padding)})


def shape_step(node: fx.Node, target: Any, value: Value) -> Step | None:
    """The flattening, pooling, cutting or padding that a call is, None where it is none of these."""
    arguments = node.args[1:]
    if target in (torch.flatten, "flatten") and arguments in ((1,), (1, -1)):
        return Step("flatten")
    if target in ("view", "reshape") and len(node.meta["shape"]) == 2:
        is_whole = math.prod(value.shape[1:]) == node.meta["shape"][1]
        return Step("flatten") if is_whole else None
    if target in (torch.mean, "mean"):
        return _mean(node, value)
    if target in (functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d):
        return _global_pooling(arguments[0], "mean" if target is functional.adaptive_avg_pool2d else "max")
    if target in (functional.max_pool2d, functional.avg_pool2d):
        return _functional_pooling(node, value)
    if target is operator.getitem:
        return _cut(arguments[0])
    if target is functional.pad:
        return _pad(node, value)
    return None


def _mean(node: fx.Node, value: Value) -> Step | None:
    axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    axes = (axes,) if isinstance(axes, int) else tuple(axes or ())  # type: ignore[arg-type]
    rank = len(value.shape)
    wanted = {2, 3} if rank == 4 else {1}
    if {axis % rank for axis in axes if isinstance(axis, int)} != wanted or rank not in (3, 4):
        return None
    return Step("pooling", {"pooling": Pooling("mean")})


def _functional_pooling(node: fx.Node, value: Value) -> Step | None:
    named = dict(zip(("kernel_size", "stride", "padding"), node.args[1:], strict=False)) | node.kwargs
    if set(named) - {"kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"}:
        return None
    if named.get("ceil_mode") or named.get("return_indices") or named.get("dilation", 1) != 1:
        return None
    kind = "max" if node.target is functional.max_pool2d else "mean"
    size = named["kernel_size"]
    if kind == "mean" and value.shape[2:] == (size if isinstance(size, tuple) else (size, size)):
        # The window is the whole map: what ResNets call with out.size()[3].
        return Step("pooling", {"pooling": Pooling("mean")})
    return _windows(kind, size, named.get("stride"), named.get("padding", 0))


def _cut(index: Any) -> Step | None:
    """x[:, :c, ::s, ::s]; the channels follow from the shape."""
    whole = slice(None, None, None)
    if not isinstance(index, tuple) or index[:1] != (whole,) or not all(isinstance(part, slice) for part in index):
        return None
    spatial = index[2:]
    if any(part.start not in (None, 0) or part.stop is not None for part in spatial):
        return None
    strides = {part.step or 1 for part in spatial} or {1}
    if len(strides) != 1 or (len(index) > 1 and (index[1].start or index[1].step or 1) not in (0, 1)):
        return None
    return Step("cut", {"stride": strides.pop()})


def _pad(node: fx.Node, value: Value) -> Step | None:
    widths = tuple(node.args[1])  # type: ignore[arg-type]
    rest = node.args[2:]
    number = node.kwargs.get("value", rest[1] if len(rest) > 1 else 0)
    if len(value.shape) != 4 or len(widths) != 6 or any(widths[:4]) or number not in (0, None):
        return None
    return Step("pad", {"before": widths[4]})
