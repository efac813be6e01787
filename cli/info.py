"""`zoo info`: what a store holds."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import JsonOption, listed, print_json, show_table, shown

if TYPE_CHECKING:
    from zootool.zoo import Zoo


def info(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a store holds: networks, architectures, columns, images, recipe.

    Example: zoo info digits.zoo
    """
    from zootool.zoo import open_zoo

    zoo = open_zoo(store)
    summary = summarise(zoo)
    if as_json:
        print_json(summary)
    else:
        _print(summary)


def summarise(zoo: "Zoo") -> dict[str, Any]:
    """The store as plain JSON values."""
    from zootool.columns.values import counted

    size = sum(entry.size for entry in zoo.store.manifest.files.values())
    return zoo.info.to_dict() | {
        "id": zoo.id,
        "path": zoo.store.storage.name,
        "bytes": size,
        "columns": list(zoo.nets.columns),
        "splits": counted(zoo.nets.to_arrow(["split"])["split"]) if "split" in zoo.nets else {},
        "architectures": {
            signature: {"family": a.family, "node_counts": list(a.node_counts), "num_edges": a.num_edges}
            for signature, a in zoo.architectures.items()
        },
    }


def _print(summary: dict[str, Any]) -> None:
    from rich.table import Table

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
    show_table(table)
