"""`zoo bench editing`: change what SIRENs show by changing their weights."""

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown

if TYPE_CHECKING:
    from dng.bench.editing.results import EditingResult


def editing(
    zoo: Annotated[str, typer.Option(help="A store of SIRENs with splits, whose source images are here.")],
    model: Annotated[str, typer.Option(help="nfn-hnp, nfn-np, ng-gnn, ng-t, dng; several with commas.")] = (
        "nfn-hnp,nfn-np,ng-gnn,ng-t,dng"
    ),
    edit: Annotated[str, typer.Option(help="dilate, erode, gradient, contrast, sharpen; several with commas.")] = (
        "dilate"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How often each model is trained.")] = 3,
    preset: Annotated[str, typer.Option(help="quick (a minute a model on two cores) or paper.")] = "quick",
    out: Annotated[Path | None, typer.Option(help="The run's folder. \\[default: runs/ZOO-editing-PRESET]")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Train editors of SIRENs' weights, and compare what edited SIRENs render. Stopped early? Run it again.

    Example: zoo bench editing --zoo digits.zoo --model nfn-hnp,ng-gnn --edit dilate
    """
    from cli.console import show_table
    from dng.bench.editing.report import results_tables, write_report
    from dng.bench.editing.run import run_editing
    from dng.runs.on_zoo import Place
    from dng.training.distributed import local_device
    from zootool import open_zoo

    opened, place = open_zoo(zoo), Place(local_device(device))
    folder = out or Path("runs") / f"{opened.info.name}-editing-{preset}"
    names = model.split(","), edit.split(",")
    with progress_bars() as report:
        result = run_editing(opened, preset, *names, seeds, folder, place=place, report=report)
        page = write_report(result, folder)
    if as_json:
        print_json(_plain(result) | {"folder": str(folder)})
        return
    if result.skipped:
        say(f"[yellow]skipped[/]: {shown(folder)} holds these runs' results")
    for table in results_tables(result):
        show_table(table)
    say(f"look at {shown(page)}; the numbers are in {shown(folder / 'results.json')}")


def _plain(result: "EditingResult") -> dict[str, Any]:
    from dataclasses import asdict

    scores = {
        found.edit: {"no-edit": found.no_edit, "edit-of-the-rendering": found.edited_rendering}
        | {method.method: fmean(method.test_mse) for method in found.methods}
        for found in result.edits
    }
    return {"scores": scores, **asdict(result)}
