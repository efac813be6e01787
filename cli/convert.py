"""`zoo convert`: from anything that holds networks to a store."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown
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


def convert(
    source: Annotated[Path, typer.Argument(help="A folder that `zoo build` wrote, or checkpoints in any format.")],
    destination: Annotated[Path, typer.Argument(help="The store to write, NAME.zoo.")],
    name: Annotated[str | None, typer.Option(help="The zoo's name; by default the store's.")] = None,
    zstd: Annotated[int | None, typer.Option(min=-7, max=22, help="Compress chunks at this zstd level.")] = None,
    keep_nonfinite: Annotated[
        bool,
        typer.Option("--keep-nonfinite", help="Keep networks with NaN or infinite weights, marked is_finite=false."),
    ] = False,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Carry the source images along, where their terms allow it.")
    ] = False,
    append: Annotated[
        bool, typer.Option("--append", help="Add the networks that DESTINATION doesn't have yet: a new version of it.")
    ] = False,
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
    workers: Annotated[int, typer.Option(min=1, help="Threads that read and check; never changes a byte.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Convert networks into a store: one folder with all weights, checked and fast to read.

    Example: zoo convert runs/digits digits.zoo
    """
    from zootool.conversion.convert import append as append_networks
    from zootool.conversion.convert import convert as convert_networks
    from zootool.errors import UsageError
    from zootool.store import WriteOptions

    options = WriteOptions(workers, zstd, "keep" if keep_nonfinite else "refuse")
    reading = read_options(
        steps, splits, labels, architecture, clean, split_seed, weights, exclude, skip_bad, grid, split_names, check
    )
    if append and (name or with_images):
        raise UsageError("--append keeps the store's name and adds no images", hint="leave out --name, --with-images")
    known = 0
    with progress_bars() as report:
        given: dict[str, Any] = {"format": format, "reading": reading, "options": options, "report": report}
        if append:
            known = append_networks(source, destination, **given).num_known
        else:
            convert_networks(source, destination, name=name, with_images=with_images, **given)
    _show(destination, known, as_json)


def _show(destination: Path, known: int, as_json: bool) -> None:
    from zootool.store import open_store
    from zootool.store.schema import assumed_lines

    store = open_store(destination)
    if as_json:
        print_json({"path": str(destination), "id": store.zoo_id, "num_networks": len(store), "known": known})
    else:
        had = f", which had {known:,} of them already" if known else ""
        say(f"[green]wrote[/] {shown(destination)}: {len(store):,} networks{had}, id {store.zoo_id[:16]}")
        provenance = store.info.provenance
        for text in provenance.get("notes", []):
            say(f"[yellow]note[/] {shown(text)}")
        left_out = provenance.get("left_out", [])
        for left in left_out:
            say(f"[yellow]left out[/] {shown(left['file'])}: {shown(left['reason'])}")
        if provenance.get("num_left_out", 0) > len(left_out):
            say(f"[yellow]left out[/] and {provenance['num_left_out'] - len(left_out):,} more")
        for text in assumed_lines(store.info.assumptions):
            say(f"[yellow]assumed[/] {shown(text, 500)}")
