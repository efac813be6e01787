"""`zoo bench`: the field's benchmarks, one command each.

A command reads its options into a `dng.bench.harness.Benchmark` and hands that to `_run`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.console import MAX_SEED, JsonOption, note, print_json, progress_bars, say, show_table, shown
from cli.groups import DeviceOption
from dng.methods.registry import EDITORS, PREDICTORS, READERS, TWO_STAGE
from zootool.errors import UsageError, did_you_mean, printable

if TYPE_CHECKING:
    from dng.bench.harness import Benchmark
    from dng.bench.inr_classification import ClassificationResult
    from dng.runs.on_zoo import Place
    from zootool.progress import Reporter

EDITING = (*EDITORS, "dng")

DIGITS_CNNS = "small-cnn", {"split_ratios": [0.6, 0.1, 0.3]}
DEFAULT_RUNS = 300
"""180 runs to learn from, 30 to pick by, 90 to test on."""

# The tables that each zoo is for, its name, its recipe with what is overridden, and its runs.
_DIGITS_ZOOS: tuple[tuple[set[int], str, tuple[str, dict[str, Any]], int | None], ...] = (
    ({1, 7}, "digits-sirens", ("inr-nfn", {"init": "shared", "steps": 1000, "copies": 0}), None),
    ({2}, "digits-cnns", DIGITS_CNNS, 120),
    ({8}, "digits-vits", ("simple-vit", {"split_ratios": [0.5, 0.1, 0.4]}), 60),
)

app = typer.Typer(no_args_is_help=True, help="Run a benchmark on a zoo.")


@app.callback()
def bench() -> None:
    """Run a benchmark on a zoo."""


@app.command("inr-classification")
def inr_classification(
    zoo: Annotated[str, typer.Option(help="A store of INRs with labels and splits.")],
    preset: Annotated[str, typer.Option(help="demo (minutes on two cores), cpu (under an hour) or paper.")] = "demo",
    out: Annotated[Path | None, typer.Option(help="The run's folder. \\[default: runs/ZOO-PRESET-SEED]")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Initial weights, order of batches, dropout.")] = 0,
    control: Annotated[
        Literal["none", "shuffled-labels"], typer.Option(help="shuffled-labels: accuracy must fall to chance.")
    ] = "none",
    ablation: Annotated[
        str, typer.Option(help="A row of the paper's tables, such as encoder-only or no-augmentation.")
    ] = "none",
    model: Annotated[
        str,
        typer.Option(help="inr2jls or inr2array, alone; or methods to compare, with commas: dng, ng-gnn, ..."),
    ] = "inr2jls",
    seeds: Annotated[int, typer.Option(min=1, help="Of a comparison: how often each method is trained.")] = 1,
    budget: Annotated[int | None, typer.Option(min=1, help="Of a comparison: each method's parameters.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of a comparison: training steps of each method.")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Train INR2JLS on a zoo, classify its test networks from their latents. Stopped early? Run it again.

    With --model inr2array, INR2ARRAY in its place: it learns from what the networks render, without images. Both learn
    in two stages, and each runs alone. Any other --model: compare methods that classify INRs from weights and labels
    alone, at equal budget.

    Example: zoo bench inr-classification --zoo digits.zoo --preset demo
    """
    from dng.bench.comparison import ClassifierComparison, classification_budget
    from dng.bench.harness import measure
    from dng.bench.inr_classification import INRClassification
    from dng.runs.two_stage import two_stage_preset
    from zootool import open_zoo

    if model not in TWO_STAGE:
        if control != "none" or ablation != "none" or seed:
            raise UsageError("a comparison takes no --control, --ablation or --seed", hint="it has --seeds")
        names = model.split(",")
        _check_compared(zoo, names)
        equal = classification_budget(preset)
        if steps is not None:
            equal = replace(equal, training=replace(equal.training, steps=steps))
        if budget is not None:
            equal = replace(equal, num_parameters=budget)
        comparison = ClassifierComparison(open_zoo(zoo), preset, names, equal, seeds, _place(device))
        _run(comparison, out or Path("runs") / f"{Path(zoo).stem}-comparison-{preset}", as_json)
        return
    if seeds != 1 or budget is not None or steps is not None:
        raise UsageError(f"{model} alone is no comparison: no --seeds, --budget or --steps", hint="it has --seed")
    parts = [preset] + [part for part in (model, ablation) if part not in ("inr2jls", "none")]
    folder = out or Path("runs") / f"{Path(zoo).stem}-{'-'.join(parts)}-{seed}"
    settings = two_stage_preset(model, preset).with_seed(seed).with_ablation(ablation)
    alone = INRClassification(open_zoo(zoo), preset, settings, control, _place(device))
    with progress_bars() as report:
        result = measure(alone, folder, report)
    if as_json:
        print_json(alone.machine_readable(result) | {"folder": str(folder)})
    else:
        _show_accuracy(result, folder, zoo)


