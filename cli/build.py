"""`zoo build`: networks from an image set, as a folder of units that `zoo convert` reads."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cli.building import (
    DatasetOption,
    OutOption,
    RecipeOption,
    Request,
    SeedOption,
    SetOption,
    Workforce,
    default_folder,
    images_of,
    recipe_of,
    required,
    show_plan,
    show_result,
    show_status,
)
from cli.console import progress_bars
from cli.options import with_groups

Kind = Literal["siren", "cnn", "vit"]

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
    from zootool.engines.engine import choose_engine

    if request.status:
        show_status(out or default_folder(dataset, recipe), request)
        return
    wanted = recipe_of(kind, recipe, required(dataset), parts, options)
    first, share = parse_limit(limit), parse_share(request.unit)
    engine = choose_engine(
        workforce.engine, workers=workforce.workers, address=workforce.address, gpu_fraction=gpu_fraction
    )
    images = images_of(required(dataset), request.partial, request.download, request.as_json)
    if request.plan:
        from zootool.build.plan import plan_classifiers, plan_sirens

        if isinstance(wanted, SirenRecipe):
            found = plan_sirens(images, wanted, limit=first, device=device, threads=available_threads())
        else:
            found = plan_classifiers(images, wanted, runs=runs)
        show_plan(found, images, request.as_json)
        return
    # A name given by --set is a classifiers' folder's too.
    folder = out or default_folder(dataset, recipe if kind == "siren" else wanted.name)
    with progress_bars() as report:
        how: dict[str, Any] = {"device": device, "engine": engine, "share": share, "report": report}
        if isinstance(wanted, SirenRecipe):
            result = build_sirens(images, wanted, folder, limit=first, **how)
        else:
            result = build_classifiers(images, wanted, folder, runs=runs, **how)
    show_result(result, kind, share, request.as_json)
