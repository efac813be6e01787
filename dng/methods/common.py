"""What methods share: their settings' checks and widths, and what differs between the networks of a batch."""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

Own = TypeVar("Own", bound="Settings")


class Settings:
    """A method's settings, a frozen dataclass. `widths` names what grows with the method's size."""

    widths: ClassVar[tuple[str, ...]] = ()

    def widened(self: Own, factor: float) -> Own:
        """The same method with all its widths multiplied by about `factor`; what is fixed stays fixed."""
        changed: dict[str, Any] = {name: widened_width(getattr(self, name), factor) for name in self.widths}
        return replace(self, **changed)  # type: ignore[bad-specialization]

    def covering(self: Own, architectures: Collection[Architecture]) -> Own:
        """The same method with room for all of these architectures, so that any one of them can stand for them."""
        del architectures
        return self

    def check(self, positive: Collection[str] = (), shares: Collection[str] = ()) -> None:
        """Raise UsageError where a number that must be positive, or in [0, 1), isn't."""
        for name in positive:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        for name in shares:
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be in [0, 1), got {getattr(self, name)}")


def widened_width(width: int, factor: float, multiple: int = 1) -> int:
    """The multiple of `multiple` nearest to `width * factor`, at least one of them."""
    return max(1, round(width * factor / multiple)) * multiple


def check_heads(dim: int, num_heads: int) -> None:
    """Raise UsageError unless `num_heads` heads share `dim` channels evenly."""
    if dim < 2 or num_heads < 1 or dim % num_heads:
        raise UsageError(f"dim (={dim}) must be at least 2 and divisible by num_heads (={num_heads})")


def by_network(graph: GraphBatch, by_architecture: Shaped[Tensor, "architectures ..."]) -> Shaped[Tensor, "#batch ..."]:
    """Every network's row of a table with a row per architecture of the batch; one row where there is only one."""
    if len(graph.architectures) == 1:
        return by_architecture
    assert graph.architecture_index is not None, "a batch of several architectures says which is whose"
    return by_architecture[graph.architecture_index]


def has_bias(graph: GraphBatch, t: int) -> Float[Tensor, "#batch 1 1"]:
    """1 for the networks whose layer `t` has biases, 0 for the others."""
    flags = graph.nodes[t - 1].new_tensor([float(a.timestamps[t - 1].has_bias) for a in graph.architectures])
    return by_network(graph, flags)[:, None, None]


def with_biases(graph: GraphBatch, t: int, biases: Tensor) -> Tensor:
    """The node features of timestamp t with other biases."""
    return torch.cat([biases, graph.nodes[t - 1][..., 1:]], dim=-1)


def slot_of(architecture: Architecture, t: int, num_layers: int) -> int:
    """The row of layer `t` in a table of `num_layers` layers: the last one is the last whatever the depth."""
    return num_layers - 1 if t == architecture.num_layers else t - 1


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Inside, torch computes in the precision of the tensors, whatever autocast there is outside.

    For phases of sines: those of several turns have too few digits left in half precision.
    """
    # The meta device, on which nothing is computed, has no autocast to turn off.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
