"""A live module for any Architecture: it walks the timestamps as the architecture describes them."""

from typing import Any

import torch
from torch import Tensor, nn

from zootool.architecture import Architecture, ParameterSlot, Pooling, Timestamp
from zootool.errors import FormatError, printable
from zootool.nets.layers import activate, add_residual, attend, multiply, normalise, pool, sincos_positions, to_patches

_BUFFER_ROLES = ("running_mean", "running_var", "source_running_mean", "source_running_var", "num_batches_tracked")
_NORM_ROLES = ("scale", "shift", "running_mean", "running_var")


class Network(nn.Module):
    """The network that an architecture describes, with the checkpoint's own state_dict keys, all zero at first.

    Takes coordinates or features (..., inputs), or images (batch, channels, height, width). Raises FormatError for
    keys that no module can have; for tensors that no layer of the architecture uses, unless `allow_unused` says that
    they are known to do nothing: else the module would compute another function than theirs; and, naming the layer, for
    an input that the architecture can't be applied to.
    """

    def __init__(self, architecture: Architecture, *, allow_unused: bool = False) -> None:
        super().__init__()
        if not allow_unused:
            _check_use(architecture)
        self.architecture = architecture
        slots = {slot.key: slot for slot in architecture.slots if not slot.rounded}
        for slot in slots.values():
            _register(self, slot)
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
            raise self._misfit(index, outputs[-1], error) from error
        return x + self.architecture.output_offset if self.architecture.output_offset else x

    def _misfit(self, index: int, x: Tensor, error: Exception) -> FormatError:
        layer = f"layer {index} ({self.architecture.timestamps[index - 1].kind})" if index else "the cut into patches"
        shown = f"{tuple(x.shape)} of {str(x.dtype).removeprefix('torch.')}"
        return FormatError(
            f"{layer} can't be applied to {shown} ({printable(error, 160)})",
            hint=f"give an input of {self.architecture.num_inputs} features or channels, or run `zoo verify`",
        )

    def _layer(self, index: int, timestamp: Timestamp, outputs: list[Tensor]) -> Tensor:
        x = outputs[-1]
        if timestamp.source_norm is not None:
            x = normalise(timestamp.source_norm, x, self._norm_parameters(index, "source_"), self.training)
        x = activate(timestamp.source_activation, x)
        pooling = timestamp.pooling or (Pooling("mean") if timestamp.kind == "pool_linear" else None)
        x = x if pooling is None else pool(pooling, x)
        if timestamp.kind == "attention":
            x = attend(timestamp.num_heads or 1, x)
        else:
            bias = self._slots.get((index, "bias"))
            x = multiply(timestamp, x, self._joined(index, "weight"), self._joined(index, "bias") if bias else None)
        x = self._residuals("before_norm", timestamp, outputs, x)
        if timestamp.norm is not None:
            x = normalise(timestamp.norm, x, self._norm_parameters(index, ""), self.training)
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
        rows, columns = (
            image_shape if tokens.patch_size is None else (side // tokens.patch_size for side in image_shape)
        )
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

    def _norm_parameters(self, index: int, prefix: str) -> dict[str, Tensor]:
        return {
            role: self._joined(index, prefix + role) for role in _NORM_ROLES if (index, prefix + role) in self._slots
        }

    def _joined(self, timestamp: int | None, role: str) -> Tensor:
        """The tensors with one role in a layer, such as the weights of queries, keys and values, behind one another."""
        slots = self._slots.get((timestamp, role))
        if not slots:
            raise FormatError(f"layer {timestamp} has no {role}")
        parts = [_get(self, slot.key).permute(slot.order or tuple(range(len(slot.shape)))) for slot in slots]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _check_use(architecture: Architecture) -> None:
    unused = sorted({slot.key for slot in architecture.slots if not _is_used(architecture, slot)})
    if unused:
        shown = printable(", ".join(unused[:5]), 200) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
        raise FormatError(
            f"no layer of the architecture uses {shown}: a module without would compute something else",
            hint="take the tensors from `zoo.state_dict`, which is exact; where they are known to do nothing, use "
            "`zootool.nets.network.Network(zoo.architecture_of(i), allow_unused=True)`",
        )


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
        return timestamp.kind != "attention"
    norm = timestamp.source_norm if slot.role.startswith("source_") else timestamp.norm
    has_statistics = norm is not None and norm.kind == "batch"
    return norm is not None and (has_statistics or not slot.role.endswith(("running_mean", "running_var")))


def _register(root: nn.Module, slot: ParameterSlot) -> None:
    tensor = torch.zeros(slot.shape, dtype=getattr(torch, slot.dtype))
    is_buffer = slot.role in _BUFFER_ROLES or not tensor.is_floating_point()
    _put(root, slot.key, tensor if is_buffer else nn.Parameter(tensor))


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
