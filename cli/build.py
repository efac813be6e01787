"""`zoo build`: networks from an image set, as a folder of units that `zoo convert` reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.building import default_folder, images_of, recipe_of, required, show_plan, show_result, show_status
from cli.console import JsonOption, progress_bars

if TYPE_CHECKING:
    from zootool.build import CnnRecipe, VitRecipe

app = typer.Typer(no_args_is_help=True, help="Build a zoo: train one network per image, or many on an image set.")

DatasetOption = Annotated[str | None, typer.Option("--dataset", help="An image set of datasets.yaml, or folder:PATH.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The folder of units. [default: zoos/DATASET-RECIPE]")]
RecipeOption = Annotated[str, typer.Option("--recipe", help="A recipe of datasets.yaml: see `zoo recipe ls`.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a part, KEY=VALUE: see `zoo recipe show`.")
]
RunsOption = Annotated[int | None, typer.Option("--runs", help="Networks to train. [default: the recipe's]")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="What all random numbers are drawn from.")]
EngineOption = Annotated[Literal["local", "ray"], typer.Option("--engine", help="Who builds the units.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", help="Worker processes, or Ray tasks at a time.")]
AddressOption = Annotated[str | None, typer.Option("--address", help="The Ray cluster's. [default: start Ray here]")]
UnitOption = Annotated[str | None, typer.Option("--unit", help="I/N: every N-th unit, from unit I on (0/4 to 3/4).")]
PlanOption = Annotated[bool, typer.Option("--plan", help="Say what it would take, and build nothing.")]
StatusOption = Annotated[bool, typer.Option("--status", help="Say how far it is, and build nothing.")]
PartialOption = Annotated[bool, typer.Option("--partial", help="Accept a prefix of the image set.")]
DownloadOption = Annotated[
    bool, typer.Option("--download/--no-download", help="Fetch the image set if it is not on this computer.")
]


@app.callback()
def build() -> None:
    """Build a zoo: train one network per image, or many on an image set."""


@app.command()
def siren(
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
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
    gpu_fraction: Annotated[float, typer.Option(help="Of a GPU for each Ray task.", min=0.01, max=1.0)] = 1.0,
    unit: UnitOption = None,
    plan: PlanOption = False,
    status: StatusOption = False,
    partial: PartialOption = False,
    download: DownloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a SIREN to every image, and to training images the recipe's copies. Interrupted? Run it again.

    Example: zoo build siren --dataset cifar100 --limit 64 --copies 0
    """
    from zootool.build.builder import available_threads
    from zootool.build.engine import choose_engine
    from zootool.build.extents import parse_limit, parse_share
    from zootool.build.siren_recipe import SirenRecipe

    if status:
        show_status(out or default_folder(dataset, recipe), as_json)
        return
    options = {"copies": copies, "seed": seed, "steps": steps, "lr": lr, "init": init}
    wanted = recipe_of(SirenRecipe, recipe, required(dataset), parts, options)
    first, share = parse_limit(limit), parse_share(unit)
    how = choose_engine(engine, workers=workers, address=address, gpu_fraction=gpu_fraction)
    images = images_of(required(dataset), partial, download, as_json)
    if plan:
        from zootool.build.plan import plan_sirens

        found = plan_sirens(images, wanted, limit=first, device=device, threads=available_threads())
        show_plan(found, images, as_json)
        return
    from zootool.build import build_sirens

    folder = out or default_folder(dataset, recipe)
    with progress_bars() as report:
        result = build_sirens(
            images, wanted, folder, limit=first, device=device, engine=how, share=share, report=report
        )
    show_result(result, "siren", share, as_json)


def _add_classifiers(kind: Literal["cnn", "vit"], default_recipe: str, text: str) -> None:
    """Add `zoo build KIND`: kinds of classifiers differ in their recipes alone."""

    @app.command(kind, help=text)
    def build_kind(
        dataset: DatasetOption = None,
        out: OutOption = None,
        recipe: RecipeOption = default_recipe,
        parts: SetOption = None,
        runs: RunsOption = None,
        seed: SeedOption = None,
        engine: EngineOption = "local",
        workers: WorkersOption = None,
        address: AddressOption = None,
        unit: UnitOption = None,
        plan: PlanOption = False,
        status: StatusOption = False,
        partial: PartialOption = False,
        download: DownloadOption = False,
        as_json: JsonOption = False,
    ) -> None:
        if status:
            show_status(out or default_folder(dataset, recipe), as_json)
            return
        wanted = _classifier_recipe(kind, recipe, required(dataset), parts, seed)
        how = _Options(required(dataset), out, runs, engine, workers, address, unit, plan, partial, download, as_json)
        _build_classifiers(wanted, how)


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


def _classifier_recipe(
    kind: Literal["cnn", "vit"], name: str, dataset: str, parts: list[str] | None, seed: int | None
) -> "CnnRecipe | VitRecipe":
    from zootool.build import CnnRecipe, VitRecipe

    if kind == "cnn":
        return recipe_of(CnnRecipe, name, dataset, parts, {"seed": seed})
    return recipe_of(VitRecipe, name, dataset, parts, {"seed": seed})


@dataclass(frozen=True)
class _Options:
    """What `zoo build cnn` and `zoo build vit` are told alike."""

    dataset: str
    out: Path | None
    runs: int | None
    engine: str
    workers: int | None
    address: str | None
    unit: str | None
    plan: bool
    partial: bool
    download: bool
    as_json: bool


def _build_classifiers(recipe: "CnnRecipe | VitRecipe", options: _Options) -> None:
    from zootool.build.engine import choose_engine
    from zootool.build.extents import parse_share

    share = parse_share(options.unit)
    how = choose_engine(options.engine, workers=options.workers, address=options.address)
    images = images_of(options.dataset, options.partial, options.download, options.as_json)
    if options.plan:
        from zootool.build.classifier_plan import plan_classifiers

        show_plan(plan_classifiers(images, recipe, runs=options.runs), images, options.as_json)
        return
    from zootool.build import build_classifiers

    folder = options.out or default_folder(options.dataset, recipe.name)
    with progress_bars() as report:
        result = build_classifiers(images, recipe, folder, runs=options.runs, engine=how, share=share, report=report)
    show_result(result, recipe.kind, share, options.as_json)
