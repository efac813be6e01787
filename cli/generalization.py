"""`zoo bench generalization`: predict classifiers' test accuracy from their weights."""

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import JsonOption, note, print_json, progress_bars, say, shown
from cli.options import DeviceOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zootool import Zoo
    from zootool.progress import Reporter

DEFAULT_RUNS = 300
DEFAULT_RECIPE: dict[str, Any] = {"split_ratios": [0.6, 0.1, 0.3]}
"""180 runs to learn from, 30 to pick by, 90 to test on."""


def generalization(
    zoo: Annotated[str | None, typer.Option(help="A store of classifiers. \\[default: build 300 digits CNNs]")] = None,
    model: Annotated[
        str, typer.Option(help="With commas: dng, statistics, flat-mlp, nfn-hnp, nfn-np, nft, ng-gnn, ng-t, stat-nn.")
    ] = "dng,statistics,flat-mlp",
    seeds: Annotated[int, typer.Option(min=1, help="How often each model is trained.")] = 3,
    preset: Annotated[str, typer.Option(help="demo, quick (a minute a seed on two cores) or paper.")] = "quick",
    target: Annotated[str, typer.Option(help="The column of accuracies.")] = "test_accuracy",
    budget: Annotated[
        int | None, typer.Option(min=1, help="Parameters of each published method. \\[default: as many as dng's]")
    ] = None,
    device: DeviceOption = "cpu",
    out: Annotated[Path | None, typer.Option(help="Its folder. \\[default: runs/ZOO-generalization-PRESET]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train predictors of test accuracy on a zoo's weights, and report Kendall's tau. Stopped early? Run it again.

    Example: zoo bench generalization --zoo cnns.zoo --model dng,statistics
    """
    from cli.console import show_table
    from dng.bench.generalization.report import results_table, write_report
    from dng.bench.generalization.run import run_generalization
    from dng.runs.on_zoo import Place
    from dng.training.distributed import local_device
    from zootool import open_zoo

    place = Place(local_device(device))
    with progress_bars() as report:
        opened = open_zoo(zoo) if zoo else _digits_cnns(Path("zoos"), report, note if as_json else say)
        folder = out or Path("runs") / f"{opened.info.name}-generalization-{preset}"
        result = run_generalization(
            opened, preset, model.split(","), seeds, folder, target=target, num_parameters=budget, place=place,
            report=report,
        )  # fmt: skip
        page = write_report(result, opened, folder)
    if as_json:
        print_json(_plain(result) | {"folder": str(folder)})
        return
    if result.skipped:
        say(f"[yellow]skipped[/]: {shown(folder)} holds these runs' results")
    for text in result.notes:
        say(f"[yellow]note[/] {shown(text)}")
    show_table(results_table(result))
    say(f"look at {shown(page)}; the numbers are in {shown(folder / 'results.json')}")


def _plain(result: Any) -> dict[str, Any]:
    from dataclasses import asdict

    scores = {}
    for model in result.models:
        means = {name: _mean([getattr(found, name) for found in model.last]) for name in ("kendall_tau", "r2", "mae")}
        means["kendall_tau_all_checkpoints"] = _mean([found.kendall_tau for found in model.all_checkpoints])
        objection = result.objection(model.model)
        if objection:
            means |= {name: None for name in means if name != "mae"}
        scores[model.model] = means | {"interval": model.interval, "objection": objection}
    return {"scores": scores, **asdict(result)}


def _mean(values: "Sequence[float | None]") -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _digits_cnns(folder: Path, report: "Reporter", tell: Any) -> "Zoo":
    """The zoo of 300 digits CNNs, built and converted where it isn't there."""
    from zootool import open_zoo
    from zootool.conversion.ensure import ensure_zoo

    store = folder / "digits-cnn-300.zoo"
    found = ensure_zoo("digits", "small-cnn", DEFAULT_RECIPE, store, runs=DEFAULT_RUNS, report=report)
    if found.built:
        tell(f"built {found.built.built:,} CNNs on digits")
        tell(f"converted their checkpoints into {shown(store)}")
    return open_zoo(store)
