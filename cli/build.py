"""`zoo build`: networks from an image set, as a folder of units that `zoo convert` reads."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown

if TYPE_CHECKING:
    from zootool.build import BuildResult, SirenRecipe
    from zootool.build.extents import Limit
    from zootool.build.plan import BuildPlan, BuildStatus
    from zootool.images import Images

app = typer.Typer(no_args_is_help=True, help="Build a zoo: train one network per image, or many on an image set.")


@app.callback()
def build() -> None:
    """Build a zoo: train one network per image, or many on an image set."""


@app.command()
def siren(
    dataset: Annotated[str | None, typer.Option(help="An image set of datasets.yaml, or folder:PATH.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of units. [default: zoos/DATASET-RECIPE]")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe of datasets.yaml: see `zoo recipe ls`.")] = "inr-nfn",
    parts: Annotated[list[str] | None, typer.Option("--set", help="Override a part: --set hidden=64,64.")] = None,
    limit: Annotated[str | None, typer.Option(help="The first N images, or N,N,N of train, validation, test.")] = None,
    copies: Annotated[int | None, typer.Option(help="More networks per training image.")] = None,
    seed: Annotated[int | None, typer.Option(help="What the initial weights are drawn from.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of Adam.")] = None,
    init: Annotated[
        Literal["random", "shared"] | None, typer.Option(help="Initial weights of each, or of all.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    engine: Annotated[Literal["local", "ray"], typer.Option(help="Who builds the units.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Worker processes, or Ray tasks at a time.")] = None,
    address: Annotated[str | None, typer.Option(help="The Ray cluster's. [default: start Ray here]")] = None,
    gpu_fraction: Annotated[float, typer.Option(help="Of a GPU for each Ray task.", min=0.01, max=1.0)] = 1.0,
    unit: Annotated[str | None, typer.Option(help="I/N: every N-th unit, from unit I on (0/4 to 3/4).")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would take, and build nothing.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how far it is, and build nothing.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Accept a prefix of the image set.")] = False,
    download: Annotated[bool, typer.Option(help="Fetch the image set if it is not on this computer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a SIREN to every image, and to training images the recipe's copies. Interrupted? Run it again.

    Example: zoo build siren --dataset cifar100 --limit 64 --copies 0
    """
    from zootool.build.engine import choose_engine
    from zootool.build.extents import parse_limit, parse_share

    if status:
        _show_status(out or _default_folder(dataset, recipe), as_json)
        return
    options = {"copies": copies, "seed": seed, "steps": steps, "lr": lr, "init": init}
    wanted = _recipe(recipe, _required(dataset), parts or [], options)
    first, share = parse_limit(limit), parse_share(unit)
    how = choose_engine(engine, workers=workers, address=address, gpu_fraction=gpu_fraction)
    images = _images(_required(dataset), partial, download)
    if plan:
        _show_plan(images, wanted, first, device, as_json)
        return
    from zootool.build import build_sirens

    folder = out or _default_folder(dataset, recipe)
    if images.is_partial and not as_json:
        say(f"[yellow]{shown(images.name)} is here in part[/]: its first {len(images):,} images")
    with progress_bars() as report:
        result = build_sirens(
            images, wanted, folder, limit=first, device=device, engine=how, share=share, report=report
        )
    _show_result(result, share, as_json)


def _required(dataset: str | None) -> str:
    from zootool.errors import UsageError

    if dataset is None:
        raise UsageError("--dataset is missing", hint="such as --dataset digits")
    return dataset


def _recipe(name: str, dataset: str, parts: list[str], options: dict[str, Any]) -> "SirenRecipe":
    from zootool.build.recipe import load_recipe, parse_overrides

    given = {key: value for key, value in options.items() if value is not None}
    return load_recipe(name, dataset, parse_overrides(parts) | given)


def _images(dataset: str, partial: bool, download: bool) -> "Images":
    from zootool.images import load_images

    return load_images(dataset, partial=True if partial else None, download=download)


def _default_folder(dataset: str | None, recipe: str) -> Path:
    """zoos/DATASET-RECIPE below the working directory."""
    name = Path(_required(dataset).partition("?")[0].removeprefix("folder:")).name
    return Path("zoos") / f"{name}-{recipe}"


def _show_result(result: "BuildResult", share: tuple[int, int] | None, as_json: bool) -> None:
    if as_json:
        print_json(asdict(result) | {"folder": str(result.folder), "left": result.left})
        return
    if result.found:
        say(f"skipped {result.found:,} networks that were there already")
    say(f"built {result.built:,} of {result.num_networks:,} networks in {shown(result.folder)}")
    if result.left:
        whose = "other shares" if share else "other processes"
        say(f"[yellow]left to {whose}: {result.left:,} networks[/]; `zoo build siren --status` shows them")
    if result.num_refitted:
        say(f"[yellow]{result.num_refitted:,} networks left the finite numbers[/] and were fitted again")
    if result.num_diverged:
        say(f"[red]{result.num_diverged:,} networks diverged twice[/] and are flagged in the column 'diverged'")


def _show_plan(images: "Images", recipe: "SirenRecipe", limit: "Limit", device: str, as_json: bool) -> None:
    from zootool.build.builder import available_threads
    from zootool.build.plan import plan_sirens

    found: BuildPlan = plan_sirens(images, recipe, limit=limit, device=device, threads=available_threads())
    if as_json:
        print_json(asdict(found))
        return
    say(f"images    {found.num_images:,} of {shown(images.name)}{' (a part of the set)' if images.is_partial else ''}")
    say(f"networks  {found.num_networks:,} of {found.num_parameters:,} parameters, in {found.num_units:,} units")
    say(f"disk      {_size(found.disk_bytes)}")
    say(f"memory    {_size(found.memory_bytes)}")
    say(f"time      {_duration(found.seconds)}: {found.networks_per_second:,.2f} networks/s by the {found.backend}")


def _show_status(folder: Path, as_json: bool) -> None:
    from zootool.build.plan import status_of

    found: BuildStatus = status_of(folder)
    if as_json:
        print_json(asdict(found) | {"folder": str(folder)})
        return
    say(f"{shown(folder)}: {found.num_networks_done:,} of {found.num_networks:,} networks")
    say(f"units     {found.done:,} done, {found.running:,} running, {found.failed:,} failed, {found.waiting:,} waiting")
    if found.failed:
        say("[yellow]failed units differ from their receipts[/]: the next build makes them anew")
    if found.num_diverged:
        say(f"[red]{found.num_diverged:,} networks diverged[/] and are flagged in the column 'diverged'")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