@app.command()
def generalization(
    zoo: Annotated[str | None, typer.Option(help="A store of classifiers. \\[default: build 300 digits CNNs]")] = None,
    model: Annotated[str, typer.Option(help=f"With commas: {', '.join(PREDICTORS)}.")] = "dng,statistics,flat-mlp",
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
    from dng.bench.generalization import Generalization
    from zootool import open_zoo

    place = _place(device)
    with progress_bars() as report:
        store = Path("zoos") / f"digits-cnn-{DEFAULT_RUNS}.zoo"
        opened = open_zoo(zoo or _ensured(store, DIGITS_CNNS, DEFAULT_RUNS, report, note if as_json else say))
    bench = Generalization(
        opened, preset, model.split(","), seeds, target=target, num_parameters=budget, place=place
    )  # fmt: skip
    _run(bench, out or Path("runs") / f"{opened.info.name}-generalization-{preset}", as_json)


@app.command("forward-fit")
def forward_fit(
    preset: Annotated[str, typer.Option(help="full (40 epochs) or quick (12).")] = "full",
    seeds: Annotated[int, typer.Option(min=1, help="How often each network is trained, on MLPs of its own.")] = 3,
    out: Annotated[Path | None, typer.Option(help="The run's folder. \\[default: runs/forward-fit-PRESET]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the activations of random MLPs on a static and on a dynamic graph. Stopped early? Run it again.

    Example: zoo bench forward-fit --preset quick --seeds 1
    """
    from dng.bench.forward_fit import ForwardFit, forward_fit_preset

    _run(ForwardFit(preset, forward_fit_preset(preset), seeds), out or Path("runs") / f"forward-fit-{preset}", as_json)


@app.command()
def editing(
    zoo: Annotated[str, typer.Option(help="A store of SIRENs with splits, whose source images are here.")],
    model: Annotated[str, typer.Option(help=f"{', '.join(EDITING)}; several with commas.")] = ",".join(EDITING),
    edit: Annotated[str, typer.Option(help="dilate, erode, gradient, contrast, sharpen; several with commas.")] = (
        "dilate"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How often each model is trained.")] = 3,
    preset: Annotated[str, typer.Option(help="quick (a minute a model on two cores) or paper.")] = "quick",
    out: Annotated[Path | None, typer.Option(help="The run's folder. \\[default: runs/ZOO-editing-PRESET]")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Train editors of SIRENs' weights, and compare what edited SIRENs render. Stopped early? Run it again.

    Example: zoo bench editing --zoo digits.zoo --model nfn-hnp,ng-gnn --edit dilate
    """
    from dng.bench.editing import Editing
    from zootool import open_zoo

    opened = open_zoo(zoo)
    bench = Editing(opened, preset, model.split(","), edit.split(","), seeds, _place(device))
    _run(bench, out or Path("runs") / f"{opened.info.name}-editing-{preset}", as_json)


@app.command()
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
    from dng.bench import tables as paper
    from dng.bench.harness import measure, put_together, write_report
    from zootool import open_zoo
    from zootool.build.builder import available_threads
    from zootool.build.extents import parse_share
    from zootool.engines.engine import choose_engine

    paper.scale(scale)
    chosen, share = _numbers(only), parse_share(unit) or (0, 1)
    if workers is None and engine == "local" and device == "cpu":
        workers = available_threads()
    how = choose_engine(engine, workers=workers, address=address)
    folder = out or Path("runs") / f"tables-{scale}"
    with progress_bars() as report:
        # By absolute path, which workers elsewhere find too.
        paths: list[str | Path] = [path if "://" in path else Path(path).resolve() for path in zoo or ()]
        for fitting, name, recipe, num_runs in () if zoo else _DIGITS_ZOOS:
            if fitting & chosen:
                store = Path("zoos") / f"tables-{name}.zoo"
                paths.append(_ensured(store, recipe, num_runs, report, note if as_json else say))
        zoos = [open_zoo(path) for path in paths]
        bench = paper.Tables(paper.table_cells(zoos, chosen), scale, device)
        result = measure(bench, folder, report, engine=how, share=share)
        if 5 in chosen and share[0] == 0:
            # Behind the cells, when nothing else takes the machine's time.
            _measure_costs(scale, folder, report)
            result = put_together(bench, folder)
        write_report(bench, result, folder)
    remarks = []
    if lacking := chosen - {5, *(cell.table for cell in bench.cells)}:
        remarks.append(f"[yellow]left out[/]: no zoo here fits Table {', '.join(map(str, sorted(lacking)))}")
    if result.missing:
        remarks.append(
            f"[yellow]not measured yet[/]: {len(result.missing)} cells, which other shares or processes have"
        )
    _show(bench, result, folder, as_json, remarks)


@app.command()
def efficiency(
    device: DeviceOption = "cpu",
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

    from dng.bench import efficiency as costs
    from dng.bench.published_numbers import PUBLISHED_COSTS
    from zootool.files import check_writable, write_bytes_atomic

    if markdown is not None:
        check_writable(markdown)
    cases = costs.efficiency_cases() + (costs.rival_cases() if rivals else [])
    with progress_bars() as report:
        result = costs.run_efficiency(cases, device, batch_size, runs, report=report)
    everything = (*result.tables(), *PUBLISHED_COSTS)
    if markdown is not None:
        write_bytes_atomic(markdown, "\n".join(table.markdown() for table in everything).encode("utf-8"))
    if as_json:
        print_json(asdict(result) | {"published": [asdict(table) for table in PUBLISHED_COSTS]})
        return
    for table in everything:
        show_table(table)
    if markdown is not None:
        say(f"[green]wrote[/] {shown(markdown)}")


def _run(bench: "Benchmark[Any]", folder: Path, as_json: bool) -> None:
    from dng.bench.harness import run

    with progress_bars() as report:
        result = run(bench, folder, report)
    _show(bench, result, folder, as_json)


def _show(bench: "Benchmark[Any]", result: Any, folder: Path, as_json: bool, remarks: Sequence[str] = ()) -> None:

    if as_json:
        print_json(bench.machine_readable(result) | {"folder": str(folder)})
        return
    if getattr(result, "skipped", False):
        say(f"[yellow]skipped[/]: {shown(folder)} holds this run's results")
    for text in bench.notes(result):
        say(f"[yellow]note[/] {shown(text)}")
    for table in bench.tables(result):
        show_table(table)
    for remark in remarks:
        say(remark)
    say(f"look at {shown(folder / 'report.html')}; the numbers are in {shown(folder / 'results.json')}")


def _ensured(
    store: Path,
    recipe: tuple[str, dict[str, Any]],
    runs: int | None,
    report: "Reporter",
    tell: Callable[[str], None],
) -> Path:
    """The store of networks on digits, built and converted where it isn't there."""
    from zootool.conversion.ensure import ensure_zoo

    if ensure_zoo("digits", *recipe, store, runs=runs, report=report).converted:
        tell(f"built {shown(store)}")
    return store


def _place(device: str) -> "Place":
    from dng.runs.on_zoo import Place
    from dng.training.distributed import local_device

    return Place(local_device(device))


def _check_compared(zoo: str, names: list[str]) -> None:
    """Raise UsageError for unknown methods, and for those whose training can't be made equal to the others'."""

    for name in names:
        if name in TWO_STAGE:
            raise UsageError(
                f"{name} learns in two stages, and can't be compared at the others' budget",
                hint=f"run it alone: zoo bench inr-classification --zoo {zoo} --model {name}",
            )
        if name not in READERS:
            raise UsageError(f"there is no method {name!r}", hint=did_you_mean(name, [*READERS, *TWO_STAGE]))


def _show_accuracy(result: "ClassificationResult", folder: Path, zoo: str) -> None:
    from dng.bench.certainty import accuracy_interval, too_few

    if result.skipped:
        say(f"[yellow]skipped[/]: {shown(folder)} holds this run's result")
    accuracy, interval, few = f"[bold]{result.test_accuracy:.1%}[/]", "", ""
    if result.num_tested:
        low, high = accuracy_interval(result.test_accuracy, result.num_tested)
        interval, few = f"95 % interval {low:.1%} - {high:.1%}, ", too_few(result.num_tested, "test networks")
    say(f"test accuracy {few or accuracy} ({interval}{result.chance})")
    say(f"validation accuracy {result.validation_accuracy:.1%}")
    if result.validation_mse is not None:
        say(f"reconstruction error (MSE) on validation {result.validation_mse:.4f}")
    say(f"draw the report: zoo report {shown(folder)} --zoo {shown(zoo)}")


def _numbers(text: str) -> set[int]:

    try:
        return {int(word) for word in text.split(",")}
    except ValueError as error:
        raise UsageError(f"can't read --only {printable(text, 60)}", hint="write it like --only 1,2,7") from error


def _measure_costs(scale: str, folder: Path, report: "Reporter") -> None:
    import torch

    from dng.bench.efficiency import efficiency_cases, rival_cases
    from dng.bench.tables import measure_costs

    batch_size, runs = (2, 5) if scale == "demo" else (64, 30)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        measure_costs([*efficiency_cases(), *rival_cases()], device, batch_size, runs, folder, report)
