"""`zoo bench forward-fit`: how well static and dynamic graphs fit an MLP's forward pass."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown


def forward_fit(
    preset: Annotated[str, typer.Option(help="full (40 epochs) or quick (12).")] = "full",
    seeds: Annotated[int, typer.Option(min=1, help="How often each network is trained, on MLPs of its own.")] = 3,
    out: Annotated[Path | None, typer.Option(help="The run's folder. \\[default: runs/forward-fit-PRESET]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the activations of random MLPs on a static and on a dynamic graph. Stopped early? Run it again.

    Example: zoo bench forward-fit --preset quick --seeds 1
    """
    from dataclasses import asdict

    from cli.console import show_table
    from dng.bench.forward_fit import forward_fit_preset, run_forward_fit

    folder = out or Path("runs") / f"forward-fit-{preset}"
    settings = forward_fit_preset(preset)
    with progress_bars() as report:
        result = run_forward_fit(preset, settings, seeds, folder, report=report)
    if as_json:
        print_json(asdict(result) | {"folder": str(folder)})
        return
    if result.skipped:
        say(f"[yellow]skipped[/]: {shown(folder)} holds this run's result")
    show_table(result.table())
    say(f"look at {shown(folder / 'report.html')}; the numbers are in {shown(folder / 'results.json')}")
