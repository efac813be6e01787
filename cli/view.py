"""`zoo view`: a store on one page."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, page_at, print_json, say, shown


def view(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page. \\[default: view.html in the store]")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    sample: Annotated[int, typer.Option(min=1, max=2000, help="About how many networks it shows.")] = 160,
    seed: Annotated[int, typer.Option(min=0, help="Which networks it shows.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML file that shows a store; it works without a network.

    Example: zoo view digits.zoo --open
    """
    from zootool.errors import UsageError
    from zootool.files import write_bytes_atomic
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
    if as_json:
        print_json({"path": str(place), "bytes": len(page), "id": zoo.id})
    else:
        say(f"[green]wrote[/] {shown(place)} ({len(page) / 1e6:.2f} MB)")
