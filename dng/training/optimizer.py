"""Optimisers by name, and their state as named tensors, so that it can lie in a file beside the weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

_PREFIX = "optimizer."

_KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build_optimizer(
    kind: str, parameters: Sequence[nn.Parameter], lr: float, weight_decay: float, amsgrad: bool
) -> torch.optim.Optimizer:
    """The optimiser called `kind`: adam, or adamw with its decoupled weight decay."""
    return _KINDS[kind](parameters, lr=lr, weight_decay=weight_decay, amsgrad=amsgrad)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Take the next step with `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of every parameter: `optimizer.INDEX.NAME`."""
    states = optimizer.state_dict()["state"]
    return {f"{_PREFIX}{index}.{name}": value for index, state in states.items() for name, value in state.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Go on from what `optimizer_tensors` gave; other entries are ignored."""
    state = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith(_PREFIX):
            index, name = key.removeprefix(_PREFIX).split(".", 1)
            state["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(state)
