"""Zoos of classifiers of an image set: `zoo build cnn` and `zoo build vit` as functions, and the jobs of a unit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zootool.architecture import Architecture
from zootool.build.builder import BuildResult, BuiltUnit, UnitJob, available_threads, begin_folder, build_units
from zootool.build.classifier.classifier_data import Checkpoint, ClassifierData, classifier_data, levels_of
from zootool.build.classifier.draws import CnnRun, draw_run
from zootool.build.extents import PlannedUnit, RunsExtent, units_of_runs
from zootool.build.recipe import CnnRecipe, VitRecipe
from zootool.build.units import UnitGroup, group_key
from zootool.engines.engine import Engine, run_here, run_on_threads
from zootool.engines.job import Advance
from zootool.errors import UsageError
from zootool.images import Images
from zootool.nets.cnn import cnn_architecture
from zootool.progress import Reporter, silent

if TYPE_CHECKING:
    import pyarrow as pa

MAX_RUNS = 1_000_000
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

    def job(unit: PlannedUnit) -> ClassifierJob:
        return ClassifierJob(
            folder=out,
            number=unit.number,
            threads=threads or available_threads(),
            unit=unit,
            recipe=recipe,
            data=data,
        )

    units = units_of_runs(extents, recipe.split_ratios, record.unit_size)
    return build_units(out, record, units, job, "training networks", engine=engine, share=share, report=report)


def checked_request(images: Images, recipe: CnnRecipe | VitRecipe, runs: int | None) -> tuple[int, ClassifierData]:
    """The number of runs and the images they take. Raises UsageError where the recipe can't fit any of them."""
    count = recipe.runs if runs is None else runs
    if not 1 <= count <= MAX_RUNS:
        raise UsageError(
            f"--runs must be at least 1 and at most {MAX_RUNS:,}, got {count:,}",
            hint="leave it out for the recipe's number",
        )
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
    """A trained network: its number, its architecture, its hyper-parameters and its checkpoints."""

    run: int
    architecture: Architecture
    hyper_parameters: dict[str, Any]
    checkpoints: list[Checkpoint]


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassifierJob(UnitJob):
    """One unit of classifiers. Runs are trained in stacks, each stack on a thread of its own."""

    recipe: CnnRecipe | VitRecipe
    data: ClassifierData

    def build(self, advance: Advance) -> BuiltUnit:
        """Train the networks: a CNN is a stack by itself, transformers go with those that are trained equally long."""
        runs = self.unit.networks.tolist()
        if isinstance(self.recipe, CnnRecipe):
            program, stacks, train = "CPU kernel", [[run] for run in runs], _cnn_training(self.recipe, self.data)
        else:
            program, stacks = "stacked torch", _vit_stacks(self.recipe, runs)
            train = _vit_training(self.recipe, self.data)
        trained: dict[int, TrainedRun] = {}

        def train_stack(index: int) -> int:
            trained.update((found.run, found) for found in train(stacks[index]))
            return len(stacks[index])

        run_on_threads(train_stack, len(stacks), self.threads, advance)
        splits = dict(zip(runs, self.unit.parts.tolist(), strict=True))
        return _assemble([trained[run] for run in runs], splits, self.recipe.seed, program)


Training = Callable[[list[int]], list[TrainedRun]]
"""Trains the runs of a stack."""


def _cnn_training(recipe: CnnRecipe, data: ClassifierData) -> Training:
    from zootool.build.classifier.cnn_training import image_data, train_cnn

    levels = levels_of(recipe.target)
    train, test = image_data(data.train, levels), image_data(data.test, levels)

    def train_run(number: int) -> TrainedRun:
        run = draw_run(recipe, number, data.image_shape, data.num_classes)
        columns = _cnn_columns(recipe, run)
        return TrainedRun(number, cnn_architecture(run.config), columns, train_cnn(run, recipe, train, test))

    return lambda stack: [train_run(number) for number in stack]


def _vit_stacks(recipe: VitRecipe, runs: list[int]) -> list[list[int]]:
    """Runs that are trained equally long; those that take longest come first, so that threads end together."""
    stacks = []
    for epochs in sorted(set(recipe.epochs), reverse=True):
        equal = [run for run in runs if recipe.num_epochs(run) == 1 + epochs]
        stacks += [equal[i : i + MAX_STACKED] for i in range(0, len(equal), MAX_STACKED)]
    return stacks


def _vit_training(recipe: VitRecipe, data: ClassifierData) -> Training:
    from zootool.build.classifier.vit_training import train_vits

    architecture = recipe.architecture(data.image_shape[2], data.num_classes)
    common = {"recipe": recipe.name, "optimiser": "adam", "lr": recipe.lr, "batch_size": recipe.batch_size}

    def train(stack: list[int]) -> list[TrainedRun]:
        epochs = recipe.num_epochs(stack[0])
        checkpoints = train_vits(stack, epochs, recipe, data)
        columns = common | {"epochs": epochs}
        return [TrainedRun(run, architecture, columns, [last]) for run, last in zip(stack, checkpoints, strict=True)]

    return train


def _assemble(trained: Sequence[TrainedRun], splits: Mapping[int, str], seed: int, program: str) -> BuiltUnit:
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
    table = _table([run for members in groups.values() for run in members], splits, seed)
    found = {
        "num_refitted": 0,
        "num_diverged": sum(any(checkpoint.diverged for checkpoint in run.checkpoints) for run in trained),
        "groups": tuple(
            UnitGroup(members[0].architecture.to_dict(), sum(len(run.checkpoints) for run in members))
            for members in groups.values()
        ),
    }
    return tensors, table, program, found


def _table(trained: Sequence[TrainedRun], splits: Mapping[int, str], seed: int) -> "pa.Table":
    """A row per checkpoint. `training_step` counts epochs; there is no source image, and so no `label` of one."""
    import pyarrow as pa

    rows = [(run, checkpoint) for run in trained for checkpoint in run.checkpoints]
    columns: dict[str, Any] = {
        "net_id": [f"{run.run:06d}-{checkpoint.epoch:03d}" for run, checkpoint in rows],
        "run_id": [f"{run.run:06d}" for run, _ in rows],
        "training_step": np.array([checkpoint.epoch for _, checkpoint in rows], np.int64),
        "split": [splits[run.run] for run, _ in rows],
        "seed": np.full(len(rows), seed, np.int64),
    }
    for name in ("test_accuracy", "train_accuracy", "test_loss", "train_loss"):
        columns[name] = np.array([getattr(checkpoint, name) for _, checkpoint in rows], np.float32)
    columns["diverged"] = [checkpoint.diverged for _, checkpoint in rows]
    for key in trained[0].hyper_parameters:
        columns[f"hp_{key}"] = [run.hyper_parameters[key] for run, _ in rows]
    return pa.table(columns)


def _cnn_columns(recipe: CnnRecipe, run: CnnRun) -> dict[str, Any]:
    config = run.config
    drawn = ("optimiser", "lr", "l2", "dropout", "init_kind", "init_std", "train_fraction")
    return {
        "recipe": recipe.name,
        **{name: getattr(run, name) for name in drawn},
        "batch_size": recipe.batch_size,
        "num_convolutions": config.num_convolutions,
        "channels": _joined(config.channels[1:]),
        "kernels": _joined(config.kernels),
        "strides": _joined(config.strides),
        "activations": _joined(config.activations),
        "residuals": _joined("" if source is None else source for source in config.residuals),
        "head": config.head,
    }


def _joined(parts: Iterable[object]) -> str:
    return ",".join(map(str, parts))
