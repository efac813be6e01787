"""`zoo pull`: fetch a published zoo, or a part of it."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown


def pull(
    url: Annotated[str, typer.Argument(help="Where the zoo is; URL@ID takes that version and no other.")],
    destination: Annotated[Path | None, typer.Argument(help="The new folder. \\[default: the URL's last part]")] = None,
    split: Annotated[str | None, typer.Option(help="Only the networks of a split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first networks.")] = None,
    where: Annotated[str | None, typer.Option(help="Which networks, such as split=test,label=3|5.")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns of the table to keep, such as label,psnr.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Files that are downloaded at once.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Fetch a published zoo, checked and resumed; a part of it becomes a zoo of its own.

    Example: zoo pull https://example.org/digits.zoo --split test --limit 1000
    """
    from zootool.share.address import parse_address
    from zootool.share.pull import pull as pull_all
    from zootool.share.pull_part import pull_part
    from zootool.zoo.where import narrowed

    address = parse_address(url)
    target = destination or Path(address.folder_name)
    conditions = where if split is None else narrowed("split", split, where)
    with progress_bars() as report:
        if conditions is not None or limit is not None or columns is not None:
            kept = None if columns is None else [name.strip() for name in columns.split(",")]
            done = pull_part(
                address, target, where=conditions, limit=limit, columns=kept, workers=workers, report=report
            )
        else:
            done = pull_all(address, target, workers=workers, report=report)
    if as_json:
        print_json({"path": str(done.path), "id": done.zoo_id, "num_files": done.num_files, "bytes": done.num_bytes})
        return
    say(f"[green]pulled[/] {shown(done.path)}: {done.num_files:,} files, id {done.zoo_id[:16]}")
    say(f"next: zoo info {shown(done.path)}")
