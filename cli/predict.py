"""`zoo predict`: the class or the accuracy that a trained model sees in weights."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown
from cli.embed import DeviceOption, ModelOption


def predict(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
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
    if as_json:
        counts = {"num_networks": len(found.table), "num_non_finite": found.num_non_finite}
        identity = {"kind": found.kind, "zoo_id": found.zoo_id, "model_digest": found.model_digest}
        print_json(identity | counts | {"path": str(out)})
        return
    say(f"[green]wrote[/] the predicted {found.kind} of {len(found.table):,} networks to {shown(out)}")
    if found.num_non_finite:
        say(f"[yellow]{found.num_non_finite:,} networks have no prediction[/]: their weights are not finite")
