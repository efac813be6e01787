"""`zoo reconstruct`: the images that a trained model sees in weights."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown
from cli.embed import DeviceOption, ModelOption


def reconstruct(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
    model: ModelOption,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    limit: Annotated[int | None, typer.Option(min=1, help="The first N networks.")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Write the image that the model decodes from each network as PNG, and a contact sheet of the first hundred.

    Example: zoo reconstruct digits.zoo --model runs/digits --out images --limit 100
    """
    from dataclasses import asdict

    from dng.bench.pictures import SHEET
    from dng.bench.pictures import reconstruct as write_images
    from dng.training.distributed import local_device
    from zootool import open_zoo

    zoo = open_zoo(store)
    with progress_bars() as report:
        found = write_images(zoo, model, out, limit, local_device(device), report)
    if as_json:
        print_json(asdict(found) | {"path": str(out)})
        return
    say(f"[green]wrote[/] {found.num_images:,} images to {shown(out)}; look at {shown(out / SHEET)}")
    if found.num_non_finite:
        say(f"[yellow]{found.num_non_finite:,} networks have no image[/]: their weights are not finite")
