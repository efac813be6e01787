"""`zoo bench efficiency`: what the models cost, beside what was published."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown


def efficiency(
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=2, help="Networks in the larger of the two batches.")] = 64,
    runs: Annotated[int, typer.Option(min=5, help="Timed runs behind a warm-up; slow models get fewer.")] = 30,
    rivals: Annotated[
        bool, typer.Option("--rivals/--no-rivals", help="With the published methods, which takes longer.")
    ] = True,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables into this file too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure parameters, FLOPs, peak memory and latency, as the paper writes the models and as we compute them.

    Example: zoo bench efficiency --markdown efficiency.md
    """
    from dataclasses import asdict

    from cli.console import show_table
    from dng.bench.efficiency import PUBLISHED, efficiency_cases, rival_cases, run_efficiency
    from zootool.files import check_writable, write_bytes_atomic

    if markdown is not None:
        check_writable(markdown)
    cases = efficiency_cases() + (rival_cases() if rivals else [])
    with progress_bars() as report:
        result = run_efficiency(cases, device, batch_size, runs, report=report)
    tables = (*result.tables(), *PUBLISHED)
    if markdown is not None:
        write_bytes_atomic(markdown, "\n".join(table.markdown() for table in tables).encode("utf-8"))
    if as_json:
        print_json(asdict(result) | {"published": [asdict(table) for table in PUBLISHED]})
        return
    for table in tables:
        show_table(table)
    if markdown is not None:
        say(f"[green]wrote[/] {shown(markdown)}")
