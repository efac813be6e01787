"""Options that every command of `zoo build` has, declared once: a command takes a group of them as one parameter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.console import JsonOption

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
