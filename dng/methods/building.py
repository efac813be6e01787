"""Building a method for a zoo's networks: at its published size, or as large as another."""

from bisect import bisect_left
from collections.abc import Callable, Collection
from dataclasses import fields, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from dng.methods.registry import method, zoo_kind
from dng.models.heads import count_parameters
from dng.models.model import Predicts, Reader
from dng.training.seed import seeded
from zootool.architecture import Architecture
from zootool.errors import UsageError

TOLERANCE = 0.05
_SMALLEST = 1e-4
_HALVINGS = 14
_WIDEST_HEAD = 4096


class RefusedError(UsageError):
    """A method can't take a zoo, or can't have the size that it is asked for."""


def build_method(
    name: str,
    architectures: Collection[Architecture],
    num_outputs: int,
    budget: int | None = None,
    seed: int = 0,
    predicts: Predicts = "class",
) -> Reader:
    """A method for a zoo's networks, at its published size or with about `budget` parameters.

    Raises UsageError for an unknown name, RefusedError for a zoo that the method can't take and a budget that it can't
    meet.
    """
    kind = method(name).reader()
    try:
        config = config_for(name, architectures, num_outputs, budget)
        with seeded(seed, name):
            model = kind(architectures, num_outputs, config)
    except UsageError as error:
        raise RefusedError(error.message, hint=error.hint) from error
    model.predicts = predicts
    return model


def config_for(name: str, architectures: Collection[Architecture], num_outputs: int, budget: int | None = None) -> Any:
    """What `build_method` builds a method from. Raises UsageError where there is nothing that fits."""
    found = method(name)
    config = found.config(zoo_kind(architectures)).covering(architectures)
    if budget is None:
        return config
    return fit_to_budget(config, lambda config: found.reader()(architectures, num_outputs, config), budget, name)


def fit_to_budget(config: Any, build: Callable[[Any], nn.Module], budget: int, name: str) -> Any:
    """`config` at other widths, such that what `build` makes of it has `budget` trainable parameters within 5 %.

    All widths change by the same factor. Where whole numbers of channels step over the budget, the head makes up for
    what they leave. Raises UsageError where the method's fixed parts exceed the budget, or where nothing comes close.
    """

    @cache
    def count(config: Any) -> int:
        with torch.device("meta"):
            return count_parameters(build(config))

    smallest = count(config.widened(_SMALLEST))
    if smallest > (1 + TOLERANCE) * budget:
        raise UsageError(
            f"{name} has at least {smallest:,} parameters on this zoo, more than a budget of {budget:,}",
            hint=f"give it a budget of {smallest:,} or more",
        )
    below, above = _around(config, count, budget)
    candidates = [below, above, *_with_other_heads(below, count, budget)]
    best = min(candidates, key=lambda candidate: abs(count(candidate) - budget))
    if abs(count(best) - budget) > TOLERANCE * budget:
        raise UsageError(
            f"{name} can't have {budget:,} parameters within 5 %: the closest is {count(best):,}",
            hint=f"give it a budget of {count(best):,}",
        )
    return best


def _around(config: Any, count: Callable[[Any], int], budget: int) -> tuple[Any, Any]:
    """The widths on both sides of the budget."""
    low, high = _SMALLEST, 1.0
    while count(config.widened(high)) < budget:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if count(config.widened(middle)) < budget else (low, middle)
    return config.widened(low), config.widened(high)


def _with_other_heads(config: Any, count: Callable[[Any], int], budget: int) -> list[Any]:
    """The same with heads of the widths on both sides of the budget, for a method whose head has a width."""
    if "head_dim" not in {field.name for field in fields(config)}:
        return []
    widths = range(config.head_dim, _WIDEST_HEAD)
    place = bisect_left(widths, budget, key=lambda width: count(replace(config, head_dim=width)))
    return [replace(config, head_dim=width) for width in widths[max(0, place - 1) : place + 1]]
