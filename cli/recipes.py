"""`zoo recipe`: the recipes of datasets.yaml."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import JsonOption, answer, shown

app = typer.Typer(no_args_is_help=True, help="List, show and check the recipes for building zoos.")

CatalogOption = Annotated[Path | None, typer.Option("--catalog", help="Another datasets.yaml.")]


@app.command("ls")
def list_recipes(catalog: CatalogOption = None, as_json: JsonOption = False) -> None:
    """List the recipes.

    Example: zoo recipe ls
    """
    titles = {name: entry.title for name, entry in _entries(catalog).items()}
    answer(as_json, {"recipes": titles}, *(f"{shown(name)}  [dim]{shown(text)}[/]" for name, text in titles.items()))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A recipe of datasets.yaml.")],
    dataset: Annotated[str | None, typer.Option(help="As the recipe is for this image set.")] = None,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a recipe with every default written out.

    Example: zoo recipe show inr-nfn --dataset digits
    """
    from zootool.build.recipe import load_any_recipe
    from zootool.catalog import load_catalog

    parts: dict[str, Any] = load_any_recipe(name, dataset, catalog=load_catalog(catalog)).model_dump(mode="json")
    answer(as_json, parts, *(f"{key}: {shown(value)}" for key, value in parts.items()))


@app.command()
def validate(catalog: CatalogOption = None, as_json: JsonOption = False) -> None:
    """Check every recipe, and name every problem.

    Example: zoo recipe validate --catalog my-datasets.yaml
    """
    names = list(_entries(catalog))
    answer(as_json, {"valid": names}, f"{len(names)} recipes are valid: {shown(', '.join(names))}")


def _entries(catalog: Path | None) -> dict[str, Any]:
    from zootool.build.recipe import check_recipe
    from zootool.catalog import load_catalog

    return {name: check_recipe(name, value) for name, value in load_catalog(catalog).recipes.items()}
