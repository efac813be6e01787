"""`zoo bench`: the field's benchmarks on a zoo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.comparison import compare
from cli.console import MAX_SEED, JsonOption, print_json, progress_bars, say, shown
from cli.editing import editing
from cli.efficiency import efficiency
from cli.forward_fit import forward_fit
from cli.generalization import generalization
from cli.options import DeviceOption
from cli.paper_tables import tables

if TYPE_CHECKING:
    from dng.bench.inr_classification import ClassificationResult

app = typer.Typer(no_args_is_help=True, help="Run a benchmark on a zoo.")


@app.callback()
def bench() -> None:
    """Run a benchmark on a zoo."""


app.command("forward-fit")(forward_fit)
app.command("efficiency")(efficiency)
app.command("generalization")(generalization)
app.command("tables")(tables)
app.command("editing")(editing)


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
    from dng.runs.two_stage import TWO_STAGE
    from zootool.errors import UsageError

    if model not in TWO_STAGE:
        if control != "none" or ablation != "none" or seed:
            raise UsageError("a comparison takes no --control, --ablation or --seed", hint="it has --seeds")
        names = model.split(",")
        _check_compared(zoo, names)
        compare(zoo, preset, names, seeds, budget, steps, device, out, as_json)
        return
    if seeds != 1 or budget is not None or steps is not None:
        raise UsageError(f"{model} alone is no comparison: no --seeds, --budget or --steps", hint="it has --seed")
    from dataclasses import asdict

    from dng.bench.inr_classification import run_inr_classification
    from dng.runs.on_zoo import Place
    from dng.runs.two_stage import two_stage_preset
    from dng.training.distributed import local_device
    from zootool import open_zoo

    settings = two_stage_preset(model, preset).with_seed(seed).with_ablation(ablation)
    opened, place = open_zoo(zoo), Place(local_device(device))
    parts = [preset] + [part for part in (model, ablation) if part not in ("inr2jls", "none")]
    folder = out or Path("runs") / f"{Path(zoo).stem}-{'-'.join(parts)}-{seed}"
    with progress_bars() as report:
        result = run_inr_classification(opened, preset, settings, folder, control=control, place=place, report=report)
    if as_json:
        print_json(asdict(result) | {"folder": str(folder)})
    else:
        _show(result, folder, zoo)


def _check_compared(zoo: str, names: list[str]) -> None:
    """Raise UsageError for unknown methods, and for those whose training can't be made equal to the others'."""
    from dng.methods.methods import METHODS
    from dng.runs.two_stage import TWO_STAGE
    from zootool.errors import UsageError, did_you_mean

    for name in names:
        if name in TWO_STAGE:
            raise UsageError(
                f"{name} learns in two stages, and can't be compared at the others' budget",
                hint=f"run it alone: zoo bench inr-classification --zoo {zoo} --model {name}",
            )
        if name not in METHODS:
            raise UsageError(f"there is no method {name!r}", hint=did_you_mean(name, [*METHODS, *TWO_STAGE]))


def _test_accuracy(result: "ClassificationResult") -> str:
    from dng.bench.certainty import accuracy_interval, too_few

    if not result.num_tested:
        return f"test accuracy [bold]{result.test_accuracy:.1%}[/] ({result.chance})"
    low, high = accuracy_interval(result.test_accuracy, result.num_tested)
    quoted = too_few(result.num_tested, "test networks") or f"[bold]{result.test_accuracy:.1%}[/]"
    return f"test accuracy {quoted} (95 % interval {low:.1%} - {high:.1%}, {result.chance})"


def _show(result: "ClassificationResult", folder: Path, zoo: str) -> None:
    if result.skipped:
        say(f"[yellow]skipped[/]: {shown(folder)} holds this run's result")
    say(_test_accuracy(result))
    say(f"validation accuracy {result.validation_accuracy:.1%}")
    if result.validation_mse is not None:
        say(f"reconstruction error (MSE) on validation {result.validation_mse:.4f}")
    say(f"draw the report: zoo report {shown(folder)} --zoo {shown(zoo)}")
