"""What can be predicted about networks: a column of the zoo's table, as classes or as accuracies."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Shaped
from torch import Tensor

from dng.data import Zoo, numbers_of
from zootool.errors import BadDataError, UsageError, did_you_mean, printable


@dataclass(frozen=True)
class Target:
    """A column by row of the store: classes as int64, accuracies in [0, 1] as float32. Rows not selected hold -1."""

    name: str
    by_row: Shaped[Tensor, " rows"]
    num_outputs: int

    @property
    def is_class(self) -> bool:
        """Whether the values are classes."""
        return not self.by_row.is_floating_point()


def read_target(zoo: Zoo, name: str) -> Target:
    """The column `name` of the selected networks: whole numbers, texts, true and false are classes, others accuracies.

    Raises UsageError where there is no such column or it holds neither, BadDataError where networks lack a value.
    """
    if name not in zoo.nets:
        raise UsageError(f"the zoo has no column {printable(name, 60)!r}", hint=did_you_mean(name, zoo.nets.columns))
    column = zoo.nets[name]
    if column.isna().any():
        raise BadDataError(f"networks have no value in the column {name!r}", hint="see the columns with `zoo info`")
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        column = pd.Series(numbers_of(zoo.store, name, zoo.rows))
    if pd.api.types.is_integer_dtype(column):
        return _classes(zoo, name, column.to_numpy(np.int64, copy=True))
    values = column.to_numpy(np.float32, copy=True)
    if values.min() < 0 or values.max() > 1:
        raise UsageError(
            f"the column {name!r} holds numbers from {values.min():g} to {values.max():g}, accuracies are in [0, 1]",
            hint="choose another --target",
        )
    return Target(name, by_row(zoo, torch.from_numpy(values)), 1)


def by_row(zoo: Zoo, values: Shaped[Tensor, " networks"]) -> Shaped[Tensor, " rows"]:
    """The values of the selected networks at their rows of the store, -1 elsewhere."""
    spread = torch.full((int(zoo.rows.max()) + 1,), -1, dtype=values.dtype)
    spread[torch.from_numpy(zoo.rows)] = values
    return spread


def _classes(zoo: Zoo, name: str, values: np.ndarray) -> Target:
    if values.min() < 0:
        raise UsageError(f"the column {name!r} holds {values.min()}, classes count from 0", hint="choose another one")
    return Target(name, by_row(zoo, torch.from_numpy(values)), int(values.max()) + 1)
