"""Optimisers, and the moving average of the weights that they move: by name, and as named tensors for a file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_PREFIX = "optimizer."
_AVERAGE = "ema."

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


class WeightAverage:
    """The moving average of a model's parameters: average = decay * average + (1 - decay) * parameter.

    The decay starts at 0.1 and rises to `decay`, min(decay, (1 + step) / (10 + step)), so that the initial weights
    are soon forgotten. Buffers are not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self._average = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters behind optimiser step `step`, counted from 0."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.model.named_parameters():
            self._average[name].lerp_(parameter, weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the model holds the average, behind it the weights that it held before."""
        trained = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(trained)

    def tensors(self) -> dict[str, Tensor]:
        """What has to be saved to go on."""
        return {_AVERAGE + name: value for name, value in self._average.items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave; other entries are ignored."""
        for name, value in self._average.items():
            value.copy_(tensors[_AVERAGE + name])

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(values[name])
