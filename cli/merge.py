"""`zoo merge`: several stores as one."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown


def merge(
    stores: Annotated[list[str], typer.Argument(help="Two or more stores, folders or URLs, then the one to write.")],
    name: Annotated[str | None, typer.Option(help="The new zoo's name; by default the destination's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the networks of several stores as a new one, the last named.

    Columns are united, the column `origin` says where a network comes from, and equal networks are counted.

    Example: zoo merge mnist.zoo fashion.zoo both.zoo
    """
    from zootool.errors import UsageError
    from zootool.store import open_store
    from zootool.store.merge import merge_stores

    if len(stores) < 3:
        raise UsageError("merging needs two stores and a destination", hint="zoo merge A.zoo B.zoo C.zoo")
    destination = Path(stores[-1])
    with progress_bars() as report:
        opened = [open_store(store) for store in stores[:-1]]
        merged = merge_stores(opened, destination, name or destination.stem, report=report)
    if as_json:
        print_json({"path": str(destination), **vars(merged)})
        return
    say(f"[green]wrote[/] {shown(destination)}: {merged.num_networks:,} networks, id {merged.zoo_id[:16]}")
    if merged.lost_images:
        say("[yellow]images stayed behind[/]: they come along where every store carries some, all of one shape")
    if merged.num_duplicates:
        say(f"[yellow]{merged.num_duplicates:,} networks[/] have the same weights as an earlier one")
