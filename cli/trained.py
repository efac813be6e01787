"""`zoo embed`, `predict` and `reconstruct`: what a trained model makes of every network."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, answer, progress_bars, shown
from cli.groups import DeviceOption, ModelOption, StoreArgument

NewFolderOption = Annotated[Path, typer.Option(help="The folder to write.")]


def embed(
    store: StoreArgument,
    model: ModelOption,
    out: NewFolderOption,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Write the code of every network: latent maps or memories as a Zarr array, and net_ids in the same order.

    Example: zoo embed digits.zoo --model runs/digits --out codes
    """
    from dng.runs.apply import embed as write_codes
    from dng.training.distributed import local_device
    from zootool import open_zoo

    zoo = open_zoo(store)
    with progress_bars() as report:
        found = write_codes(zoo, model, out, local_device(device), report)
    lost = f"[yellow]{found.num_non_finite:,} codes are not finite[/]: look at the networks with `zoo verify`"
    answer(
        as_json,
        vars(found) | {"path": str(out)},
        f"[green]wrote[/] {found.shape[0]:,} codes of the shape {found.shape[1:]} to {shown(out)}",
        lost if found.num_non_finite else "",
    )


def predict(
    store: StoreArgument,
    model: ModelOption,
    out: Annotated[Path, typer.Option(help="The file to write, .parquet or .csv.")] = Path("predictions.parquet"),
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Predict the class or the accuracy of every network, in the order of the store's table.

    Example: zoo predict digits.zoo --model runs/digits-demo-0 --out predictions.parquet
    """
    from dng.runs.apply import check_table_path
    from dng.runs.apply import predict as predict_networks
    from dng.training.distributed import local_device
    from zootool import open_zoo

    check_table_path(out)
    zoo = open_zoo(store)
    with progress_bars() as report:
        found = predict_networks(zoo, model, local_device(device), report)
    found.write(out)
    lost = f"[yellow]{found.num_non_finite:,} networks have no prediction[/]: their weights are not finite"
    answer(
        as_json,
        {
            "kind": found.kind,
            "zoo_id": found.zoo_id,
            "model_digest": found.model_digest,
            "num_networks": len(found.table),
            "num_non_finite": found.num_non_finite,
            "path": str(out),
        },
        f"[green]wrote[/] the predicted {found.kind} of {len(found.table):,} networks to {shown(out)}",
        lost if found.num_non_finite else "",
    )


def reconstruct(
    store: StoreArgument,
    model: ModelOption,
    out: NewFolderOption,
    limit: Annotated[int | None, typer.Option(min=1, help="The first N networks.")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Write the image that the model decodes from each network as PNG, and a contact sheet of the first hundred.

    Example: zoo reconstruct digits.zoo --model runs/digits --out images --limit 100
    """
    from dng.bench.pictures import SHEET
    from dng.bench.pictures import reconstruct as write_images
    from dng.training.distributed import local_device
    from zootool import open_zoo

    zoo = open_zoo(store)
    with progress_bars() as report:
        found = write_images(zoo, model, out, limit, local_device(device), report)
    lost = f"[yellow]{found.num_non_finite:,} networks have no image[/]: their weights are not finite"
    answer(
        as_json,
        vars(found) | {"path": str(out)},
        f"[green]wrote[/] {found.num_images:,} images to {shown(out)}; look at {shown(out / SHEET)}",
        lost if found.num_non_finite else "",
    )
