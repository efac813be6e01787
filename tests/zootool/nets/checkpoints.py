"""Checkpoints as the tests of inference need them: as torch saves them, or sorted by name as safetensors does."""

from typing import Any

import torch
from torch import nn

from zootool.nets.chain import Inferred
from zootool.nets.declared import read_declaration
from zootool.nets.infer import infer_architecture
from zootool.nets.module_names import Shapes
from zootool.nets.network import Network

State = dict[str, torch.Tensor]


class Net(nn.Module):
    """Layers by name, in the order of their definition, and what is computed with them."""

    def __init__(self, forward: Any = None, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


def random_norms(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, with norms that do something."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5) if "bias" not in name else tensor.normal_()
    return module.eval()


def sorted_state(state: State) -> State:
    """The state_dict as safetensors keeps it: by the size of the elements, then by name."""
    return {key: state[key] for key in sorted(state, key=lambda key: (-state[key].element_size(), key))}


def shapes_of_state(state: State) -> Shapes:
    return {key: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in state.items()}


def rebuilt(state: State, declaration: Any = None) -> Network:
    """The network that a state_dict is inferred or declared to be, with its weights."""
    network = Network(inferred(state, declaration).architecture)
    network.load_state_dict(state)
    assert set(network.state_dict()) == set(state)
    return network.eval()


def inferred(state: State, declaration: Any = None) -> Inferred:
    shapes = shapes_of_state(state)
    return infer_architecture(shapes) if declaration is None else read_declaration(declaration, shapes)
