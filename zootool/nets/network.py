"""A live module for any Architecture: it walks the timestamps as the architecture describes them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from zootool.architecture import Activation, Architecture, ParameterSlot
from zootool.errors import FormatError

_TORCH_DTYPES = {name: getattr(torch, name) for name in ("float64", "float32", "float16", "bfloat16")}


class Network(nn.Module):
    """The network that an architecture describes, with the checkpoint's own state_dict keys."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        for slot in architecture.slots:
            _register(self, slot)

    def forward(self, x: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        for index, timestamp in enumerate(self.architecture.timestamps, start=1):
            if timestamp.kind != "linear":
                raise FormatError(f"layer {index} is of kind {timestamp.kind!r}, which can't be rebuilt")
            weight, bias = self._parameter(index, "weight"), self._parameter(index, "bias")
            assert weight is not None
            x = activate(timestamp.activation, functional.linear(x, weight, bias))
        return x + self.architecture.output_offset

    def _parameter(self, timestamp: int, role: str) -> Tensor | None:
        for slot in self.architecture.slots:
            if slot.timestamp == timestamp and slot.role == role:
                return self.get_parameter(slot.key)
        return None


def activate(activation: Activation, x: Tensor) -> Tensor:
    """Apply a pointwise activation. Raises FormatError for one that isn't known."""
    if activation.name == "sine":
        return torch.sin((30.0 if activation.omega_0 is None else activation.omega_0) * x)
    if activation.name == "leaky_relu":
        return functional.leaky_relu(x, 0.01 if activation.negative_slope is None else activation.negative_slope)
    if activation.name not in _ACTIVATIONS:
        raise FormatError(f"unknown activation {activation.name!r}")
    return _ACTIVATIONS[activation.name](x)


_ACTIVATIONS = {
    "none": lambda x: x,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
}


def _register(root: nn.Module, slot: ParameterSlot) -> None:
    *parents, name = slot.key.split(".")
    module = root
    for parent in parents:
        if not hasattr(module, parent):
            module.add_module(parent, nn.Module())
        module = getattr(module, parent)
    module.register_parameter(name, nn.Parameter(torch.zeros(slot.shape, dtype=_TORCH_DTYPES[slot.dtype])))
