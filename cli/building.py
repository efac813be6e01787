"""What the commands of `zoo build` share: their options, finding images and recipes, and saying what was done."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.console import JsonOption, answer, say, shown

if TYPE_CHECKING:
    from zootool.build import BuildResult
    from zootool.build.plan import BuildPlan
    from zootool.build.recipe import AnyRecipe
    from zootool.images import Images

DatasetOption = Annotated[str | None, typer.Option("--dataset", help="An image set of datasets.yaml, or folder:PATH.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The folder of units. \\[default: zoos/DATASET-RECIPE]")]
RecipeOption = Annotated[str, typer.Option("--recipe", help="A recipe of datasets.yaml: see `zoo recipe ls`.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a part, KEY=VALUE: see `zoo recipe show`.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="What all random numbers are drawn from.")]


@dataclass(frozen=True)
class Workforce:
    """Who builds."""

    engine: Annotated[Literal["local", "ray"], typer.Option(help="Who builds the units.")] = "local"
    workers: Annotated[int | None, typer.Option(help="Worker processes, or Ray tasks at a time.")] = None
    address: Annotated[str | None, typer.Option(help="The Ray cluster's. \\[default: start Ray here]")] = None


@dataclass(frozen=True)
class Request:
    """What is asked for: building all units or a share of them, or only words about them."""

    unit: Annotated[str | None, typer.Option(help="I/N: every N-th unit, from unit I on (0/4 to 3/4).")] = None
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would take, and build nothing.")] = False
    status: Annotated[bool, typer.Option("--status", help="Say how far it is, and build nothing.")] = False
    partial: Annotated[bool, typer.Option("--partial", help="Accept a prefix of the image set.")] = False
    download: Annotated[
        bool, typer.Option("--download/--no-download", help="Fetch the image set if it is not on this computer.")
    ] = False
    as_json: JsonOption = False


def required(dataset: str | None) -> str:
    """The image set's name, which only --status can do without."""
    from zootool.errors import UsageError

    if dataset is None:
        raise UsageError("--dataset is missing", hint="such as --dataset digits")
    return dataset


def recipe_of(kind: str, name: str, dataset: str, parts: list[str] | None, options: dict[str, Any]) -> "AnyRecipe":
    """A recipe with the overrides of --set and of options of their own."""
    from zootool.build.recipe import RECIPE_KINDS, load_recipe_of, parse_overrides
    from zootool.errors import UsageError

    given = {key: value for key, value in options.items() if value is not None}
    overrides = parse_overrides(parts or [], RECIPE_KINDS[kind])
    if twice := sorted(given.keys() & overrides.keys()):
        raise UsageError(f"--{twice[0]} and --set {twice[0]} say the same", hint="give one of them")
    wanted: Any = RECIPE_KINDS[kind]
    return load_recipe_of(wanted, name, dataset, overrides | given)


def images_of(dataset: str, partial: bool, download: bool, as_json: bool) -> "Images":
    """The image set; a part of one is named."""
    from zootool.images import load_images

    images = load_images(dataset, partial=True if partial else None, download=download)
    if images.is_partial and not as_json:
        say(f"[yellow]{shown(images.name)} is here in part[/]: its first {len(images):,} images")
    return images


def default_folder(dataset: str | None, recipe: str) -> Path:
    """zoos/DATASET-RECIPE below the working directory."""
    name = Path(required(dataset).partition("?")[0].removeprefix("folder:")).name
    return Path("zoos") / f"{name}-{recipe}"


def show_result(result: "BuildResult", kind: str, share: tuple[int, int] | None, as_json: bool) -> None:
    """Say what a build did."""
    folder = shown(result.folder)
    left = f"[yellow]left to other {'shares' if share else 'processes'}: {result.left:,} networks[/]"
    refitted = f"[yellow]{result.num_refitted:,} networks left the finite numbers[/] and were fitted again"
    answer(
        as_json,
        asdict(result) | {"folder": str(result.folder), "left": result.left},
        f"skipped {result.found:,} networks that were there already" if result.found else "",
        f"built {result.built:,} of {result.num_networks:,} networks in {folder}",
        f"{left}; `zoo build {kind} --status --out {folder}` shows them" if result.left else "",
        refitted if result.num_refitted else "",
        _diverged(result.num_diverged, " twice" if kind == "siren" else ""),
    )


def show_plan(found: "BuildPlan", images: "Images", as_json: bool) -> None:
    """Say what a build will take."""
    part = " (a part of the set)" if images.is_partial else ""
    answer(
        as_json,
        asdict(found),
        f"images    {found.num_images:,} of {shown(images.name)}{part}",
        f"networks  {found.num_networks:,} of {found.num_parameters:,} parameters, in {found.num_units:,} units",
        f"disk      {_size(found.disk_bytes)}",
        f"memory    {_size(found.memory_bytes)}",
        f"time      {_duration(found.seconds)}: {found.networks_per_second:,.2f} networks/s by the {found.backend}",
    )


def show_status(folder: Path, request: Request) -> None:
    """Say how far the build in a folder is."""
    from zootool.build.plan import status_of
    from zootool.errors import UsageError

    if request.plan:
        raise UsageError("--status and --plan exclude each other", hint="ask for one at a time")

    found = status_of(folder)
    answer(
        request.as_json,
        asdict(found) | {"folder": str(folder)},
        f"{shown(folder)}: {found.num_networks_done:,} of {found.num_networks:,} networks",
        f"units     {found.done:,} done, {found.running:,} running, {found.failed:,} failed, {found.waiting:,} waiting",
        "[yellow]failed units differ from their receipts[/]: the next build makes them anew" if found.failed else "",
        _diverged(found.num_diverged),
    )


def _diverged(count: int, twice: str = "") -> str:
    return f"[red]{count:,} networks diverged{twice}[/] and are flagged in the column 'diverged'" if count else ""


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
