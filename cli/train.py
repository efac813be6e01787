"""`zoo train`: models of a zoo's networks. `torchrun` starts it on several devices at once."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.console import MAX_SEED, JsonOption, print_json, progress_bars, say, shown

if TYPE_CHECKING:
    from dng.runs.on_zoo import Place
    from dng.training.train import TrainResult
    from zootool.progress import Reporter

_TAU = "Kendall's tau"

app = typer.Typer(no_args_is_help=True, help="Train a model on a zoo's networks.")

ZooOption = Annotated[str, typer.Option(help="A store with the splits train and validation.")]
OutOption = Annotated[Path | None, typer.Option(help="The run's folder. \\[default: runs/ZOO-MODEL-PRESET-SEED]")]
PresetOption = Annotated[str, typer.Option(help="demo (minutes on two cores), cpu (under an hour) or paper.")]
SeedOption = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Initial weights, order of batches, dropout.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; under torchrun cuda is each process's own GPU.")]
PrecisionOption = Annotated[
    Literal["float32", "bfloat16"] | None, typer.Option(help="Of the computation; weights stay float32.")
]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Training steps.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: --set lr=1e-3, --set encoder.dim=64.")
]


@app.callback()
def train() -> None:
    """Train a model on a zoo's networks."""


@app.command()
def inr2jls(
    zoo: ZooOption,
    out: OutOption = None,
    preset: PresetOption = "demo",
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = None,
    steps: StepsOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train INR2JLS: latent maps of INRs from which their images can be decoded. Stopped early? Run it again.

    Example: zoo train inr2jls --zoo digits.zoo --out runs/digits
    """
    from dng.runs.on_zoo import REPRESENTATION_PARTS, train_inr2jls
    from dng.runs.overrides import override
    from dng.runs.two_stage import classification_preset
    from zootool import open_zoo

    chosen = classification_preset(preset).with_seed(seed)
    words = _words(settings, precision, steps)
    # What an ablation changes comes first, so that words may change it again.
    named = override(chosen, words, REPRESENTATION_PARTS, inner="reconstruction").ablation
    chosen = override(chosen.with_ablation(named), words, REPRESENTATION_PARTS, inner="reconstruction")
    opened, folder = open_zoo(zoo), out or _default_folder(zoo, "inr2jls", preset, seed)
    _run(partial(train_inr2jls, opened, chosen, folder), folder, "MSE", device, as_json)


@app.command()
def encoder(
    zoo: ZooOption,
    target: Annotated[str, typer.Option(help="The column to predict: a class, or an accuracy in [0, 1].")],
    out: OutOption = None,
    preset: PresetOption = "demo",
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = None,
    steps: StepsOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder with a head that predicts a column of the zoo's table. Stopped early? Run it again.

    Example: zoo train encoder --zoo digits.zoo --target label
    """
    from dng.runs.on_zoo import batches_per_epoch, train_encoder
    from dng.runs.overrides import override
    from dng.runs.presets import ENCODER_PARTS, encoder_preset
    from dng.runs.targets import read_target
    from zootool import open_zoo

    opened, folder = open_zoo(zoo), out or _default_folder(zoo, f"encoder-{target}", preset, seed)
    chosen = encoder_preset(preset, opened.architectures.values(), batches_per_epoch(opened))
    words = [f"seed={seed}", *_words(settings, precision, steps)]
    chosen = override(chosen, words, ENCODER_PARTS, inner="training")
    wanted = read_target(opened, target)
    score = "accuracy" if wanted.is_class else _TAU
    _run(partial(train_encoder, opened, wanted, chosen, folder), folder, score, device, as_json)


def _words(settings: list[str] | None, precision: str | None, steps: int | None) -> list[str]:
    """What --set says, then the options that have a name of their own."""
    named = {"precision": precision, "steps": steps}
    return [*(settings or []), *(f"{key}={value}" for key, value in named.items() if value is not None)]


def _default_folder(zoo: str, model: str, preset: str, seed: int) -> Path:
    return Path("runs") / f"{Path(zoo).stem}-{model}-{preset}-{seed}"


def _run(
    run: "Callable[[Place, Reporter], TrainResult]", folder: Path, score_name: str, device_name: str, as_json: bool
) -> None:
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
