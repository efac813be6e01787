"""`zoo build`: networks from an image set, as a folder of units that `zoo convert` reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown

if TYPE_CHECKING:
    from zootool.build import BuildResult, SirenRecipe
    from zootool.images import Images

app = typer.Typer(no_args_is_help=True, help="Build a zoo: train one network per image, or many on an image set.")


@app.callback()
def build() -> None:
    """Build a zoo: train one network per image, or many on an image set."""


@app.command()
def siren(
    dataset: Annotated[str, typer.Option(help="An image set of datasets.yaml, or folder:PATH.")],
    out: Annotated[Path | None, typer.Option(help="The folder of units. [default: zoos/DATASET-RECIPE]")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe of datasets.yaml: see `zoo recipe ls`.")] = "inr-nfn",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a part: --set hidden=64,64.")] = None,
    limit: Annotated[str | None, typer.Option(help="The first N images, or N,N,N of train, validation, test.")] = None,
    copies: Annotated[int | None, typer.Option(help="More networks per training image.")] = None,
    seed: Annotated[int | None, typer.Option(help="Where the initial weights come from.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of Adam.")] = None,
    init: Annotated[
        Literal["random", "shared"] | None, typer.Option(help="Initial weights per network, or one for all.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    partial: Annotated[bool, typer.Option(help="Accept a prefix of the image set.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit one SIREN to every image, and to training images the recipe's copies. Ends early? Run it again.

    Example: zoo build siren --dataset cifar100 --limit 64 --copies 0
    """
    from zootool.build import build_sirens, load_recipe
    from zootool.build.extents import parse_limit
    from zootool.build.recipe import parse_overrides
    from zootool.images import load_images

    options = {"copies": copies, "seed": seed, "steps": steps, "lr": lr, "init": init}
    overrides = parse_overrides(set_ or []) | {key: value for key, value in options.items() if value is not None}
    wanted = load_recipe(recipe, dataset, overrides)
    first = parse_limit(limit)
    images = load_images(dataset, partial=True if partial else None)
    folder = out or default_folder(images, wanted)
    with progress_bars() as report:
        result = build_sirens(images, wanted, folder, limit=first, device=device, report=report)
    if as_json:
        print_json(summary(result))
    else:
        _show(result)


def default_folder(images: "Images", recipe: "SirenRecipe") -> Path:
    """zoos/DATASET-RECIPE below the working directory."""
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in images.name)
    return Path("zoos") / f"{name}-{recipe.name}"


def summary(result: "BuildResult") -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "folder": str(result.folder),
        "num_networks": result.num_networks,
        "built": result.built,
        "found": result.found,
        "left": result.left,
        "num_refitted": result.num_refitted,
        "num_diverged": result.num_diverged,
    }


def _show(result: "BuildResult") -> None:
    if result.found:
        say(f"skipped {result.found:,} networks that were there already")
    say(f"built {result.built:,} of {result.num_networks:,} networks in {shown(result.folder)}")
    if result.left:
        say(f"[yellow]{result.left:,} networks are left[/]: other processes have them, or will")
    if result.num_refitted:
        say(f"[yellow]{result.num_refitted:,} networks left the finite numbers[/] and were fitted again")
    if result.num_diverged:
        say(f"[red]{result.num_diverged:,} networks diverged twice[/]: they are flagged in the column 'diverged'")
