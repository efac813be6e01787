"""The steps that a timestamp is made of, as functions of tensors."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from zootool.architecture import Activation, Norm, Pooling, Residual, Timestamp, Tokens
from zootool.errors import FormatError


def activate(activation: Activation, x: Tensor) -> Tensor:
    """Apply a pointwise activation. Raises FormatError for one that isn't known."""
    if activation.name == "sine":
        return torch.sin(activation.frequency * x)
    if activation.name == "leaky_relu":
        return functional.leaky_relu(x, 0.01 if activation.negative_slope is None else activation.negative_slope)
    if activation.name == "gelu":
        return functional.gelu(x, approximate=activation.approximate or "none")
    if activation.name not in ACTIVATIONS:
        raise FormatError(f"unknown activation {activation.name!r}")
    return ACTIVATIONS[activation.name](x)


ACTIVATIONS = {
    "none": lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "elu": functional.elu,
    "softplus": functional.softplus,
}
"""The activations without parameters, by name."""


def normalise(norm: Norm, x: Tensor, parameters: Mapping[str, Tensor], is_training: bool) -> Tensor:
    """Apply a norm to feature maps (batch, channels, ...), or a layer norm to (..., nodes).

    `parameters` may hold scale, shift, running_mean and running_var.
    """
    scale, shift = parameters.get("scale"), parameters.get("shift")
    if norm.kind == "layer":
        return functional.layer_norm(x, x.shape[-1:], scale, shift, norm.eps)
    if norm.kind == "group":
        return functional.group_norm(x, norm.num_groups or 1, scale, shift, norm.eps)
    mean, variance = parameters.get("running_mean"), parameters.get("running_var")
    uses_batch = is_training or mean is None
    return functional.batch_norm(x, mean, variance, scale, shift, uses_batch, 0.1, norm.eps)


def pool(pooling: Pooling, x: Tensor) -> Tensor:
    """Pool feature maps (batch, channels, height, width), or tokens (batch, tokens, nodes) to one.

    Raises ValueError for anything else.
    """
    if x.ndim != 4 and (x.ndim != 3 or pooling.size is not None):
        raise ValueError("there is nothing to pool over")
    if pooling.size is None:
        if pooling.kind == "first" and x.ndim == 4:
            raise ValueError("feature maps have no first token")
        if pooling.kind == "first":
            return x[:, 0]
        axes = (2, 3) if x.ndim == 4 else (1,)
        return x.mean(axes) if pooling.kind == "mean" else x.amax(axes)
    if pooling.kind == "mean":
        return functional.avg_pool2d(x, pooling.size, pooling.stride, pooling.padding)
    return functional.max_pool2d(x, pooling.size, pooling.stride, pooling.padding)


def multiply(timestamp: Timestamp, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer's product and bias; `weight` is (targets, sources, k) or has k's axes apart."""
    if timestamp.kind == "conv":
        height, width = timestamp.kernel or (1, 1)
        kernel = weight.reshape(timestamp.num_nodes, timestamp.num_sources, height, width)
        return functional.conv2d(x, kernel, bias, timestamp.stride, timestamp.padding, timestamp.dilation)
    if timestamp.kind == "flatten_linear":
        x = x.flatten(1)
    return functional.linear(x, weight.reshape(timestamp.num_nodes, -1), bias)


def attend(num_heads: int, x: Float[Tensor, "batch tokens qkv"]) -> Float[Tensor, "batch tokens heads_times_values"]:
    """Scaled dot-product attention of queries, keys and values that lie behind one another, each head by head."""
    batch, tokens, width = x.shape
    heads = x.reshape(batch, tokens, 3, num_heads, width // (3 * num_heads)).permute(2, 0, 3, 1, 4)
    queries, keys, values = heads
    weights = (queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])).softmax(-1)
    return (weights @ values).transpose(1, 2).flatten(2)


def add_residual(residual: Residual, x: Tensor, source: Tensor) -> Tensor:
    """Add node i of `source` to node i + offset of `x`; nodes are channels of feature maps, else the last axis.

    Raises ValueError where the two differ in another axis.
    """
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
    padding = [0, 0] * (x.ndim - 1 - axis) + [before, after]
    return x + functional.pad(part, padding)


def to_patches(tokens: Tokens, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch tokens inputs"]:
    """Cut an image into patches, row by row."""
    size = tokens.patch_size or 1
    batch, channels, height, width = x.shape
    patches = x.reshape(batch, channels, height // size, size, width // size, size)
    order = (0, 2, 4, 3, 5, 1) if tokens.patch_order == "pixels" else (0, 2, 4, 1, 3, 5)
    return patches.permute(order).reshape(batch, (height // size) * (width // size), -1)


def sincos_positions(rows: int, columns: int, num_nodes: int) -> Float[Tensor, "tokens nodes"]:
    """SimpleViT's fixed positions: sines and cosines of column, then of row, at num_nodes / 4 frequencies."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    frequencies = 1.0 / 10000 ** (torch.arange(num_nodes // 4) / (num_nodes // 4 - 1))
    angles = [axis.flatten()[:, None] * frequencies for axis in (x, y)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
