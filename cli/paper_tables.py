"""`zoo bench tables`: the paper's tables, at the scale that a machine can bear."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.console import JsonOption, note, print_json, progress_bars, say, shown
from cli.options import DeviceOption

if TYPE_CHECKING:
    from zootool import Zoo
    from zootool.progress import Reporter

# The tables that each zoo is for, its name, its recipe with what is overridden, and its runs.
_DIGITS_ZOOS: tuple[tuple[set[int], str, str, dict[str, Any], int | None], ...] = (
    ({1, 7}, "digits-sirens", "inr-nfn", {"init": "shared", "steps": 1000, "copies": 0}, None),
    ({2}, "digits-cnns", "small-cnn", {"split_ratios": [0.6, 0.1, 0.3]}, 120),
    ({8}, "digits-vits", "simple-vit", {"split_ratios": [0.5, 0.1, 0.4]}, 60),
)


def tables(
    scale: Annotated[str, typer.Option(help="demo (allow 20 minutes on two cores), cpu (hours) or paper.")] = "demo",
    only: Annotated[str, typer.Option(help="Which of the paper's tables.")] = "1,2,5,7,8",
    zoo: Annotated[
        list[str] | None, typer.Option(help="Stores to run on, several times. \\[default: build zoos on digits]")
    ] = None,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="Who measures the cells.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Cells at a time, of one thread each. \\[default: one per processor, 1 on a GPU]")
    ] = None,
    address: Annotated[str | None, typer.Option(help="The Ray cluster's. \\[default: start Ray here]")] = None,
    device: DeviceOption = "cpu",
    unit: Annotated[str | None, typer.Option(help="I/N: every N-th cell, from cell I on (0/4 to 3/4).")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. \\[default: runs/tables-SCALE]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the paper's tables cell by cell, ours beside the published numbers. Stopped early? Run it again.

    Example: zoo bench tables --scale demo
    """
    from dataclasses import asdict

    from cli.console import show_table
    from dng.bench.tables import put_together, run_tables, table_jobs
    from dng.bench.tables import scale as scale_of
    from zootool.build.builder import available_threads
    from zootool.build.extents import parse_share
    from zootool.engines.engine import choose_engine

    scale_of(scale)
    chosen, share = _numbers(only), parse_share(unit) or (0, 1)
    if workers is None and engine == "local" and device == "cpu":
        workers = available_threads()
    how = choose_engine(engine, workers=workers, address=address)
    folder = out or Path("runs") / f"tables-{scale}"
    tell = note if as_json else say
    with progress_bars() as report:
        zoos = _opened(zoo) if zoo else _digits_zoos(chosen, report, tell)
        jobs = table_jobs(zoos, chosen, scale, folder, device)
        result = run_tables(jobs, scale, folder, engine=how, share=share, report=report)
        if 5 in chosen and share[0] == 0:
            # Behind the cells, when nothing else takes the machine's time.
            _measure_costs(scale, folder, report)
            result = put_together(jobs, scale, folder)
    if as_json:
        print_json(asdict(result) | {"folder": str(folder)})
        return
    for table in (*result.tables(), *result.costs):
        show_table(table)
    if lacking := chosen - {5, *(job.table for job in jobs)}:
        say(f"[yellow]left out[/]: no zoo here fits Table {', '.join(map(str, sorted(lacking)))}")
    if result.missing:
        say(f"[yellow]not measured yet[/]: {len(result.missing)} cells, which other shares or processes have")
    say(f"look at {shown(folder / 'report.html')}; the numbers are in {shown(folder / 'results.json')}")


def _numbers(text: str) -> set[int]:
    from zootool.errors import UsageError, printable

    try:
        return {int(word) for word in text.split(",")}
    except ValueError as error:
        raise UsageError(f"can't read --only {printable(text, 60)}", hint="write it like --only 1,2,7") from error


def _opened(paths: list[str]) -> "list[Zoo]":
    """Stores by absolute path, which workers elsewhere find too."""
    from zootool import open_zoo

    return [open_zoo(path if "://" in path else Path(path).resolve()) for path in paths]


def _measure_costs(scale: str, folder: Path, report: "Reporter") -> None:
    import torch

    from dng.bench.efficiency import efficiency_cases, rival_cases
    from dng.bench.tables import measure_costs

    batch_size, runs = (2, 5) if scale == "demo" else (64, 30)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        measure_costs([*efficiency_cases(), *rival_cases()], device, batch_size, runs, folder, report)


def _digits_zoos(chosen: set[int], report: "Reporter", tell: Any) -> "list[Zoo]":
    """Zoos of digits for the tables that are asked for, built and converted where they aren't there."""
    from zootool import open_zoo
    from zootool.conversion.ensure import ensure_zoo

    found = []
    for tables, name, recipe, overrides, runs in _DIGITS_ZOOS:
        if tables & chosen:
            store = Path("zoos") / f"tables-{name}.zoo"
            if ensure_zoo("digits", recipe, overrides, store, runs=runs, report=report).converted:
                tell(f"built {shown(store)}")
            found.append(open_zoo(store))
    return found
