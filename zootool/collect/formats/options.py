"""What a user may tell a reader that its source doesn't say."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReadOptions:
    """`steps` are the training steps (in the format's own unit) to keep, all if empty. `splits`, `labels` and
    `architecture` are files: a published split, a table of labels, a declared architecture. `clean` asks for the
    variant without a published protocol's known slips. `seed` is that of splits which the source leaves open.
    `weights` is the key, or the dotted path of keys, under which each file of a plain folder keeps its weights.
    """

    steps: tuple[int, ...] = ()
    splits: Path | None = None
    labels: Path | None = None
    architecture: Path | None = None
    clean: bool = False
    seed: int = 0
    weights: str | None = None
