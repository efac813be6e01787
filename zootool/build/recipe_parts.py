"""What recipes of every kind are made of: types of their values, and how a value given as text is read."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from zootool.build.philox import MAX_SEED
from zootool.errors import UsageError
from zootool.validation import Entry

Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
UnitSize = Annotated[int, Field(gt=0, le=1 << 20)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Target = tuple[Finite, Finite]


class Recipe(Entry):
    """Base of the recipes: how the networks of a zoo are made. Each kind has `name`, `seed` and `unit_size`."""

    UNIT_SIZES: ClassVar[dict[str, int]]

    def with_unit_size(self, device: str) -> Self:
        """This recipe with a definite unit size, the one for `device` where none is set."""
        if getattr(self, "unit_size", None) is not None:
            return self
        return self.model_copy(update={"unit_size": self.UNIT_SIZES[device.partition(":")[0]]})


def listed(value: Any) -> Any:
    """A tuple's value as `--set` may give it: "16,32", or 16 alone."""
    if isinstance(value, str):
        return value.split(",")
    return (value,) if isinstance(value, int | float) else value


def rising(target: tuple[float, float]) -> tuple[float, float]:
    """What dark and bright pixels stand for. Raises ValueError where dark isn't below bright."""
    if target[0] >= target[1]:
        raise ValueError("the target of dark pixels must be below that of bright ones")
    return target


def refuse_cuda(device: str) -> None:
    """Raise UsageError for a device that classifiers aren't trained on."""
    if device != "cpu":
        raise UsageError(f"classifiers are trained on the CPU, not on {device!r}", hint="leave --device out")
