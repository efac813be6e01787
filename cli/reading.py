"""The options by which commands are told what a source of checkpoints doesn't say itself."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zootool.formats.options import ReadOptions


class GridName(StrEnum):
    """Which coordinate of an image comes first."""

    ij = "ij"
    xy = "xy"


FormatOption = Annotated[str | None, typer.Option("--format", help="How the source lies on disk; else found out.")]
StepsOption = Annotated[str | None, typer.Option(help="Training steps to keep, such as 20,40,86.")]
SplitsOption = Annotated[Path | None, typer.Option(help="A published file of splits.")]
LabelsOption = Annotated[Path | None, typer.Option(help="A table of labels: CSV, JSON lines or Parquet.")]
ArchitectureOption = Annotated[
    Path | None, typer.Option(help="YAML that declares the architecture (docs/collecting.md).")
]
SplitNamesOption = Annotated[
    str | None,
    typer.Option("--split-names", help="A table's own words for splits, such as holdout=test."),
]
CleanOption = Annotated[bool, typer.Option("--clean", help="Without the known slips of a published protocol.")]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Leave out files and folders of such names; repeatable.")
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out what can't be read; reads all first.")]
GridOption = Annotated[
    GridName | None, typer.Option(help="Whether an INR's first input is an image's row (ij) or column (xy).")
]
CheckOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FACTORY",
        help="Your own code that gives the networks' module (net.py:build): its outputs are compared. Runs that code.",
    ),
]
SplitSeedOption = Annotated[int, typer.Option(min=0, help="Of splits that the source leaves open.")]

WeightsOption = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Where each file keeps its weights, such as ema, models.generator or encoder."),
]


def read_options(
    steps: str | None,
    splits: Path | None,
    labels: Path | None,
    architecture: Path | None,
    clean: bool,
    split_seed: int,
    weights: str | None = None,
    exclude: list[str] | None = None,
    skip_bad: bool = False,
    grid: GridName | None = None,
    split_names: str | None = None,
    check: str | None = None,
) -> "ReadOptions":
    """The options as readers take them. Raises UsageError and MissingError."""
    from zootool.errors import MissingError, UsageError, printable
    from zootool.formats.options import ReadOptions

    for path in (splits, labels, architecture):
        if path is not None and not path.is_file():
            raise MissingError(f"there is no file {printable(path)}", hint="check the path")
    try:
        wanted = tuple(int(step) for step in steps.split(",")) if steps else ()
    except ValueError as error:
        raise UsageError(f"can't read --steps {printable(steps, 60)}", hint="write it like --steps 20,40,86") from error
    if any(not pattern.strip("/") for pattern in exclude or ()):
        raise UsageError("--exclude needs a pattern", hint="write it like --exclude 'optimizer.pt'")
    names = dict(word.split("=", 1) for word in split_names.split(",") if "=" in word) if split_names else {}
    if split_names and len(names) != split_names.count(",") + 1:
        raise UsageError(
            f"can't read --split-names {printable(split_names, 60)}", hint="write it like --split-names holdout=test"
        )
    return ReadOptions(
        wanted,
        splits,
        labels,
        architecture,
        clean,
        split_seed,
        weights,
        tuple(exclude or ()),
        skip_bad,
        None if grid is None else grid.value,
        split_names=names,
        check=check,
    )
