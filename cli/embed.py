"""`zoo embed`: what a trained model makes of every network."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown

ModelOption = Annotated[Path, typer.Option(help="The folder of a trained run.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]


def embed(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
    model: ModelOption,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Write the code of every network: latent maps or memories as a Zarr array, and net_ids in the same order.

    Example: zoo embed digits.zoo --model runs/digits --out codes
    """
    from dataclasses import asdict

    from dng.runs.apply import embed as write_codes
    from dng.training.distributed import local_device
    from zootool import open_zoo

    zoo = open_zoo(store)
    with progress_bars() as report:
        found = write_codes(zoo, model, out, local_device(device), report)
    if as_json:
        print_json(asdict(found) | {"path": str(out)})
        return
    say(f"[green]wrote[/] {found.shape[0]:,} codes of the shape {found.shape[1:]} to {shown(out)}")
    if found.num_non_finite:
        say(f"[yellow]{found.num_non_finite:,} codes are not finite[/]: look at the networks with `zoo verify`")
