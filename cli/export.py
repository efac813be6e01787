"""`zoo export`: a store's networks as the files that other tools read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown


class LayoutName(StrEnum):
    """How exported files are named and written."""

    safetensors = "safetensors"
    torch = "torch"
    nfn = "nfn"


def export(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write.")],
    layout: Annotated[LayoutName, typer.Option(help="File format and names.")] = LayoutName.safetensors,
    where: Annotated[
        str | None, typer.Option(help='Which networks: split=test,label=3|5, or "psnr > 40 and label != 3".')
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write every network's state_dict as a file of its own, bit for bit what was converted.

    The layout nfn has the folders that the neural-functional papers' loaders read.

    Example: zoo export digits.zoo files/ --layout nfn
    """
    from zootool.zoo import open_zoo
    from zootool.zoo.export import export as write_files

    zoo = open_zoo(store)
    selected = zoo if where is None else zoo.select(where=where)
    with progress_bars() as report:
        count = write_files(selected, destination, layout.value, report=report)
    if as_json:
        print_json({"path": str(destination), "layout": layout.value, "num_networks": count})
    else:
        say(f"[green]wrote[/] {count:,} networks to {shown(destination)}")
