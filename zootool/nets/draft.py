"""Layers while a module is traced: what has been seen of each, and which step may still be added to it."""

from dataclasses import dataclass, field, replace
from typing import Any

from zootool.architecture import Activation, LayerKind, Norm, Pooling, Residual, Timestamp
from zootool.errors import FormatError

_STEPS = ("product", "norm", "residual", "output_pooling", "activation", "late residual")


@dataclass
class Draft:
    """A layer in the making. `step` is the last of its steps that has been seen."""

    kind: LayerKind
    num_nodes: int
    num_sources: int
    fields: dict[str, Any] = field(default_factory=dict)
    residuals: list[Residual] = field(default_factory=list)
    step: str = "product"
    is_frozen: bool = False

    def can_take(self, step: str) -> bool:
        """Whether `step` still fits behind what has been seen; a frozen layer's output is used elsewhere too."""
        return not self.is_frozen and _STEPS.index(step) > _STEPS.index(self.step)

    def take(self, step: str, **fields: Any) -> None:
        """Add a step."""
        self.fields |= fields
        self.step = step

    def take_norm(self, norm: Norm) -> None:
        """Add the norm; residuals that were added already come before it."""
        self.residuals = [replace(residual, added="before_norm") for residual in self.residuals]
        self.take("norm", norm=norm)

    def can_take_norm(self) -> bool:
        """Whether a norm fits: behind the product, or behind residuals that are then before it."""
        return not self.is_frozen and self.step in ("product", "residual") and "norm" not in self.fields

    def take_residual(self, residual: Residual) -> None:
        """Add another layer's output at this point."""
        is_late = self.step in ("activation", "late residual")
        self.residuals.append(replace(residual, added="after_activation" if is_late else "before_activation"))
        self.step = "late residual" if is_late else "residual"

    def can_take_residual(self) -> bool:
        """Whether a residual fits: not behind a pooling."""
        return not self.is_frozen and self.step != "output_pooling"

    def timestamp(self) -> Timestamp:
        """The finished layer."""
        try:
            return Timestamp(
                self.kind, self.num_nodes, self.num_sources, residuals=tuple(self.residuals), **self.fields
            )
        except ValueError as error:
            raise FormatError(f"a layer of the module can't be expressed: {error}") from error


@dataclass(frozen=True)
class Value:
    """What a node of the traced graph computes: layer `layer`'s output (0: the input), and steps for the next layer.

    `scale` is a factor that waits for its sine. `shortcut` is what cutting and padding have made of an output that
    will be added.
    """

    layer: int
    shape: tuple[int, ...]
    source_norm: Norm | None = None
    source_norm_prefix: str | None = None
    source_activation: Activation | None = None
    pooling: Pooling | None = None
    positions: int | None = None
    scale: float | None = None
    shortcut: Residual | None = None
    offset: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether this is a layer's output itself."""
        return self == Value(self.layer, self.shape)


@dataclass(frozen=True)
class Step:
    """One step behind or before a layer: nothing, activation, pooling, flatten, scale, offset, cut or pad."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
