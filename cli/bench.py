"""`zoo bench`: the field's benchmarks on a zoo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.comparison import compare
from cli.console import JsonOption, print_json, progress_bars, say, shown
from cli.editing import editing
from cli.efficiency import efficiency
from cli.forward_fit import forward_fit
from cli.generalization import generalization
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
    out: Annotated[Path | None, typer.Option(help="The run's folder. [default: runs/ZOO-PRESET-SEED]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Initial weights, order of batches, dropout.")] = 0,
    control: Annotated[
        Literal["none", "shuffled-labels"], typer.Option(help="shuffled-labels: accuracy must fall to chance.")
    ] = "none",
    ablation: Annotated[
        str, typer.Option(help="A row of the paper's tables, such as encoder-only or no-augmentation.")
    ] = "none",
    model: Annotated[
        str, typer.Option(help="inr2jls; or methods to compare, with commas: dng, ng-gnn, ...")
    ] = "inr2jls",
    seeds: Annotated[int, typer.Option(min=1, help="Of a comparison: how often each method is trained.")] = 1,
    budget: Annotated[int | None, typer.Option(min=1, help="Of a comparison: each method's parameters.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of a comparison: training steps of each method.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train INR2JLS on a zoo, classify its test networks from their latents. Stopped early? Run it again.

    With --model, compare methods that classify INRs from weights and labels alone.

    Example: zoo bench inr-classification --zoo digits.zoo --preset demo
    """
    from zootool.errors import UsageError

    if model != "inr2jls":
        if control != "none" or ablation != "none" or seed:
            raise UsageError("a comparison takes no --control, --ablation or --seed", hint="it has --seeds")
        compare(zoo, preset, model.split(","), seeds, budget, steps, out, as_json)
        return
    from dataclasses import asdict

    from dng.bench.inr_classification import run_inr_classification
    from dng.bench.presets import classification_preset
    from zootool import open_zoo

    settings = classification_preset(preset).with_seed(seed).with_ablation(ablation)
    opened = open_zoo(zoo)
    name = preset if ablation == "none" else f"{preset}-{ablation}"
    folder = out or Path("runs") / f"{Path(zoo).stem}-{name}-{seed}"
    with progress_bars() as report:
        result = run_inr_classification(opened, preset, settings, folder, control=control, report=report)
    if as_json:
        print_json(asdict(result) | {"folder": str(folder)})
    else:
        _show(result, folder)


def _show(result: "ClassificationResult", folder: Path) -> None:
    if result.skipped:
        say(f"[yellow]skipped[/]: {shown(folder)} holds this run's result")
    say(f"test accuracy [bold]{result.test_accuracy:.1%}[/] (chance {1 / result.num_classes:.0%})")
    say(f"validation accuracy {result.validation_accuracy:.1%}")
    if result.validation_mse is not None:
        say(f"reconstruction error (MSE) on validation {result.validation_mse:.4f}")
    say(f"draw the report: zoo report {shown(folder)}")
