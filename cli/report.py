"""`zoo report`: a finished benchmark run as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import page_at, say, shown


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a finished `zoo bench` run.")],
    zoo: Annotated[str, typer.Option(help="The store that the run was made on.")],
    out: Annotated[Path | None, typer.Option(help="The page to write. \\[default: RUN/report.html]")] = None,
) -> None:
    """Write a run's report: one HTML file with its pictures inside.

    Example: zoo report runs/digits-demo-0 --zoo digits.zoo
    """
    from dng.bench.classification_page import write_classification_report
    from zootool import open_zoo

    path = page_at(out or run / "report.html")
    write_classification_report(open_zoo(zoo), run, path)
    say(f"[green]wrote[/] {shown(path)}")
