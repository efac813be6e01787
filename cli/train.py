"""`zoo train`: models of a zoo's networks. `torchrun` starts it on several devices at once."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.console import MAX_SEED, JsonOption, print_json, progress_bars, say, shown
from dng.methods.registry import METHODS, READERS, TWO_STAGE
from zootool.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from dng.runs.on_zoo import Place
    from dng.training.loop import TrainResult
    from zootool import Zoo
    from zootool.progress import Reporter

    Training = Callable[[Place, Reporter], TrainResult]

_TAU = "Kendall's tau"
_ALIASES = {"encoder": "dng"}
NAMES = (*TWO_STAGE, "encoder", *READERS)


def train(
    zoo: Annotated[str, typer.Option(help="A store with the splits train and validation.")],
    name: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="As --model.", autocompletion=lambda: list(NAMES))
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(NAMES)}; encoder is dng.", autocompletion=lambda: list(NAMES)),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The column to predict: a class, or an accuracy in [0, 1].")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. \\[default: runs/ZOO-MODEL-PRESET-SEED]")] = None,
    preset: Annotated[str, typer.Option(help="demo (minutes on two cores), cpu (under an hour) or paper.")] = "demo",
    variant: Annotated[
        str | None, typer.Option(help="Another published configuration of a method, such as inr-augmented.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Initial weights, order of batches, dropout.")] = 0,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N; under torchrun cuda is each process's own GPU.")
    ] = "cpu",
    precision: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option(help="Of the computation; weights stay float32.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set lr=1e-3, --set encoder.dim=64.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on a zoo's networks. Stopped early? Run it again.

    inr2jls and inr2array learn latents of INRs, from which their images can be decoded. Every other method learns to
    predict a column of the zoo's table, the --target.

    Example: zoo train inr2jls --zoo digits.zoo --out runs/digits

    Example: zoo train encoder --zoo digits.zoo --target label

    Example: zoo train --model nfn-hnp --zoo cnns.zoo --target test_accuracy
    """
    from zootool import open_zoo

    chosen = name or model
    if chosen is None or (name and model and name != model):
        raise UsageError("name one model", hint="such as `zoo train --model dng --zoo ...`")
    if chosen not in NAMES:
        raise UsageError(f"there is no model {shown(chosen)}", hint=did_you_mean(chosen, NAMES))
    method = _ALIASES.get(chosen, chosen)
    named = {"precision": precision, "steps": steps}
    words = [*(settings or []), *(f"{key}={value}" for key, value in named.items() if value is not None)]
    called = chosen if method in TWO_STAGE else f"{chosen}-{target}"
    folder = out or Path("runs") / f"{Path(zoo).stem}-{called}-{preset}-{seed}"
    if method not in TWO_STAGE and target is None:
        raise UsageError(f"{METHODS[method].title} predicts a column of the zoo's table", hint="name the --target")
    if method in TWO_STAGE:
        run, score = _codes(open_zoo(zoo), method, preset, seed, words, folder), "MSE"
    else:
        run, score = _reader(open_zoo(zoo), method, str(target), preset, variant, seed, words, folder)
    _run(run, folder, score, device, as_json)


def _codes(zoo: "Zoo", method: str, preset: str, seed: int, words: list[str], folder: Path) -> "Training":
    from dng.runs.on_zoo import train_codes
    from dng.runs.overrides import override
    from dng.runs.two_stage import two_stage_preset

    chosen = two_stage_preset(method, preset).with_seed(seed)
    # What an ablation changes comes first, so that words may change it again.
    named = override(chosen, words, chosen.parts, ("reconstruction",)).ablation
    chosen = override(chosen.with_ablation(named), words, chosen.parts, ("reconstruction",))
    return partial(train_codes, zoo, chosen, folder)


def _reader(
    zoo: "Zoo", method: str, target: str, preset: str, variant: str | None, seed: int, words: list[str], folder: Path
) -> "tuple[Training, str]":
    from dng.runs.on_zoo import batches_per_epoch, train_reader
    from dng.runs.overrides import override
    from dng.runs.presets import reader_preset
    from dng.runs.tasks import read_target

    wanted = read_target(zoo, target)
    chosen = reader_preset(
        preset, zoo.architectures.values(), batches_per_epoch(zoo), method, wanted.num_outputs, variant
    )
    chosen = override(chosen, [f"seed={seed}", *words], ("training",), ("training", "config"))
    run = partial(train_reader, zoo, wanted, chosen, folder, method=method)
    return run, "accuracy" if wanted.is_class else _TAU


def _run(run: "Training", folder: Path, score_name: str, device_name: str, as_json: bool) -> None:
    from dng.runs.on_zoo import Place
    from dng.training.distributed import joined_ranks, local_device
    from zootool.progress import silent

    device = local_device(device_name)
    with joined_ranks(device) as ranks, progress_bars() as report:
        result = run(Place(device, ranks), report if ranks.is_first else silent)
    if not ranks.is_first:
        return
    if as_json:
        print_json(asdict(result) | {"best_path": str(result.best_path), "folder": str(folder)})
        return
    if result.skipped:
        say(f"[yellow]skipped[/]: {shown(folder)} holds this run, finished")
    if score_name == _TAU and result.best_score == 0:
        say("[yellow]validation ranks nothing[/]: one prediction for all networks, or an order as good as a random one")
    say(f"validation {score_name} {result.best_score:.4f} at step {result.best_step:,}, in {shown(folder)}")
