"""`zoo collect`: fetch a published zoo that datasets.yaml names."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import JsonOption, answer, errors, print_json, progress_bars, say, shown
from zootool.errors import UsageError

if TYPE_CHECKING:
    from zootool.formats.published_zoo import CollectPlan

_BIG_BYTES = 1 << 30


def collect(
    name: Annotated[str | None, typer.Argument(help="A zoo of datasets.yaml. \\[default: list them]")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Where it goes. \\[default: the data folder]")] = None,
    path: Annotated[Path | None, typer.Option(help="What you fetched by hand: checked, its digest recorded.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be fetched, and fetch nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Fetch large files without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a published zoo, checked and resumed; `zoo convert` reads it then.

    Example: zoo collect cnn-wild-park --plan
    """
    from zootool.catalog import load_catalog
    from zootool.data_dir import data_folders
    from zootool.formats.published_zoo import collect_by_hand, collect_zoo, plan_collection

    if name is None:
        zoos = load_catalog().zoos
        answer(
            as_json,
            {name: {"title": zoo.title, "page": zoo.page} for name, zoo in zoos.items()},
            *(
                f"{name:<26} {shown(zoo.title)}{'' if zoo.files else ' (by hand: see --plan)'}"
                for name, zoo in zoos.items()
            ),
        )
        return
    if Path(name).exists():
        raise UsageError(f"{name} is here already", hint=f"zoo show {name}, then zoo convert {name} NAME.zoo")
    zoo = load_catalog().zoo(name)
    place = folder or data_folders()[0].path / "zoos"
    digest = None
    if path is None:
        found = plan_collection(zoo, place)
        if plan:
            print_json(asdict(found) | {"folder": str(place)}) if as_json else _show(found)
            return
        if found.to_fetch and not yes and (found.num_bytes is None or found.num_bytes > _BIG_BYTES):
            _show(found)
            if not errors.is_terminal or not typer.confirm("Fetch it?", err=True):
                raise UsageError("the download may be large", hint="look at --plan, then say --yes")
        with progress_bars() as report:
            path = collect_zoo(name, zoo, place, report=report)
    else:
        with progress_bars() as report:
            digest = collect_by_hand(name, zoo, path, place, report)
    answer(
        as_json,
        {"name": name, "path": str(path), "format": zoo.layout, "licence": zoo.licence, "digest": digest},
        f"[green]checked[/] {shown(path)}, digest {digest[:16]}" if digest else f"[green]fetched[/] {shown(path)}",
        f"next: zoo convert {shown(path)} {name}.zoo --format {zoo.layout}",
    )


def _show(found: "CollectPlan") -> None:
    say(f"title    {shown(found.title)}")
    say(f"page     {shown(found.page)}")
    say(f"licence  {shown(found.licence)}")
    say(f"cite     {shown(found.citation)}")
    say(f"folder   {shown(found.folder)}")
    size = "size not published" if found.num_bytes is None else f"{found.num_bytes / 1e6:,.1f} MB"
    say(f"fetch    {shown(', '.join(found.to_fetch)) or 'nothing'} ({size})")
    for path in found.unpinned:
        say(f"[yellow]no checksum[/] was published for {shown(path)}: its first digest is kept and compared")
