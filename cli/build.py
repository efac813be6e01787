"""`zoo build`: networks from an image set, as a folder of units that `zoo convert` reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.build_options import (
    DatasetOption,
    OutOption,
    RecipeOption,
    Request,
    SeedOption,
    SetOption,
    Workforce,
    with_groups,
)
from cli.building import default_folder, images_of, recipe_of, required, show_plan, show_result, show_status
from cli.console import progress_bars

if TYPE_CHECKING:
    from zootool.build import CnnRecipe, VitRecipe

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
    from zootool.build.builder import available_threads
    from zootool.build.extents import parse_limit, parse_share
    from zootool.build.recipe import SirenRecipe
    from zootool.engines.engine import choose_engine

    if request.status:
        show_status(out or default_folder(dataset, recipe), request)
        return
    options = {"copies": copies, "seed": seed, "steps": steps, "lr": lr, "init": init}
    wanted = recipe_of(SirenRecipe, recipe, required(dataset), parts, options)
    first, share = parse_limit(limit), parse_share(request.unit)
    how = choose_engine(
        workforce.engine, workers=workforce.workers, address=workforce.address, gpu_fraction=gpu_fraction
    )
    images = images_of(required(dataset), request.partial, request.download, request.as_json)
    if request.plan:
        from zootool.build.plan import plan_sirens

        found = plan_sirens(images, wanted, limit=first, device=device, threads=available_threads())
        show_plan(found, images, request.as_json)
        return
    from zootool.build import build_sirens

    folder = out or default_folder(dataset, recipe)
    with progress_bars() as report:
        result = build_sirens(
            images, wanted, folder, limit=first, device=device, engine=how, share=share, report=report
        )
    show_result(result, "siren", share, request.as_json)


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
        if request.status:
            show_status(out or default_folder(dataset, recipe), request)
            return
        wanted = _classifier_recipe(kind, recipe, required(dataset), parts, seed)
        _build_classifiers(wanted, required(dataset), out, runs, workforce, request)


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


def _build_classifiers(
    recipe: "CnnRecipe | VitRecipe",
    dataset: str,
    out: Path | None,
    runs: int | None,
    workforce: Workforce,
    request: Request,
) -> None:
    from zootool.build.extents import parse_share
    from zootool.engines.engine import choose_engine

    share = parse_share(request.unit)
    how = choose_engine(workforce.engine, workers=workforce.workers, address=workforce.address)
    images = images_of(dataset, request.partial, request.download, request.as_json)
    if request.plan:
        from zootool.build.plan import plan_classifiers

        show_plan(plan_classifiers(images, recipe, runs=runs), images, request.as_json)
        return
    from zootool.build import build_classifiers

    folder = out or default_folder(dataset, recipe.name)
    with progress_bars() as report:
        result = build_classifiers(images, recipe, folder, runs=runs, engine=how, share=share, report=report)
    show_result(result, recipe.kind, share, request.as_json)
