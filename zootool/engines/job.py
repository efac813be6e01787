"""What engines hand out: a piece of work that any process which sees its folder can do."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "built", "found" (finished by somebody else meanwhile) or "claimed" (they are at it)."""

    number: int
    state: Literal["built", "found", "claimed"]


OutcomeT = TypeVar("OutcomeT", bound=Outcome)


@dataclass(frozen=True, eq=False, kw_only=True)
class Job(ABC, Generic[OutcomeT]):
    """Where the work goes, its number there, and what it may use. Pickled, it runs in another process."""

    folder: Path
    number: int
    device: str = "cpu"
    threads: int = 1

    @abstractmethod
    def __len__(self) -> int:
        """Steps that a progress bar counts."""

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"unit {self.number}"

    @abstractmethod
    def run(self, advance: Advance) -> OutcomeT:
        """Do the work, unless another process has it or has finished it; `advance(n)`: n more steps are done."""
