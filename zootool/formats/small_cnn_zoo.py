"""The Small CNN Zoo (Unterthiner et al. 2020): all networks as rows of one matrix, `weights.npy`.

`layout.csv` says which columns are which tensor, in the order and layout of TensorFlow (kernels height, width, sources,
targets), `metrics.csv.gz` has a row per network: its run (`modeldir`), epoch (`step`), accuracies and settings. The
networks are those of `CnnConfig`'s defaults, with the activation of their run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, UsageError, printable
from zootool.formats.collection import CollectedImages, Collection
from zootool.formats.options import ReadOptions
from zootool.formats.published import wanted_steps
from zootool.formats.small_cnn_layout import Entry, read_layout
from zootool.formats.small_cnn_metrics import Metrics, read_metrics
from zootool.formats.small_cnn_splits import FINAL_STEP, published_rows
from zootool.nets.cnn_architecture import CnnConfig, cnn_architecture
from zootool.untrusted.folder_walk import fingerprint_of_files
from zootool.untrusted.safe_npy import open_npy

NAME = "small-cnn-zoo"
TITLE = "Small CNN Zoo: weights.npy, layout.csv and metrics.csv.gz"

_FILES = ("weights.npy", "layout.csv", "metrics.csv.gz")
_ACTIVATIONS = {name: name for name in ("relu", "tanh", "sigmoid", "elu", "gelu")} | {"linear": "none"}
_IMAGE_SETS = {
    "mnist": CollectedImages("mnist", (28, 28, 1), 10),
    "fashion_mnist": CollectedImages("fashion-mnist", (28, 28, 1), 10),
    "cifar10": CollectedImages("cifar10", (32, 32, 1), 10),
    "svhn_cropped": CollectedImages("svhn", (32, 32, 1), 10),
}


@dataclass(frozen=True)
class _Chosen:
    """Rows of the matrix in ascending order, which occurrence of its row each is, its split, the rule and notes."""

    rows: np.ndarray
    occurrence: np.ndarray
    split: np.ndarray
    rule: str
    notes: tuple[str, ...] = ()


def detect(path: Path) -> bool:
    """Whether the three files are there."""
    return all((path / name).is_file() for name in _FILES)


def read(path: Path, options: ReadOptions) -> Collection:
    """Every network of a zoo, or those of `options.steps`.

    With `options.splits`, the published split CSV, the published protocol: final networks alone, its order, its cuts,
    and its slip of reading the header "0" as an index, unless `options.clean`. Without it splits are drawn by run.
    Raises UsageError for `clean` without the CSV or other steps with it, MissingError and FormatError.
    """
    weights = open_npy(path / "weights.npy")
    entries = read_layout(path / "layout.csv")
    if weights.ndim != 2 or weights.dtype != np.float32 or weights.shape[1] != entries[-1].end:
        raise FormatError(
            f"{printable(path / 'weights.npy')} is {weights.dtype} {weights.shape}, "
            f"layout.csv says float32 (networks, {entries[-1].end})"
        )
    metrics = read_metrics(path / "metrics.csv.gz", len(weights))
    chosen = _choose(metrics, options)
    architectures, index = _architectures(entries, metrics.activations, chosen.rows)

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        return tensors_of(entries, _rows_of(weights, chosen.rows[rows]))

    return Collection(
        format=NAME,
        kind="cnn",
        table=_table(metrics, chosen),
        architectures=architectures,
        architecture_index=index,
        load=load,
        fingerprint=fingerprint_of_files([path / name for name in _FILES]),
        image_sets=_image_sets(metrics),
        conventions={"images": "one channel, in [0, 1]", "training_step": "epoch", "splits": chosen.rule},
        notes=chosen.notes,
    )


def tensors_of(entries: Sequence[Entry], block: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the matrix as tensors in torch's layout, which view them."""
    return {entry.key: entry.tensor(block) for entry in entries}


def _rows_of(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
        return weights[rows[0] : rows[-1] + 1]
    return weights[rows]


def _choose(metrics: Metrics, options: ReadOptions) -> _Chosen:
    if options.splits is not None:
        if options.steps not in ((), (FINAL_STEP,)):
            raise UsageError(
                f"the published protocol takes step {FINAL_STEP} alone, not {options.steps}",
                hint="leave out the steps, or the splits",
            )
        found = published_rows(options.splits, metrics.steps, options.clean)
        return _Chosen(found.rows, found.occurrence, found.split, found.rule, found.notes)
    if options.clean:
        raise UsageError("the published protocol needs its split CSV", hint="name it by --splits")
    rows = np.flatnonzero(wanted_steps(metrics.steps.tolist(), options.steps))
    split, rule = seeded_split(metrics.runs[rows].tolist(), seed=options.seed)
    note = "the published splits need their split CSV, which wasn't given: these splits are drawn by run"
    return _Chosen(rows, np.zeros(len(rows), np.int64), split, f"by run: {rule}", (note,))


def _architectures(
    entries: Sequence[Entry], activations: np.ndarray, rows: np.ndarray
) -> tuple[tuple[Architecture, ...], np.ndarray]:
    """An architecture for each activation, and which one each row has."""
    names, index = np.unique(activations[rows], return_inverse=True)
    unknown = sorted(set(names.tolist()) - set(_ACTIVATIONS))
    if unknown:
        known = ", ".join(_ACTIVATIONS)
        raise FormatError(f"metrics.csv.gz has the activation {printable(unknown[0], 40)!r}, known are {known}")
    made = tuple(_architecture(entries, _ACTIVATIONS[name]) for name in names.tolist())
    return made, index.astype(np.int64)


def _architecture(entries: Sequence[Entry], activation: str) -> Architecture:
    shapes = {entry.key: entry.torch_shape for entry in entries}
    convolutions = [shapes[f"layers.{i}.weight"] for i in range(len(shapes) // 2 - 1)]
    count = len(convolutions)
    config = CnnConfig(
        channels=(convolutions[0][1], *(shape[0] for shape in convolutions)),
        kernels=tuple(shape[2] for shape in convolutions),
        strides=(2,) * count,
        paddings=(0,) * count,
        activations=(activation,) * count,
        residuals=(None,) * count,
        num_classes=shapes["fc.weight"][0],
    )
    architecture = cnn_architecture(config)
    if any(slot.shape != shapes.get(slot.key) for slot in architecture.slots):
        raise FormatError("layout.csv describes tensors that don't make one network", hint="get the file again")
    return architecture


def _image_sets(metrics: Metrics) -> tuple[CollectedImages, ...]:
    names = sorted(set(metrics.datasets))
    return (_IMAGE_SETS[names[0]],) if len(names) == 1 and names[0] in _IMAGE_SETS else ()


def _table(metrics: Metrics, chosen: _Chosen) -> pa.Table:
    again = [f"-again{count}" if count else "" for count in chosen.occurrence.tolist()]
    ids = [f"{row:06d}{suffix}" for row, suffix in zip(chosen.rows.tolist(), again, strict=True)]
    columns = {
        "net_id": pa.array(ids),
        "split": pa.array(chosen.split.tolist(), pa.string()),
        "run_id": pa.array(metrics.runs[chosen.rows].tolist(), pa.string()),
        "training_step": pa.array(metrics.steps[chosen.rows], pa.int64()),
    }
    rest = metrics.columns.take(pa.array(chosen.rows)).combine_chunks()
    return pa.table(columns | {name: rest[name] for name in rest.column_names})
