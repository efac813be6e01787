"""Using a trained run on a zoo, batch by batch: codes and predictions of every network."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import zarr
from jaxtyping import Bool, Int64
from pyarrow import csv
from torch import Tensor

from dng.models.model import Model, Predicts, Reader
from dng.runs.codes import load_code_classifier
from dng.runs.load import load, model_dir
from dng.runs.on_zoo import CPU
from dng.zoo_data import Zoo
from zootool.errors import BadDataError, UsageError
from zootool.files import folder_atomic, refuse_inside, sha256_file, write_atomic, write_json_atomic
from zootool.graph import GraphBatch
from zootool.progress import Reporter, silent

BATCH_SIZE = 128
"""Networks in memory at a time, and in a chunk of written codes."""

CODES, NETS, MANIFEST = "codes", "nets.parquet", "embedding.json"


@dataclass(frozen=True)
class Embedding:
    """What a folder of codes holds: an array of `shape` (networks, ...) float32, made by the model of this digest."""

    zoo_id: str
    zoo_name: str
    model_kind: str
    model_digest: str
    shape: tuple[int, ...]
    num_non_finite: int
    dtype: str = "float32"


@dataclass(frozen=True)
class Predictions:
    """The predictions of all networks in the zoo's order, null where a network's weights aren't finite."""

    zoo_id: str
    model_digest: str
    kind: Predicts
    table: pa.Table

    @property
    def num_non_finite(self) -> int:
        """Networks without a prediction."""
        return self.table["prediction"].null_count

    def write(self, path: str | Path) -> None:
        """Write .parquet, with the zoo and the model as metadata, or .csv. Raises UsageError for other names."""
        path = Path(path)
        check_table_path(path)
        metadata = {"zoo_id": self.zoo_id, "model_digest": self.model_digest, "kind": self.kind}
        if path.suffix.lower() == ".csv":
            write_atomic(path, lambda sink: csv.write_csv(self.table, sink))
            return
        write_atomic(path, lambda sink: pq.write_table(self.table.replace_schema_metadata(metadata), sink))


def embed(
    zoo: Zoo, run_dir: str | Path, destination: str | Path, device: torch.device = CPU, report: Reporter = silent
) -> Embedding:
    """Write the codes of every network into the folder `destination`: latent maps or codes, memories (n_L, d), or what
    else a method's head reads.

    codes/ is a Zarr v3 array, nets.parquet has the net_id of each of its rows, embedding.json an `Embedding`. Raises
    UsageError where `destination` exists or the model wasn't built for these networks.
    """
    run_dir, destination = Path(run_dir), Path(destination)
    refuse_existing(destination)
    model = load(run_dir).to(device)
    with folder_atomic(destination) as folder:
        rows, shape, num_non_finite = _write_codes(folder, zoo, model, device, report)
        net_ids = zoo.nets.to_arrow(["net_id"])["net_id"].take(np.searchsorted(zoo.rows, rows))
        pq.write_table(pa.table({"net_id": net_ids}), folder / NETS)
        digest = sha256_file(model_dir(run_dir) / "best.safetensors")
        found = Embedding(zoo.id, zoo.info.name, model.kind, digest, shape, num_non_finite)
        write_json_atomic(folder / MANIFEST, asdict(found))
    return found


def predict(zoo: Zoo, run_dir: str | Path, device: torch.device = CPU, report: Reporter = silent) -> Predictions:
    """The class or the accuracy that a run predicts for every network of `zoo`.

    Raises MissingError where the run has nothing that predicts, UsageError where it wasn't built for these networks.
    """
    run_dir = Path(run_dir)
    model = load(run_dir).to(device)
    kind, function = _predictor(model, run_dir, device)
    rows, values, finite = [], [], []
    for batch in batches_of(zoo, device, report, "predicting"):
        rows.append(batch.rows.cpu().numpy())
        values.append(function(batch).cpu().numpy())
        finite.append(finite_networks(batch).cpu().numpy())
    order = np.argsort(np.concatenate(rows))
    column = pa.array(np.concatenate(values)[order], mask=~np.concatenate(finite)[order])
    table = pa.table({"net_id": zoo.nets.to_arrow(["net_id"])["net_id"], "prediction": column})
    return Predictions(zoo.id, sha256_file(model_dir(run_dir) / "best.safetensors"), kind, table)


def batches_of(zoo: Zoo, device: torch.device, report: Reporter, stage: str) -> Iterator[GraphBatch]:
    """Every network once, without gradients. Raises BadDataError for an empty zoo."""
    if len(zoo) == 0:
        raise BadDataError(f"{zoo.info.name} has no networks", hint="look at it with `zoo info`")
    done = 0
    with torch.inference_mode():
        for batch in zoo.loader(BATCH_SIZE, device=device, targets=()):
            yield batch
            done += len(batch)
            report(stage, done, len(zoo))


def finite_networks(graph: GraphBatch) -> Bool[Tensor, " batch"]:
    """Which networks of a batch have finite weights throughout."""
    return torch.stack([torch.isfinite(x).flatten(1).all(dim=1) for x in (*graph.edges, *graph.nodes)]).all(dim=0)


def check_table_path(path: Path) -> None:
    """Raise UsageError where `path` exists, lies within a store, or is neither .parquet nor .csv."""
    refuse_existing(path)
    refuse_inside(path)
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise UsageError(f"{path} is neither .parquet nor .csv", hint=f"such as {path.with_suffix('.parquet')}")


def refuse_existing(path: Path) -> None:
    """Raise UsageError where something has the name `path` already."""
    if path.exists():
        raise UsageError(f"{path} exists", hint="choose another --out, or remove it first")


def _write_codes(
    folder: Path, zoo: Zoo, model: Model, device: torch.device, report: Reporter
) -> tuple[Int64[np.ndarray, " networks"], tuple[int, ...], int]:
    """Write the codes as they come; returns the networks' rows in that order, the array's shape, the bad ones."""
    array: Any = None
    rows: list[np.ndarray] = []
    done = num_non_finite = 0
    for batch in batches_of(zoo, device, report, "encoding"):
        codes = model.encode(batch).float().cpu().numpy()
        if array is None:
            shape, chunks = (len(zoo), *codes.shape[1:]), (min(BATCH_SIZE, len(zoo)), *codes.shape[1:])
            array = zarr.create_array(folder / CODES, shape=shape, chunks=chunks, dtype="float32", zarr_format=3)
        array[done : done + len(codes)] = codes
        num_non_finite += int((~np.isfinite(codes.reshape(len(codes), -1)).all(axis=1)).sum())
        rows.append(batch.rows.cpu().numpy())
        done += len(codes)
    return np.concatenate(rows), tuple(array.shape), num_non_finite


def _predictor(model: Model, run_dir: Path, device: torch.device) -> tuple[Predicts, Callable[[GraphBatch], Tensor]]:
    if isinstance(model, Reader):
        return model.predicts, model.predict
    classifier = load_code_classifier(run_dir).to(device)
    return "class", lambda graph: classifier.predict(model.encode(graph))
