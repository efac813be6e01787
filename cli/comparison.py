"""Methods against each other on one zoo: what `zoo bench inr-classification --model` does."""

from collections.abc import Sequence
from pathlib import Path

from cli.console import print_json, progress_bars, say, shown


def compare(
    zoo: str,
    preset: str,
    names: Sequence[str],
    seeds: int,
    num_parameters: int | None,
    steps: int | None,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare methods and show their accuracies."""
    from dataclasses import asdict, replace

    from cli.console import show_table
    from dng.bench.comparison.classification import compare_classifiers, comparison_table
    from dng.bench.comparison.settings import classification_budget
    from dng.runs.on_zoo import Place
    from dng.training.distributed import local_device
    from zootool import open_zoo

    budget = classification_budget(preset)
    if steps is not None:
        budget = replace(budget, training=replace(budget.training, steps=steps))
    if num_parameters is not None:
        budget = replace(budget, num_parameters=num_parameters)
    opened, place = open_zoo(zoo), Place(local_device(device))
    folder = out or Path("runs") / f"{Path(zoo).stem}-comparison-{preset}"
    with progress_bars() as report:
        result = compare_classifiers(opened, preset, names, budget, seeds, folder, place, report)
    if as_json:
        print_json(asdict(result) | {"folder": str(folder)})
        return
    if result.skipped:
        say(f"[yellow]skipped[/]: {shown(folder)} holds these trainings")
    show_table(comparison_table(result))
    say(f"the numbers are in {shown(folder / 'results.json')}")
