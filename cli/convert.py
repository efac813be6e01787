"""`zoo convert`: from anything that holds networks to a store."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown


def convert(
    source: Annotated[Path, typer.Argument(help="A folder that `zoo build` wrote.")],
    destination: Annotated[Path, typer.Argument(help="The store to write, NAME.zoo.")],
    name: Annotated[str | None, typer.Option(help="The zoo's name; by default the store's.")] = None,
    zstd: Annotated[int | None, typer.Option(min=-7, max=22, help="Compress chunks at this zstd level.")] = None,
    keep_nonfinite: Annotated[
        bool,
        typer.Option("--keep-nonfinite", help="Keep networks with NaN or infinite weights, marked is_finite=false."),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read and check; never changes a byte.")] = 2,
    json: JsonOption = False,
) -> None:
    """Convert networks into a store: one folder with all weights, checked and fast to read.

    Example: zoo convert runs/digits digits.zoo
    """
    from zootool.convert import convert as convert_networks
    from zootool.store import WriteOptions
    from zootool.zoo import open_zoo

    options = WriteOptions(workers, zstd, "keep" if keep_nonfinite else "refuse")
    with progress_bars() as report:
        zoo_id = convert_networks(source, destination, name=name, options=options, report=report)
    zoo = open_zoo(destination)
    if json:
        print_json({"path": str(destination), "id": zoo_id, "num_networks": len(zoo)})
    else:
        say(f"[green]wrote[/] {shown(destination)}: {len(zoo):,} networks, id {zoo_id[:16]}")
