"""Where a run of the editing benchmark keeps what, and its answers read back."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dng.bench.editing.results import Answer, References
from dng.training.claim import read_json
from zootool.records import from_plain

Record = TypeVar("Record", Answer, References)


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what."""

    path: Path

    def training(self, edit: str, method: str, seed: int) -> Path:
        """The folder of one training."""
        return self.path / edit / f"seed-{seed}" / method

    def references_path(self, edit: str) -> Path:
        """The file of an edit's references."""
        return self.path / edit / "references.json"

    def answer(self, edit: str, method: str, seed: int) -> Answer:
        """A kept answer. Raises FormatError where the file isn't one of ours."""
        return _read(Answer, answer_path(self.training(edit, method, seed)))

    def references(self, edit: str) -> References:
        """An edit's kept references. Raises FormatError where the file isn't one of ours."""
        return _read(References, self.references_path(edit))


def answer_path(training: Path) -> Path:
    """The file of an answer, beside the folder of its training."""
    return training.with_suffix(".json")


def _read(kind: type[Record], path: Path) -> Record:
    return from_plain(kind, read_json(path), str(path))
