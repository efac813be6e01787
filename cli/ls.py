"""`zoo ls`: the stores in a folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import JsonOption, print_json, say, show_table, shown


def ls(
    folder: Annotated[Path, typer.Argument(help="Where to look, also one level below.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """List the stores in a folder.

    Example: zoo ls zoos/
    """
    from zootool.errors import MissingError

    if not folder.is_dir():
        raise MissingError(f"there is no folder {folder}", hint="give a folder that holds stores")
    found = [_describe(path) for path in _candidates(folder)]
    if as_json:
        print_json({"folder": str(folder), "stores": found})
        return
    from rich.table import Table

    table = Table("store", "kind", "networks", "MB", "id", box=None, pad_edge=False)
    for entry in found:
        if "error" in entry:
            table.add_row(shown(entry["path"]), f"[red]{shown(entry['error'])}[/]")
        else:
            size = f"{entry['bytes'] / 1e6:,.1f}"
            table.add_row(
                shown(entry["path"]), shown(entry["kind"]), f"{entry['num_networks']:,}", size, entry["id"][:16]
            )
    show_table(table) if found else say("no stores here")


def _candidates(folder: Path) -> list[Path]:
    from zootool.files import is_temporary
    from zootool.store.schema import ZOO_JSON

    found = [path.parent for path in [*folder.glob(f"*/{ZOO_JSON}"), *folder.glob(f"*/*/{ZOO_JSON}")]]
    return sorted(path for path in found if not is_temporary(path))


def _describe(path: Path) -> dict[str, Any]:
    from zootool.errors import ZooError
    from zootool.store import open_store

    try:
        store = open_store(path)
    except ZooError as error:
        return {"path": str(path), "error": error.message}
    size = sum(entry.size for entry in store.manifest.files.values())
    return {
        "path": str(path),
        "name": store.info.name,
        "kind": store.info.kind,
        "num_networks": len(store),
        "bytes": size,
        "id": store.zoo_id,
    }
