"""What predicting accuracies is measured on, a zoo's networks with accuracies, runs and splits; and its settings."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from dng.bench.certainty import last_of_runs
from dng.bench.comparison import SPLITS
from dng.bench.harness import called
from dng.encoder.config import EncoderConfig
from dng.methods.dynamic_graph import DNG
from dng.models.heads import count_parameters
from dng.runs.presets import ReaderPreset, reader_preset
from dng.training.loop import TrainConfig
from dng.training.symmetries import Symmetries
from dng.zoo_data import Zoo
from zootool.architecture import Architecture
from zootool.errors import BadDataError, UsageError, did_you_mean, printable
from zootool.graph import GraphBatch

PRESETS = ("demo", "quick", "paper")
MIN_NETWORKS = 20
TARGET = "test_accuracy"


@dataclass(frozen=True, eq=False)
class AccuracyZoo:
    """The networks that take part, as selections of the zoo; columns are in the order of `zoo.rows`.

    `accuracies` are fractions. `notes` say what was found and done: converted percents, duplicates, constant networks.
    """

    zoo: Zoo
    target: str
    accuracies: np.ndarray
    runs: np.ndarray
    steps: np.ndarray
    splits: np.ndarray
    notes: tuple[str, ...]

    def split(self, name: str) -> np.ndarray:
        """The places of a split's networks."""
        return np.flatnonzero(self.splits == name)

    def last(self, name: str) -> np.ndarray:
        """The places of each run's last checkpoint among a split's networks."""
        return last_of_runs(self.runs[self.split(name)], self.steps[self.split(name)])

    @property
    def accuracy_by_row(self) -> np.ndarray:
        """The accuracies at their rows of the store, -1 elsewhere."""
        spread = np.full(int(self.zoo.rows.max()) + 1, -1, np.float32)
        spread[self.zoo.rows] = self.accuracies
        return spread

    def batches(self, name: str, batch_size: int = 256, device: torch.device | None = None) -> Sequence[GraphBatch]:
        """All networks of a split, in no particular order, on `device` (None: the CPU)."""
        loader = self.zoo.select(split=name).loader(batch_size, device=device, targets=())
        return list(loader)

    def num_runs(self, name: str) -> int:
        """How many runs a split has."""
        return len(np.unique(self.runs[self.split(name)]))


def read_accuracies(zoo: Zoo, target: str = TARGET) -> AccuracyZoo:
    """Check a zoo's accuracies and splits.

    Raises BadDataError for fewer than 20 networks, missing or equal accuracies, values that are no accuracies, splits
    that are missing or share runs; UsageError for a column that isn't there.
    """
    nets = zoo.nets
    if len(zoo) < MIN_NETWORKS:
        raise BadDataError(f"{zoo.info.name} has {len(zoo)} networks, predicting accuracies needs {MIN_NETWORKS}",
                           hint="build a larger zoo")  # fmt: skip
    if target not in nets:
        known = [name for name in nets.columns if "acc" in name]
        lacks = "its networks record no accuracies: build them with `zoo build cnn`"
        raise UsageError(
            f"{zoo.info.name} has no column {printable(target, 60)!r}",
            hint=did_you_mean(target, known) if known else lacks,
        )
    accuracies, notes = _accuracies(zoo, nets[target], target)
    splits = nets["split"].to_numpy(str) if "split" in nets else np.full(len(zoo), "")
    runs = (nets["run_id"] if "run_id" in nets else nets["net_id"]).to_numpy(str)
    steps = nets["training_step"].to_numpy(np.int64) if "training_step" in nets else np.zeros(len(zoo), np.int64)
    _check_splits(splits, runs, zoo)
    notes += _oddities(zoo)
    return AccuracyZoo(zoo, target, accuracies, runs, steps, splits, tuple(notes))


def _accuracies(zoo: Zoo, column: pd.Series, target: str) -> tuple[np.ndarray, list[str]]:
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise BadDataError(f"the column {target!r} holds {column.dtype}, not accuracies")
    values = column.to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise BadDataError(f"{count} networks of {zoo.info.name} have no {target}",
                           hint="select those that have one: zoo subset")  # fmt: skip
    notes = []
    if values.min() >= 0 and 1 < values.max() <= 100:
        values, notes = values / 100, [f"the column {target} holds percents (up to {values.max():g}): divided by 100"]
    if values.min() < 0 or values.max() > 1:
        raise BadDataError(
            f"the column {target!r} holds numbers from {values.min():g} to {values.max():g}, accuracies are in [0, 1]"
        )
    if np.ptp(values) == 0:
        raise BadDataError(f"all networks of {zoo.info.name} have the {target} {values[0]:g}: nothing to predict")
    return values.astype(np.float32), notes


