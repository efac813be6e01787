"""An exponential moving average of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_PREFIX = "ema."


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
        return {_PREFIX + name: value for name, value in self._average.items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave; other entries are ignored."""
        for name, value in self._average.items():
            value.copy_(tensors[_PREFIX + name])

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(values[name])
