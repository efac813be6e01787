"""`zoo export`, `subset` and `merge`: networks of stores as files, as a smaller store, or as a larger one."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.console import JsonOption, answer, progress_bars, shown
from cli.groups import NewNameOption, NewStoreArgument, StoreArgument
from zootool.errors import UsageError

_WHERE = typer.Option(help='Which networks: split=test,label=3|5, or "psnr > 40 and label != 3".')


def export(
    store: StoreArgument,
    destination: Annotated[Path, typer.Argument(help="The folder to write.")],
    layout: Annotated[
        Literal["safetensors", "torch", "nfn"], typer.Option(help="File format and names.")
    ] = "safetensors",
    where: Annotated[str | None, _WHERE] = None,
    as_json: JsonOption = False,
) -> None:
    """Write every network's state_dict as a file of its own, bit for bit what was converted.

    The layout nfn has the folders that the neural-functional papers' loaders read.

    Example: zoo export digits.zoo files/ --layout nfn
    """
    from zootool.zoo import open_zoo
    from zootool.zoo.export import export as write_files

    selected = open_zoo(store).select(where=where)
    with progress_bars() as report:
        count = write_files(selected, destination, layout, report=report)
    answer(
        as_json,
        {"path": str(destination), "layout": layout, "num_networks": count},
        f"[green]wrote[/] {count:,} networks to {shown(destination)}",
    )


def subset(
    store: StoreArgument,
    destination: NewStoreArgument,
    where: Annotated[str, _WHERE],
    name: NewNameOption = None,
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
    answer(
        as_json,
        {"path": str(destination), "id": zoo_id, "num_networks": len(selected)},
        f"[green]wrote[/] {shown(destination)}: {len(selected):,} of {len(zoo):,} networks, id {zoo_id[:16]}",
    )


def merge(
    stores: Annotated[list[str], typer.Argument(help="Two or more stores, folders or URLs, then the one to write.")],
    name: NewNameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the networks of several stores as a new one, the last named.

    Columns are united, the column `origin` says where a network comes from, and equal networks are counted.

    Example: zoo merge mnist.zoo fashion.zoo both.zoo
    """
    from zootool.store import open_store
    from zootool.store.merge import merge_stores

    if len(stores) < 3:
        raise UsageError("merging needs two stores and a destination", hint="zoo merge A.zoo B.zoo C.zoo")
    destination = Path(stores[-1])
    with progress_bars() as report:
        opened = [open_store(store) for store in stores[:-1]]
        merged = merge_stores(opened, destination, name or destination.stem, report=report)
    lost = "[yellow]images stayed behind[/]: they come along where every store carries some, all of one shape"
    twice = f"[yellow]{merged.num_duplicates:,} networks[/] have the same weights as an earlier one"
    answer(
        as_json,
        {"path": str(destination), **vars(merged)},
        f"[green]wrote[/] {shown(destination)}: {merged.num_networks:,} networks, id {merged.zoo_id[:16]}",
        lost if merged.lost_images else "",
        twice if merged.num_duplicates else "",
    )
