"""`zoo ls`, `info`, `verify` and `view`: what stores are here, what one holds, and whether it is whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cli.console import JsonOption, answer, listed, page_at, print_json, progress_bars, say, show_grid, shown
from cli.groups import StoreArgument
from zootool.errors import MissingError, UsageError, ZooError
from zootool.files import is_temporary, write_bytes_atomic

if TYPE_CHECKING:
    from zootool.zoo import Zoo


def ls(
    folder: Annotated[Path, typer.Argument(help="Where to look, also one level below.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """List the stores in a folder.

    Example: zoo ls zoos/
    """
    from zootool.store.schema import ZOO_JSON

    if not folder.is_dir():
        raise MissingError(f"there is no folder {folder}", hint="give a folder that holds stores")
    paths = [path.parent for path in [*folder.glob(f"*/{ZOO_JSON}"), *folder.glob(f"*/*/{ZOO_JSON}")]]
    found = [_described(path) for path in sorted(path for path in paths if not is_temporary(path))]
    if as_json:
        print_json({"folder": str(folder), "stores": found})
        return
    table = Table("store", "kind", "networks", "MB", "id", box=None, pad_edge=False)
    for entry in found:
        if "error" in entry:
            table.add_row(shown(entry["path"]), f"[red]{shown(entry['error'])}[/]")
        else:
            size = f"{entry['bytes'] / 1e6:,.1f}"
            table.add_row(
                shown(entry["path"]), shown(entry["kind"]), f"{entry['num_networks']:,}", size, entry["id"][:16]
            )
    show_grid(table) if found else say("no stores here")


def _described(path: Path) -> dict[str, Any]:
    from zootool.store import open_store

    try:
        store = open_store(path)
    except ZooError as error:
        return {"path": str(path), "error": error.message}
    known = {"name": store.info.name, "kind": store.info.kind, "num_networks": len(store)}
    return {"path": str(path), **known, "bytes": store.manifest.num_bytes, "id": store.zoo_id}


def info(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Show what a store holds: networks, architectures, columns, images, recipe.

    Example: zoo info digits.zoo
    """
    from zootool.zoo import open_zoo

    summary = _summary(open_zoo(store))
    print_json(summary) if as_json else _show_summary(summary)


def _summary(zoo: "Zoo") -> dict[str, Any]:
    """The store as plain JSON values."""
    from zootool.columns.values import counted

    return zoo.info.to_dict() | {
        "id": zoo.id,
        "path": zoo.store.storage.name,
        "bytes": zoo.store.manifest.num_bytes,
        "columns": list(zoo.nets.columns),
        "splits": counted(zoo.nets.to_arrow(["split"])["split"]) if "split" in zoo.nets else {},
        "architectures": {
            signature: {"family": a.family, "node_counts": list(a.node_counts), "num_edges": a.num_edges}
            for signature, a in zoo.architectures.items()
        },
    }


def _show_summary(summary: dict[str, Any]) -> None:
    from zootool.store.schema import assumed_lines

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("name", shown(summary["name"]))
    table.add_row("id", summary["id"])
    table.add_row("store", f"{shown(summary['path'])}, format {shown(summary['format_version'])}")
    table.add_row("networks", f"{summary['num_networks']:,} ({summary['bytes'] / 1e6:,.1f} MB)")
    for signature, architecture in summary["architectures"].items():
        widths = "-".join(map(str, architecture["node_counts"]))
        table.add_row("architecture", shown(f"{signature}: {architecture['family']} {widths}"))
    for text in assumed_lines(summary.get("assumptions", {})):
        table.add_row("assumed", shown(text, 500))
    if summary["splits"]:
        table.add_row("splits", listed(f"{name} {count:,}" for name, count in summary["splits"].items()))
    for source in summary.get("sources", ()):
        table.add_row("images", shown(f"{source['name']} ({source.get('terms') or 'terms unknown'})"))
    table.add_row("columns", listed(summary["columns"]))
    provenance = summary.get("provenance", {})
    for text in provenance.get("notes", []):
        table.add_row("note", shown(text))
    if provenance.get("left_out"):
        first = "; ".join(f"{left['file']}: {left['reason']}" for left in provenance["left_out"][:3])
        count = provenance.get("num_left_out", len(provenance["left_out"]))
        table.add_row("left out", shown(f"{count:,} files: {first}{'; ...' if count > 3 else ''}"))
    for key, value in summary.get("recipe", {}).items():
        table.add_row(f"recipe.{shown(key)}", shown(value))
    show_grid(table)


def verify(
    store: StoreArgument,
    quick: Annotated[bool, typer.Option("--quick", help="Only the manifest, names and sizes.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Every digest, but no network is rebuilt.")] = False,
    functional: Annotated[bool, typer.Option("--functional", help="All of it, the default.")] = False,
    sample: Annotated[int, typer.Option(min=1, help="How many networks are rebuilt.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Which networks are rebuilt.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check a store: digests, chunks, offsets, every architecture run once, a sample of networks measured again.

    Example: zoo verify digits.zoo
    """
    from zootool.zoo import verify as verify_store

    if quick + deep + functional > 1:
        raise UsageError("--quick, --deep and --functional exclude each other", hint="give one of them, or none")
    level = "quick" if quick else "deep" if deep else "functional"
    with progress_bars() as report:
        result = verify_store(store, level, sample=sample, seed=seed, report=report)
    if as_json:
        print_json({"path": store, "level": level, "passed": result.passed, **vars(result)})
    result.raise_problems(store)
    if not as_json:
        say(f"[green]passed[/] {shown(store)}: {result.num_networks:,} networks; checked {', '.join(result.checked)}")
        for part in result.skipped:
            say(f"[yellow]skipped[/] {shown(part)}")


def view(
    store: StoreArgument,
    out: Annotated[Path | None, typer.Option("--out", help="The page. \\[default: view.html in the store]")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    sample: Annotated[int, typer.Option(min=1, max=2000, help="About how many networks it shows.")] = 160,
    seed: Annotated[int, typer.Option(min=0, help="Which networks it shows.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML file that shows a store; it works without a network.

    Example: zoo view digits.zoo --open
    """
    from zootool.share.view import view_page
    from zootool.zoo import open_zoo

    zoo = open_zoo(store)
    if out is None and not Path(store).is_dir():
        raise UsageError(f"{store} isn't a folder here", hint=f"zoo view {store} --out view.html")
    default = Path(store) / "view.html"
    place = default if out is None or out.resolve() == default.resolve() else page_at(out)
    page = view_page(zoo, size=sample, seed=seed)
    write_bytes_atomic(place, page)
    if open_it:
        typer.launch(place.resolve().as_uri())
    answer(
        as_json,
        {"path": str(place), "bytes": len(page), "id": zoo.id},
        f"[green]wrote[/] {shown(place)} ({len(page) / 1e6:.2f} MB)",
    )
