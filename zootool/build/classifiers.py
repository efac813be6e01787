"""Zoos of classifiers of an image set: `zoo build cnn` and `zoo build vit` as functions, and the jobs of a unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zootool.architecture import Architecture
from zootool.build.builder import BuildResult, BuiltUnit, UnitJob, available_threads, begin_folder, build_units
from zootool.build.classifier.data import Checkpoint, ClassifierData, classifier_data, levels_of
from zootool.build.classifier.draws import CnnRun, draw_run
from zootool.build.extents import PlannedUnit, RunsExtent, check_runs, units_of_runs
from zootool.build.recipe import CnnRecipe, VitRecipe
from zootool.build.units import UnitGroup, group_key
from zootool.engines.engine import Engine, run_here, run_on_threads
from zootool.engines.job import Advance
from zootool.errors import UsageError
from zootool.images import Images
from zootool.nets.cnn_architecture import cnn_architecture
from zootool.progress import Reporter, silent

if TYPE_CHECKING:
    import pyarrow as pa

STAGE = "training networks"

MAX_STACKED = 8
"""Transformers that are trained together: more of them no longer fit the caches."""


def build_classifiers(
    images: Images,
    recipe: CnnRecipe | VitRecipe,
    out: str | Path,
    *,
    runs: int | None = None,
    device: str = "cpu",
    engine: Engine = run_here,
    threads: int | None = None,
    share: tuple[int, int] | None = None,
    report: Reporter = silent,
) -> BuildResult:
    """Train `runs` networks (by default the recipe's number) on `images` into the folder of units `out`.

    Networks that are there stay; a larger number of runs adds to them. `share`, `engine` and `threads` are as in
    `build_sirens`. Raises UsageError for a number of runs below 1, a recipe that can't fit the images, and where
    `out` holds something else or was begun with another recipe or image set; MissingError where images are lacking
    or `out` can't be written to.
    """
    if device != "cpu":
        raise UsageError(f"classifiers are trained on the CPU, not on {device!r}", hint="leave --device out")
    count, data = checked_request(images, recipe, runs)
    out = Path(out)
    record = begin_folder(out, recipe, images, RunsExtent(runs=count))
    extents = [extent for extent in record.extents if isinstance(extent, RunsExtent)]
    common: dict[str, Any] = {"folder": out, "threads": threads or available_threads(), "data": data}

    def job(unit: PlannedUnit) -> UnitJob:
        if isinstance(recipe, CnnRecipe):
            return CnnJob(number=unit.number, unit=unit, recipe=recipe, **common)
        return VitJob(number=unit.number, unit=unit, recipe=recipe, **common)

    units = units_of_runs(extents, recipe.split_ratios, record.unit_size)
    return build_units(out, record, units, job, STAGE, engine=engine, share=share, report=report)


def checked_request(images: Images, recipe: CnnRecipe | VitRecipe, runs: int | None) -> tuple[int, ClassifierData]:
    """The number of runs and the images they take. Raises UsageError where the recipe can't fit any of them."""
    count = recipe.runs if runs is None else runs
    check_runs(count)
    data = classifier_data(images, recipe)
    if isinstance(recipe, CnnRecipe):
        for run in range(count):
            draw_run(recipe, run, data.image_shape, data.num_classes)
        return count, data
    height, width, channels = data.image_shape
    patch = recipe.patch_size
    if height % patch or width % patch:
        raise UsageError(
            f"recipe {recipe.name} cuts patches of {patch} x {patch}, the images are {height} x {width}",
            hint="--set patch_size= a divisor of both sides",
        )
    recipe.architecture(channels, data.num_classes)
    return count, data


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A trained network: its number and split, its architecture, its hyper-parameters and its checkpoints."""

    run: int
    split: str
    architecture: Architecture
    hyper_parameters: dict[str, Any]
    checkpoints: list[Checkpoint]

    @property
    def diverged(self) -> bool:
        """Whether it left the finite numbers at some checkpoint."""
        return any(checkpoint.diverged for checkpoint in self.checkpoints)


@dataclass(frozen=True, eq=False, kw_only=True)
class CnnJob(UnitJob):
    """One unit of CNNs."""

    recipe: CnnRecipe
    data: ClassifierData

    def build(self, advance: Advance) -> BuiltUnit:
        """Train the networks, each on a thread of its own."""
        from zootool.build.classifier.cnn import image_data, train_cnn

        levels = levels_of(self.recipe.target)
        train, test = image_data(self.data.train, levels), image_data(self.data.test, levels)
        trained: dict[int, TrainedRun] = {}

        def train_one(index: int) -> int:
            run = draw_run(self.recipe, int(self.unit.networks[index]), self.data.image_shape, self.data.num_classes)
            checkpoints = train_cnn(run, self.recipe, train, test)
            split, architecture = str(self.unit.parts[index]), cnn_architecture(run.config)
            trained[index] = TrainedRun(run.run, split, architecture, _cnn_columns(self.recipe, run), checkpoints)
            return 1

        run_on_threads(train_one, len(self), self.threads, advance)
        return _assemble([trained[index] for index in range(len(self))], self.recipe.seed, "CPU kernel")


@dataclass(frozen=True, eq=False, kw_only=True)
class VitJob(UnitJob):
    """One unit of SimpleViTs."""

    recipe: VitRecipe
    data: ClassifierData

    def build(self, advance: Advance) -> BuiltUnit:
        """Train the networks in stacks of those that are trained equally long, each stack on a thread of its own."""
        from zootool.build.classifier.vit import train_vits

        recipe, stacks = self.recipe, self._stacks()
        splits = dict(zip(self.unit.networks.tolist(), self.unit.parts.tolist(), strict=True))
        architecture = recipe.architecture(self.data.image_shape[2], self.data.num_classes)
        trained: dict[int, TrainedRun] = {}

        def train_stack(index: int) -> int:
            epochs, runs = stacks[index]
            hyper_parameters = {
                "recipe": recipe.name, "optimiser": "adam", "lr": recipe.lr, "batch_size": recipe.batch_size,
                "epochs": epochs,
            }  # fmt: skip
            for run, checkpoint in zip(runs, train_vits(runs, epochs, recipe, self.data), strict=True):
                trained[run] = TrainedRun(run, splits[run], architecture, hyper_parameters, [checkpoint])
            return len(runs)

        run_on_threads(train_stack, len(stacks), self.threads, advance)
        return _assemble([trained[run] for run in self.unit.networks.tolist()], recipe.seed, "stacked torch")

    def _stacks(self) -> list[tuple[int, list[int]]]:
        """Epochs and runs of each stack; those that take longest come first, so that threads end together."""
        stacks, epochs = [], self.recipe.epochs
        for more_epochs in sorted(set(epochs), reverse=True):
            runs = [run for run in self.unit.networks.tolist() if epochs[run % len(epochs)] == more_epochs]
            stacks += [(1 + more_epochs, runs[i : i + MAX_STACKED]) for i in range(0, len(runs), MAX_STACKED)]
        return stacks


def _assemble(trained: Sequence[TrainedRun], seed: int, made_by: str) -> BuiltUnit:
    """The unit of these networks, grouped by architecture in the order in which the architectures first appear."""
    groups: dict[str, list[TrainedRun]] = {}
    for run in trained:
        groups.setdefault(run.architecture.signature, []).append(run)
    tensors: dict[str, np.ndarray] = {}
    for number, members in enumerate(groups.values()):
        rows = np.stack([checkpoint.parameters for run in members for checkpoint in run.checkpoints])
        start = 0
        for slot in members[0].architecture.slots:
            tensors[group_key(number, slot.key)] = rows[:, start : start + prod(slot.shape)].reshape(-1, *slot.shape)
            start += prod(slot.shape)
    return BuiltUnit(
        tensors=tensors,
        table=_table([run for members in groups.values() for run in members], seed),
        made_by=made_by,
        num_diverged=sum(run.diverged for run in trained),
        groups=tuple(
            UnitGroup(members[0].architecture.to_dict(), sum(len(run.checkpoints) for run in members))
            for members in groups.values()
        ),
    )


def _table(trained: Sequence[TrainedRun], seed: int) -> "pa.Table":
    """A row per checkpoint. `training_step` counts epochs; there is no source image, and so no `label` of one."""
    import pyarrow as pa

    rows = [(run, checkpoint) for run in trained for checkpoint in run.checkpoints]
    names = [f"{run.run:06d}" for run, _ in rows]
    return pa.table(
        {
            "net_id": [f"{name}-{c.epoch:03d}" for name, (_, c) in zip(names, rows, strict=True)],
            "run_id": names,
            "training_step": np.array([c.epoch for _, c in rows], np.int64),
            "split": [run.split for run, _ in rows],
            "seed": np.full(len(rows), seed, np.int64),
            "test_accuracy": np.array([c.test_accuracy for _, c in rows], np.float32),
            "train_accuracy": np.array([c.train_accuracy for _, c in rows], np.float32),
            "test_loss": np.array([c.test_loss for _, c in rows], np.float32),
            "train_loss": np.array([c.train_loss for _, c in rows], np.float32),
            "diverged": [c.diverged for _, c in rows],
            **{
                f"hp_{key}": [run.hyper_parameters[key] for run, _ in rows]
                for key in (rows[0][0].hyper_parameters if rows else ())
            },
        }
    )


def _cnn_columns(recipe: CnnRecipe, run: CnnRun) -> dict[str, Any]:
    config = run.config
    return {
        "recipe": recipe.name,
        "optimiser": run.optimiser,
        "lr": run.lr,
        "l2": run.l2,
        "dropout": run.dropout,
        "init_kind": run.init_kind,
        "init_std": run.init_std,
        "train_fraction": run.train_fraction,
        "batch_size": recipe.batch_size,
        "num_convolutions": config.num_convolutions,
        "channels": _joined(config.channels[1:]),
        "kernels": _joined(config.kernels),
        "strides": _joined(config.strides),
        "activations": _joined(config.activations),
        "residuals": _joined("" if source is None else source for source in config.residuals),
        "head": config.head,
    }


def _joined(parts: Any) -> str:
    return ",".join(map(str, parts))
