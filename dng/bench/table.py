"""A table of results as plain text cells: one source for Markdown, HTML and the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from dng.training.train import TrainConfig


@dataclass(frozen=True)
class Table:
    """A caption, a header, rows of as many cells, and a note below. The first column names, the others hold numbers."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"the row {row} doesn't fit the {len(self.header)} columns {self.header}")

    def markdown(self) -> str:
        """The table in Markdown, its caption above and its note below."""
        rule = ("---", *("---:" for _ in self.header[1:]))
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.header, rule, *self.rows)]
        note = [self.note, ""] if self.note else []
        return "\n".join([self.caption, "", *lines, "", *note])


def updates_of(*trainings: TrainConfig) -> str:
    """How long a method learns: the updates and the networks in each, stage by stage."""
    return " + ".join(f"{training.steps:,} of {training.batch_size}" for training in trainings)


def spread(values: Sequence[float], digits: int) -> str:
    """The cell of a measurement under several seeds: mean ± sample standard deviation."""
    mean = f"{fmean(values):.{digits}f}"
    return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean
