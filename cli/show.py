"""`zoo show`: what a source of checkpoints holds, before it is converted."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import JsonOption, listed, print_json, say, shown
from cli.reading import (
    ArchitectureOption,
    CheckOption,
    CleanOption,
    ExcludeOption,
    FormatOption,
    GridOption,
    LabelsOption,
    SkipBadOption,
    SplitNamesOption,
    SplitSeedOption,
    SplitsOption,
    StepsOption,
    WeightsOption,
    read_options,
)

if TYPE_CHECKING:
    from zootool.formats.preview import Preview

_MAX_LINES = 8
_MAX_LEFT_OUT = 20


def show(
    source: Annotated[Path, typer.Argument(help="Checkpoints in any format: see `zoo convert`.")],
    format: FormatOption = None,
    steps: StepsOption = None,
    splits: SplitsOption = None,
    labels: LabelsOption = None,
    architecture: ArchitectureOption = None,
    clean: CleanOption = False,
    split_seed: SplitSeedOption = 0,
    weights: WeightsOption = None,
    exclude: ExcludeOption = None,
    skip_bad: SkipBadOption = False,
    grid: GridOption = None,
    split_names: SplitNamesOption = None,
    check: CheckOption = None,
    sample: Annotated[int, typer.Option(min=1, help="How many networks are read, to find problems.")] = 16,
    as_json: JsonOption = False,
) -> None:
    """Preview a source of checkpoints without converting it: format, counts, labels, splits, first problems.

    Example: zoo show siren_mnist_wts
    """
    from zootool.build.units import is_unit_folder
    from zootool.conversion.convert import collect
    from zootool.errors import UsageError
    from zootool.formats.preview import preview
    from zootool.store.schema import MANIFEST_JSON

    if (source / MANIFEST_JSON).is_file():
        raise UsageError(f"{source} is a store already", hint=f"zoo info {source}")
    if format is None and is_unit_folder(source):
        raise UsageError(
            f"{source} is a folder that `zoo build` wrote", hint=f"zoo build siren --status --out {source}"
        )
    options = read_options(
        steps, splits, labels, architecture, clean, split_seed, weights, exclude, skip_bad, grid, split_names, check
    )
    found = preview(collect(source, format, options), sample)
    if as_json:
        print_json({"source": str(source), **asdict(found)})
    else:
        _show(found)


def _spelled(count: int) -> str:
    return f", under {count:,} sets of names or dtypes" if count > 1 else ""


def _show(found: "Preview") -> None:
    say(f"format         {found.format}")
    say(f"networks       {found.num_networks:,} ({shown(found.kind)})")
    for a in found.architectures[:_MAX_LINES]:
        nodes = "-".join(map(str, a.node_counts if len(a.node_counts) < 9 else (*a.node_counts[:8], "...")))
        say(f"architecture   {a.signature[:8]} {shown(a.family)} {nodes}: {a.num_networks:,} networks "
            f"of {a.num_parameters:,} weights and biases{_spelled(a.num_spellings)}")  # fmt: skip
        for text in a.assumptions:
            say(f"[yellow]assumed[/]        {shown(text, 500)}")
    if len(found.architectures) > _MAX_LINES:
        say(f"               and {len(found.architectures) - _MAX_LINES:,} more architectures")
    say(f"columns        {listed(found.columns)}")
    for noun, counts in (("splits", found.splits), ("labels", found.labels)):
        if counts:
            say(f"{noun:<14} {listed([f'{name} {count:,}' for name, count in counts.items()], 12)}")
    for key, value in found.conventions.items():
        say(f"convention     {shown(key)}: {shown(value)}")
    for text in found.notes:
        say(f"[yellow]note[/]           {shown(text)}")
    for left in found.left_out[:_MAX_LEFT_OUT]:
        say(f"[yellow]left out[/]       {shown(left.file)}: {shown(left.reason)}")
    if len(found.left_out) > _MAX_LEFT_OUT:
        say(f"[yellow]left out[/]       and {len(found.left_out) - _MAX_LEFT_OUT:,} more")
    for text in found.problems[:_MAX_LINES]:
        say(f"[red]problem[/]        {shown(text)}")
    if not found.problems:
        say(f"[green]no problems[/] in {found.num_read:,} networks that were read")
