"""`zoo build`: networks from an image set, as a folder of units that `zoo convert` reads."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.console import JsonOption, answer, progress_bars, say, shown
from cli.groups import with_groups

if TYPE_CHECKING:
    from zootool.build import BuildResult
    from zootool.build.plan import BuildPlan
    from zootool.build.recipe import AnyRecipe
    from zootool.images import Images

Kind = Literal["siren", "cnn", "vit"]

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


app = typer.Typer(no_args_is_help=True, help="Build a zoo: train one network per image, or many on an image set.")


@app.callback()
def build() -> None:
    """Build a zoo: train one network per image, or many on an image set."""


@app.command()
@with_groups
def siren(
    *,
    dataset: DatasetOption = None,
    out: OutOption = None,
    recipe: RecipeOption = "inr-nfn",
    parts: SetOption = None,
    limit: Annotated[str | None, typer.Option(help="The first N images, or N,N,N of train, validation, test.")] = None,
    copies: Annotated[int | None, typer.Option(help="More networks per training image.")] = None,
    seed: SeedOption = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of Adam.")] = None,
    init: Annotated[
        Literal["random", "shared"] | None, typer.Option(help="Initial weights of each, or of all.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    workforce: Workforce,
    gpu_fraction: Annotated[float, typer.Option(help="Of a GPU for each Ray task.", min=0.01, max=1.0)] = 1.0,
    request: Request,
) -> None:
    """Fit a SIREN to every image, and to training images the recipe's copies. Interrupted? Run it again.

    Example: zoo build siren --dataset cifar100 --limit 64 --copies 0
    """
    options = {"copies": copies, "seed": seed, "steps": steps, "lr": lr, "init": init}
    _build(
        "siren", dataset, out, recipe, parts, options, workforce, request,
        limit=limit, device=device, gpu_fraction=gpu_fraction,
    )  # fmt: skip


def _add_classifiers(kind: Literal["cnn", "vit"], default_recipe: str, text: str) -> None:
    """Add `zoo build KIND`: kinds of classifiers differ in their recipes alone."""

    @app.command(kind, help=text)
    @with_groups
    def build_kind(
        *,
        dataset: DatasetOption = None,
        out: OutOption = None,
        recipe: RecipeOption = default_recipe,
        parts: SetOption = None,
        runs: Annotated[int | None, typer.Option(help="Networks to train. \\[default: the recipe's]")] = None,
        seed: SeedOption = None,
        workforce: Workforce,
        request: Request,
    ) -> None:
        _build(kind, dataset, out, recipe, parts, {"seed": seed}, workforce, request, runs=runs)


_add_classifiers(
    "cnn",
    "small-cnn",
    """Train small CNNs to classify an image set, and keep them at several epochs. Interrupted? Run it again.

    Example: zoo build cnn --dataset digits --runs 300
    """,
)
_add_classifiers(
    "vit",
    "simple-vit",
    """Train SimpleViTs to classify an image set, some for longer than others. Interrupted? Run it again.

    Example: zoo build vit --dataset digits --runs 60
    """,
)


def _build(
    kind: Kind,
    dataset: str | None,
    out: Path | None,
    recipe: str,
    parts: list[str] | None,
    options: dict[str, Any],
    workforce: Workforce,
    request: Request,
    *,
    limit: str | None = None,
    runs: int | None = None,
    device: str = "cpu",
    gpu_fraction: float = 1.0,
) -> None:
    from zootool.build import SirenRecipe, build_classifiers, build_sirens
    from zootool.build.builder import available_threads
    from zootool.build.extents import parse_limit, parse_share
    from zootool.build.plan import plan_classifiers, plan_sirens
    from zootool.engines.engine import choose_engine

    if request.status:
        _show_status(out or _default_folder(dataset, recipe), request)
        return
    wanted = _recipe_of(kind, recipe, _required(dataset), parts, options)
    first, share = parse_limit(limit), parse_share(request.unit)
    engine = choose_engine(
        workforce.engine, workers=workforce.workers, address=workforce.address, gpu_fraction=gpu_fraction
    )
    images = _images_of(_required(dataset), request)
    if request.plan:
        if isinstance(wanted, SirenRecipe):
            found = plan_sirens(images, wanted, limit=first, device=device, threads=available_threads())
        else:
            found = plan_classifiers(images, wanted, runs=runs)
        _show_plan(found, images, request.as_json)
        return
    # A name given by --set is a classifiers' folder's too.
    folder = out or _default_folder(dataset, recipe if kind == "siren" else wanted.name)
    with progress_bars() as report:
        how: dict[str, Any] = {"device": device, "engine": engine, "share": share, "report": report}
        if isinstance(wanted, SirenRecipe):
            result = build_sirens(images, wanted, folder, limit=first, **how)
        else:
            result = build_classifiers(images, wanted, folder, runs=runs, **how)
    _show_result(result, kind, share, request.as_json)


def _required(dataset: str | None) -> str:
    """The image set's name, which only --status with --out can do without."""
    from zootool.errors import UsageError

    if dataset is None:
        raise UsageError("--dataset is missing", hint="such as --dataset digits")
    return dataset


def _recipe_of(kind: Kind, name: str, dataset: str, parts: list[str] | None, options: dict[str, Any]) -> "AnyRecipe":
    """A recipe with the overrides of --set and of options of their own."""
    from zootool.build.recipe import RECIPE_KINDS, load_recipe_of, parse_overrides
    from zootool.errors import UsageError

    wanted: Any = RECIPE_KINDS[kind]
    given = {key: value for key, value in options.items() if value is not None}
    overrides = parse_overrides(parts or [], wanted)
    if twice := sorted(given.keys() & overrides.keys()):
        raise UsageError(f"--{twice[0]} and --set {twice[0]} say the same", hint="give one of them")
    return load_recipe_of(wanted, name, dataset, overrides | given)


def _images_of(dataset: str, request: Request) -> "Images":
    """The image set; a part of one is named."""
    from zootool.images import load_images

    images = load_images(dataset, partial=True if request.partial else None, download=request.download)
    if images.is_partial and not request.as_json:
        say(f"[yellow]{shown(images.name)} is here in part[/]: its first {len(images):,} images")
    return images


def _default_folder(dataset: str | None, recipe: str) -> Path:
    """zoos/DATASET-RECIPE below the working directory."""
    name = Path(_required(dataset).partition("?")[0].removeprefix("folder:")).name
    return Path("zoos") / f"{name}-{recipe}"


def _show_result(result: "BuildResult", kind: Kind, share: tuple[int, int] | None, as_json: bool) -> None:
    lines = [f"built {result.built:,} of {result.num_networks:,} networks in {shown(result.folder)}"]
    if result.found:
        lines.insert(0, f"skipped {result.found:,} networks that were there already")
    if result.left:
        whose = "other shares" if share else "other processes"
        command = f"zoo build {kind} --status --out {shown(result.folder)}"
        lines.append(f"[yellow]left to {whose}: {result.left:,} networks[/]; `{command}` shows them")
    if result.num_refitted:
        lines.append(f"[yellow]{result.num_refitted:,} networks left the finite numbers[/] and were fitted again")
    lines.append(_diverged(result.num_diverged, " twice" if kind == "siren" else ""))
    answer(as_json, asdict(result) | {"folder": str(result.folder), "left": result.left}, *lines)


def _show_plan(found: "BuildPlan", images: "Images", as_json: bool) -> None:
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


def _show_status(folder: Path, request: Request) -> None:
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


def _diverged(count: int, how: str = "") -> str:
    return f"[red]{count:,} networks diverged{how}[/] and are flagged in the column 'diverged'" if count else ""


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
