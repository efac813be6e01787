"""A live module for any Architecture: it walks the timestamps as the architecture describes them."""

from collections.abc import Iterator, Sequence
from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor, nn

from zootool.architecture import Architecture, Norm, ParameterSlot, Timestamp
from zootool.architecture.layers import add_residual, sincos_positions, to_patches
from zootool.architecture.slots import NORM_PARTS
from zootool.architecture.steps import activate, normalise, pool
from zootool.errors import FormatError, printable

_BUFFER_ROLES = ("running_mean", "running_var", "source_running_mean", "source_running_var", "num_batches_tracked")
_SIDES = (29, 37, 67, 97, 131, 227, 293, 389, 521)
"""Primes, since a side that equals a number of channels by chance could be taken for one."""

_FLATTENED_SIDES = (*range(1, 65), 96, 128, 224, 256, 299)


class Network(nn.Module):
    """The network that an architecture describes, with the checkpoint's own state_dict keys, all zero at first.

    Takes coordinates or features (..., inputs), or images (batch, channels, height, width). Raises FormatError for
    keys that no module can have; for tensors that no layer of the architecture uses, unless `allow_unused` says that
    they are known to do nothing: else the module would compute another function than theirs; and, naming the layer, for
    an input that the architecture can't be applied to.
    """

    def __init__(self, architecture: Architecture, *, allow_unused: bool = False) -> None:
        super().__init__()
        unused = sorted({slot.key for slot in architecture.slots if not _is_used(architecture, slot)})
        if unused and not allow_unused:
            shown = printable(", ".join(unused[:5]), 200) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
            raise FormatError(
                f"no layer of the architecture uses {shown}: a module without would compute something else",
                hint="take the tensors from `zoo.state_dict`, which is exact; where they are known to do nothing, use "
                "`zootool.nets.network.Network(zoo.architecture_of(i), allow_unused=True)`",
            )
        self.architecture = architecture
        slots = {slot.key: slot for slot in architecture.slots if not slot.rounded}
        for slot in slots.values():
            tensor = torch.zeros(slot.shape, dtype=getattr(torch, slot.dtype))
            is_buffer = slot.role in _BUFFER_ROLES or not tensor.is_floating_point()
            _put(self, slot.key, tensor if is_buffer else nn.Parameter(tensor))
        for slot in slots.values():
            if slot.alias_of is not None:
                _put(self, slot.key, _get(self, slot.alias_of))
        self._slots: dict[tuple[int | None, str], list[ParameterSlot]] = {}
        # By their places in the graph's arrays, where tensors that float32 can't hold are rounded.
        starts = {slot.key: slot.start for slot in architecture.slots if slot.rounded or slot.array != "exact"}
        # A tensor with two keys in one layer is one part.
        parts = {(slot.timestamp, slot.role, slot.place): slot for slot in slots.values()}
        for slot in sorted(parts.values(), key=lambda slot: starts.get(slot.key, slot.start)):
            self._slots.setdefault((slot.timestamp, slot.role), []).append(slot)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.architecture.tokens
        image_shape, index, outputs = x.shape[-2:], 0, [x]
        try:
            if tokens is not None and tokens.patch_size is not None:
                outputs = [to_patches(tokens, x)]
            for index, timestamp in enumerate(self.architecture.timestamps, start=1):
                x = self._layer(index, timestamp, outputs)
                if index == 1 and tokens is not None:
                    x = self._positioned(x, image_shape)
                outputs.append(x)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            kind = self.architecture.timestamps[index - 1].kind
            layer = f"layer {index} ({kind})" if index else "the cut into patches"
            shown = f"{tuple(outputs[-1].shape)} of {str(outputs[-1].dtype).removeprefix('torch.')}"
            raise FormatError(
                f"{layer} can't be applied to {shown} ({printable(error, 160)})",
                hint=f"give an input of {self.architecture.num_inputs} features or channels, or run `zoo verify`",
            ) from error
        return x + self.architecture.output_offset if self.architecture.output_offset else x

    def _layer(self, index: int, timestamp: Timestamp, outputs: list[Tensor]) -> Tensor:
        x = self._normalised(timestamp.source_norm, outputs[-1], index, "source_")
        x = activate(timestamp.source_activation, x)
        pooling = timestamp.pooling or timestamp.traits.default_pooling
        x = x if pooling is None else pool(pooling, x)
        weight = self._joined(index, "weight") if timestamp.traits.has_edges else None
        bias = self._joined(index, "bias") if (index, "bias") in self._slots else None
        x = timestamp.traits.compute(timestamp, x, weight, bias)
        x = self._residuals("before_norm", timestamp, outputs, x)
        x = self._normalised(timestamp.norm, x, index, "")
        x = self._residuals("before_activation", timestamp, outputs, x)
        x = x if timestamp.output_pooling is None else pool(timestamp.output_pooling, x)
        x = activate(timestamp.activation, x)
        return self._residuals("after_activation", timestamp, outputs, x)

    def _residuals(self, step: str, timestamp: Timestamp, outputs: list[Tensor], x: Tensor) -> Tensor:
        for residual in timestamp.residuals:
            if residual.added == step:
                x = add_residual(residual, x, outputs[residual.source])
        return x

    def _positioned(self, x: Tensor, image_shape: torch.Size) -> Tensor:
        tokens = self.architecture.tokens
        assert tokens is not None
        rows, columns = (side // (tokens.patch_size or 1) for side in image_shape)
        if x.ndim == 4:
            rows, columns = x.shape[-2:]
            x = x.flatten(2).transpose(1, 2)
        if tokens.class_token:
            token = self._joined(None, "token").reshape(1, 1, -1)
            x = torch.cat([token.expand(len(x), -1, -1), x], dim=1)
        if tokens.positions == "learned":
            return x + self._joined(None, "position").reshape(1, -1, x.shape[-1])
        if tokens.positions == "sincos_2d":
            return x + sincos_positions(rows, columns, x.shape[-1]).to(x)
        return x

    def _normalised(self, norm: Norm | None, x: Tensor, index: int, prefix: str) -> Tensor:
        if norm is None:
            return x
        known = [role for role in NORM_PARTS if (index, prefix + role) in self._slots]
        return normalise(norm, x, {role: self._joined(index, prefix + role) for role in known}, self.training)

    def _joined(self, timestamp: int | None, role: str) -> Tensor:
        """The tensors with one role in a layer, such as the weights of queries, keys and values, behind one another."""
        slots = self._slots.get((timestamp, role))
        if not slots:
            raise FormatError(f"layer {timestamp} has no {role}")
        parts = [_get(self, slot.key).permute(slot.order or tuple(range(len(slot.shape)))) for slot in slots]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _is_used(architecture: Architecture, slot: ParameterSlot) -> bool:
    """Whether the walk over the timestamps meets a slot. Counters of batches are for training alone."""
    if slot.role == "num_batches_tracked" or slot.alias_of is not None:
        return True
    tokens = architecture.tokens
    if slot.timestamp is None:
        is_position = slot.role == "position" and tokens is not None and tokens.positions == "learned"
        return is_position or (slot.role == "token" and tokens is not None and tokens.class_token)
    timestamp = architecture.timestamps[slot.timestamp - 1]
    if slot.role in ("weight", "bias"):
        return timestamp.traits.has_edges
    norm = timestamp.source_norm if slot.role.startswith("source_") else timestamp.norm
    has_statistics = norm is not None and norm.kind == "batch"
    return norm is not None and (has_statistics or not slot.role.endswith(("running_mean", "running_var")))


def _put(root: nn.Module, key: str, tensor: Tensor) -> None:
    *parents, name = key.split(".")
    module = root
    try:
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(name, tensor)
        else:
            module.register_buffer(name, tensor)
    except (KeyError, AttributeError, TypeError) as error:
        raise FormatError(f"no module can have the state_dict key {printable(key)!r} ({error})") from error


def _get(root: nn.Module, key: str) -> Any:
    parent, _, name = key.rpartition(".")
    return getattr(root.get_submodule(parent), name)


def fitting_input(
    module: nn.Module, architecture: Architecture, image_shapes: Sequence[tuple[int, ...]] = ()
) -> tuple[int, ...] | None:
    """The shape of an input that the module, which is on the meta device, takes; None where that can't be known.

    `image_shapes` (height, width, ...) are tried first. Raises FormatError where no input fits.
    """
    first: FormatError | None = None
    for shape in _inputs(architecture, image_shapes):
        try:
            with torch.no_grad():
                module(torch.zeros(shape, device="meta"))
            return shape
        except FormatError as error:
            first = first or error
    assert first is not None
    if _takes_images(architecture) and any(timestamp.traits.flattens for timestamp in architecture.timestamps[1:]):
        return None
    raise first


def _takes_images(architecture: Architecture) -> bool:
    patches = architecture.tokens is not None and architecture.tokens.patch_size is not None
    return architecture.timestamps[0].traits.is_spatial and not patches


def _inputs(architecture: Architecture, shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Shapes of inputs that a network may take, the likely ones first."""
    inputs, tokens, first = architecture.num_inputs, architecture.tokens, architecture.timestamps[0]
    positions = sum(prod(slot.shape) for slot in architecture.slots if slot.role == "position" and not slot.rounded)
    length = positions // first.num_nodes - (tokens is not None and tokens.class_token)
    if tokens is not None and tokens.patch_size is not None:
        size = tokens.patch_size
        for side in (isqrt(max(length, 1)), *range(1, 17)):
            yield 2, inputs // size**2, side * size, side * size
    elif _takes_images(architecture):
        yield from ((2, inputs, *shape[:2]) for shape in shapes)
        flattens = any(timestamp.traits.flattens for timestamp in architecture.timestamps[1:])
        sides = _FLATTENED_SIDES if flattens else _SIDES
        if positions:
            sides = (isqrt(max(length, 1)) * first.stride, *sides)
        yield from ((2, inputs, side, side) for side in sides)
        yield from ((2, inputs, 1, side) for side in sides)
    elif first.traits.flattens:
        yield 2, inputs, first.edges_per_pair
    else:
        yield 2, inputs
        yield 2, max(length, 1), inputs
        yield 2, 4, inputs
