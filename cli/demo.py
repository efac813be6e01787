"""`zoo demo`: from images to a benchmark's report on handwritten digits, in about two minutes."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import MAX_SEED, JsonOption, note, print_json, progress_bars, say, show_grid, shown

if TYPE_CHECKING:
    from zootool import Zoo
    from zootool.progress import Reporter

# Shared initialisation, because with random ones two minutes of training on two cores stay at chance.
DEMO_RECIPE = {"init": "shared", "steps": 1000, "copies": 0}


def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Initial weights and order of batches.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Build a zoo of 1,797 SIRENs, convert it, train INR2JLS on it, classify, report. What is done is skipped.

    Example: zoo demo
    """
    started = time.perf_counter()
    tell = note if as_json else say
    with progress_bars() as report:
        zoo = _build_and_convert(out, seed, report, tell)
        outcome = _benchmark(zoo, out, seed, report, tell)
    results = _finish(zoo, out, outcome, time.perf_counter() - started)
    if as_json:
        print_json(results)
    else:
        _show(results, out)


def _build_and_convert(out: Path, seed: int, report: "Reporter", tell: Callable[[str], None]) -> "Zoo":
    from zootool import open_zoo
    from zootool.conversion.ensure import ensure_zoo

    store, recipe = out / "digits.zoo", DEMO_RECIPE | {"seed": seed}
    # Looked at even where the store is there: units of another seed are refused.
    found = ensure_zoo("digits", "inr-nfn", recipe, store, units=out / "sirens", check_units=True, report=report)
    assert found.built is not None
    if found.built.built:
        tell(f"built {found.built.built:,} SIRENs")
    else:
        tell(f"[yellow]skipped[/] building: {found.built.found:,} SIRENs are there")
    if found.converted:
        tell(f"converted them into {shown(store)}")
    else:
        tell(f"[yellow]skipped[/] converting: {shown(store)} is there")
    return open_zoo(store)


def _benchmark(zoo: "Zoo", out: Path, seed: int, report: "Reporter", tell: Callable[[str], None]) -> dict[str, Any]:
    from dataclasses import asdict

    from dng.bench.classification_page import write_classification_report
    from dng.bench.harness import measure
    from dng.bench.inr_classification import INRClassification
    from dng.runs.two_stage import two_stage_preset

    preset = two_stage_preset("inr2jls", "demo").with_seed(seed)
    result = measure(INRClassification(zoo, "demo", preset), out / "run", report)
    if result.skipped:
        tell(f"[yellow]skipped[/] training: {shown(out / 'run')} holds its result")
    write_classification_report(zoo, out / "run", out / "report.html")
    return asdict(result)


def _finish(zoo: "Zoo", out: Path, outcome: dict[str, Any], seconds: float) -> dict[str, Any]:
    from zootool.files import write_json_atomic

    path = out / "results.json"
    results = {
        "test_accuracy": outcome["test_accuracy"],
        "validation_accuracy": outcome["validation_accuracy"],
        "psnr_mean": float(zoo.nets["psnr"].mean()),
        "num_networks": len(zoo),
        "initialisation": zoo.info.recipe.get("init"),
        "zoo_id": zoo.id,
        "seconds": seconds,
    }
    if outcome["skipped"] and path.exists():
        # A run that only found everything in its place says how long the work took, not how long looking took.
        results["seconds"] = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    write_json_atomic(path, results)
    return results


def _show(results: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    table = Table(title="INR classification on handwritten digits", show_header=False)
    table.add_row("test accuracy", f"[bold]{results['test_accuracy']:.1%}[/]")
    table.add_row("validation accuracy", f"{results['validation_accuracy']:.1%}")
    table.add_row("mean PSNR", f"{results['psnr_mean']:.1f} dB")
    table.add_row("networks", f"{results['num_networks']:,} SIRENs, {results['initialisation']} initialisation")
    table.add_row("time", f"{results['seconds']:.0f} s")
    show_grid(table)
    say(f"look at {shown(out / 'report.html')}; the numbers are in {shown(out / 'results.json')}")
