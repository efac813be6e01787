"""What a user may tell a reader that its source doesn't say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zootool.columns.splits import SPLITS
from zootool.errors import UsageError, did_you_mean, printable, quoted
from zootool.nets.rendering import Indexing


@dataclass(frozen=True)
class ReadOptions:
    """`steps` are the training steps (in the format's own unit) to keep, all if empty. `splits`, `labels` and
    `architecture` are files: a published split, a table of labels, a declared architecture. `clean` asks for the
    variant without a published protocol's known slips. `seed` is that of splits which the source leaves open.
    `weights` is the key, or the dotted path of keys, under which each file of a plain folder keeps its weights.

    Files and folders that one of the patterns `exclude` fits, by their name or the last parts of their path, aren't
    looked at, nor are `dropped` files. With `skip_bad`, what can't be read is left out rather than refused. `grid` says
    whether the first coordinate is an image's row ("ij") or column ("xy"). `split_names` are a table's own words
    for splits, such as {"holdout": "test"}. `check` names a function of the user's own that gives the networks' module
    (`zootool.nets.agreement.load_object`), whose outputs each architecture's are compared with. Raises UsageError.
    """

    steps: tuple[int, ...] = ()
    splits: Path | None = None
    labels: Path | None = None
    architecture: Path | None = None
    clean: bool = False
    seed: int = 0
    weights: str | None = None
    exclude: tuple[str, ...] = ()
    skip_bad: bool = False
    grid: Indexing | None = None
    dropped: frozenset[Path] = frozenset()
    split_names: Mapping[str, str] = field(default_factory=dict)
    check: str | None = None

    def __post_init__(self) -> None:
        # Text is a sequence too: of letters.
        if not isinstance(self.steps, tuple | list) or not all(type(step) is int for step in self.steps):
            raise UsageError(f"steps must be whole numbers, got {quoted(self.steps, 60)}", hint="steps=(20, 40)")
        for name in self.split_names.values():
            if name not in SPLITS:
                raise UsageError(f"there is no split {printable(name, 60)!r}", hint=did_you_mean(str(name), SPLITS))

    def leaves_out(self, path: Path) -> str | None:
        """Why a file or folder isn't looked at, None where it is."""
        pattern = next((pattern for pattern in self.exclude if path.match(pattern)), None)
        return f"--exclude {pattern}" if pattern is not None else "can't be read" if path in self.dropped else None