def _check_splits(splits: np.ndarray, runs: np.ndarray, zoo: Zoo) -> None:
    missing = [name for name in SPLITS if name not in splits]
    if missing:
        raise BadDataError(f"{zoo.info.name} has no networks in the split {' and '.join(missing)}",
                           hint="build more runs, or convert with --split-seed")  # fmt: skip
    owner: dict[str, str] = {}
    pairs = zip(runs.tolist(), splits.tolist(), strict=True)
    leaking = {run for run, split in pairs if owner.setdefault(run, split) != split}
    if leaking:
        raise BadDataError(
            f"{len(leaking)} runs of {zoo.info.name} have checkpoints in more than one split, such as "
            f"{printable(min(leaking), 60)}",
            hint="split by run: such a benchmark would reward remembering",
        )


def _oddities(zoo: Zoo) -> list[str]:
    notes = []
    duplicated = int(zoo.nets["digest"].duplicated().sum())
    if duplicated:
        notes.append(f"{duplicated:,} networks have the same weights as an earlier one")
    constant = sum(_num_constant(batch) for batch in zoo.loader(512, targets=()))
    if constant:
        notes.append(f"{constant:,} networks are constant: each layer's weights are all equal")
    return notes


def _num_constant(batch: GraphBatch) -> int:
    layers = [edges.flatten(1) for edges in batch.edges if edges[0].numel() > 1]
    spread = torch.stack([layer.amax(dim=1) - layer.amin(dim=1) for layer in layers]).amax(dim=0)
    return int((spread == 0).sum())


@dataclass(frozen=True)
class GeneralizationSettings:
    """The DNG predictor with its training, which all others that are trained in steps share.

    Published methods have `num_parameters` within 5 %, or their published sizes where that is None.
    """

    dng: ReaderPreset
    num_parameters: int | None = None

    @property
    def flat_mlp(self) -> TrainConfig:
        """The training of the flat MLP: the same but for its own learning rate and weight decay."""
        return replace(self.dng.training, lr=1e-3, optimizer="adamw", weight_decay=1e-2)

    def plain(self) -> dict[str, Any]:
        """The settings as a run keeps them."""
        return {"dng": self.dng.plain(), "num_parameters": self.num_parameters, "flat_mlp": asdict(self.flat_mlp)}


def generalization_settings(
    preset: str,
    architectures: Collection[Architecture],
    batches_per_epoch: Callable[[int], int],
    num_parameters: int | None = None,
) -> GeneralizationSettings:
    """`paper`: as published for zoos of this kind. `quick`: narrower and shorter, for two cores and a minute a seed;
    `demo`: fewer and smaller still, to see that everything works; it learns next to nothing.

    In `quick` training networks are varied by `Symmetries`, and published methods have as many parameters as the DNG
    predictor where `num_parameters` doesn't say otherwise. Raises UsageError for an unknown preset.
    """
    called("preset", preset, dict.fromkeys(PRESETS))
    published = reader_preset("paper", architectures, batches_per_epoch)
    if preset == "paper":
        return GeneralizationSettings(published, num_parameters)
    chosen = _quick(published)
    if preset == "demo":
        chosen = _demo(chosen)
    return GeneralizationSettings(chosen, num_parameters or _size(chosen, architectures))


def _size(preset: ReaderPreset, architectures: Collection[Architecture]) -> int:
    with torch.device("meta"):
        return count_parameters(DNG(architectures, 1, preset.config))


def _quick(published: ReaderPreset) -> ReaderPreset:
    encoder: EncoderConfig = replace(
        published.config.encoder, dim=64, head_dim=16, num_frequencies=16, output_activation=None, padding=None
    )
    training = TrainConfig(
        steps=600, batch_size=64, lr=2e-3, optimizer="adamw", weight_decay=5e-4, warmup_start=0.1,
        warmup_per_step=0.02, decay="cosine", validate_every=50, clip=10.0,
    )  # fmt: skip
    return ReaderPreset(replace(published.config, encoder=encoder, head_dim=128), training, Symmetries())


def _demo(quick: ReaderPreset) -> ReaderPreset:
    encoder = replace(quick.config.encoder, dim=16, head_dim=4)
    training = replace(quick.training, steps=100, batch_size=16, validate_every=20)
    return replace(quick, config=replace(quick.config, encoder=encoder, head_dim=32), training=training)
