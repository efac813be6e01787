"""`zoo subset`: a selection of a store as a store of its own."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown


def subset(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
    destination: Annotated[Path, typer.Argument(help="The store to write, NAME.zoo.")],
    where: Annotated[str, typer.Option(help='Which networks: split=test,label=3|5, or "psnr > 40 and label != 3".')],
    name: Annotated[str | None, typer.Option(help="The new zoo's name; by default the destination's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the networks that meet all conditions as a new store.

    Example: zoo subset digits.zoo threes.zoo --where split=test,label=3
    """
    from zootool.zoo import open_zoo
    from zootool.zoo.export import subset as write_subset

    zoo = open_zoo(store)
    selected = zoo.select(where=where)
    with progress_bars() as report:
        zoo_id = write_subset(selected, destination, name=name, report=report)
    if as_json:
        print_json({"path": str(destination), "id": zoo_id, "num_networks": len(selected)})
    else:
        say(f"[green]wrote[/] {shown(destination)}: {len(selected):,} of {len(zoo):,} networks, id {zoo_id[:16]}")
