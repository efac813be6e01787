"""The jobs that train a unit of classifiers, and the unit that their checkpoints become."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64

from zootool.architecture import Architecture
from zootool.build.classifier.draws import CnnRun, draw_run
from zootool.build.classifier.trained import Checkpoint, Labelled
from zootool.build.cnn_recipe import CnnRecipe
from zootool.build.units import UnitGroup, group_key
from zootool.build.vit_recipe import VitRecipe
from zootool.build.work import BuiltUnit, UnitJob, device_name
from zootool.engines.job import Advance
from zootool.nets.cnn import cnn_architecture

if TYPE_CHECKING:
    import pyarrow as pa

    from zootool.build.classifier.kernel import ImageData

MAX_STACKED = 8
"""Transformers that are trained together: more of them no longer fit the caches."""

_PACKAGES = ("zootool", "numpy", "numba", "torch", "pyarrow")


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
class ClassifierJob(UnitJob):
    """One unit of classifiers: its runs with their splits, and the images that they are trained and tested on."""

    runs: Int64[np.ndarray, " networks"]
    split: np.ndarray
    train: Labelled
    test: Labelled
    num_classes: int

    def __len__(self) -> int:
        return len(self.runs)


@dataclass(frozen=True, eq=False, kw_only=True)
class CnnJob(ClassifierJob):
    """One unit of CNNs. Images are grey already, where the recipe says so."""

    recipe: CnnRecipe

    def build(self, advance: Advance) -> BuiltUnit:
        """Train the networks, each on a thread of its own."""
        from zootool.build.classifier.cnn import image_data

        levels = levels_of(self.recipe.target)
        train, test = image_data(self.train, levels), image_data(self.test, levels)
        height, width, channels = self.train.pixels.shape[1:]
        shape = (height, width, channels)
        runs = [draw_run(self.recipe, int(run), shape, self.num_classes) for run in self.runs]
        trained: list[TrainedRun | None] = [None] * len(runs)

        def train_one(index: int) -> int:
            trained[index] = self._train(runs[index], str(self.split[index]), train, test)
            return 1

        _on_threads(train_one, len(runs), self.threads, advance)
        return assemble([run for run in trained if run is not None], self.recipe.seed, "CPU kernel")

    def _train(self, run: CnnRun, split: str, train: "ImageData", test: "ImageData") -> TrainedRun:
        from zootool.build.classifier.cnn import CnnTraining, train_cnn

        training = CnnTraining(self.recipe.seed, self.recipe.batch_size, self.recipe.checkpoints)
        checkpoints = train_cnn(run, training, train, test)
        hyper_parameters = _cnn_columns(self.recipe, run)
        return TrainedRun(run.run, split, cnn_architecture(run.config), hyper_parameters, checkpoints)


@dataclass(frozen=True, eq=False, kw_only=True)
class VitJob(ClassifierJob):
    """One unit of SimpleViTs."""

    recipe: VitRecipe

    def build(self, advance: Advance) -> BuiltUnit:
        """Train the networks in stacks of those that are trained equally long, each stack on a thread of its own."""
        stacks = self._stacks()
        trained: dict[int, TrainedRun] = {}

        def train_stack(index: int) -> int:
            epochs, runs = stacks[index]
            trained.update(zip(runs, self._train(runs, epochs), strict=True))
            return len(runs)

        _on_threads(train_stack, len(stacks), self.threads, advance)
        return assemble([trained[int(run)] for run in self.runs], self.recipe.seed, "stacked torch")

    def _stacks(self) -> list[tuple[int, list[int]]]:
        """Epochs and runs of each stack; those that take longest come first, so that threads end together."""
        stacks = []
        for more_epochs in sorted(set(self.recipe.epochs), reverse=True):
            runs = [
                run for run in self.runs.tolist() if self.recipe.epochs[run % len(self.recipe.epochs)] == more_epochs
            ]
            stacks += [(1 + more_epochs, runs[i : i + MAX_STACKED]) for i in range(0, len(runs), MAX_STACKED)]
        return stacks

    def _train(self, runs: list[int], epochs: int) -> list[TrainedRun]:
        from zootool.build.classifier.vit import VitTraining, train_vits

        recipe, channels = self.recipe, self.train.pixels.shape[-1]
        training = VitTraining(recipe.seed, recipe.lr, recipe.batch_size, recipe.flip, recipe.crop)
        config = recipe.config(channels, self.num_classes)
        levels = levels_of(recipe.target)
        checkpoints = train_vits(runs, epochs, config, training, self.train, self.test, levels)
        hyper_parameters = {
            "recipe": recipe.name, "optimiser": "adam", "lr": recipe.lr, "batch_size": recipe.batch_size,
            "epochs": epochs,
        }  # fmt: skip
        splits = dict(zip(self.runs.tolist(), self.split.tolist(), strict=True))
        architecture = recipe.architecture(channels, self.num_classes)
        return [
            TrainedRun(run, splits[run], architecture, hyper_parameters, [checkpoint])
            for run, checkpoint in zip(runs, checkpoints, strict=True)
        ]


def assemble(trained: Sequence[TrainedRun], seed: int, made_by: str) -> BuiltUnit:
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
    counts = [sum(len(run.checkpoints) for run in members) for members in groups.values()]
    return BuiltUnit(
        tensors=tensors,
        table=_table([run for members in groups.values() for run in members], seed),
        made_by=f"{made_by} on {device_name('cpu')}",
        packages=_PACKAGES,
        num_diverged=sum(run.diverged for run in trained),
        groups=tuple(
            UnitGroup(members[0].architecture.to_dict(), count)
            for members, count in zip(groups.values(), counts, strict=True)
        ),
    )


def levels_of(target: tuple[float, float]) -> Float32[np.ndarray, " 256"]:
    """What the 256 pixel values stand for."""
    return (target[0] + np.arange(256) / 255 * (target[1] - target[0])).astype(np.float32)


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


def _on_threads(work: Callable[[int], int], count: int, threads: int, advance: Advance) -> None:
    """Work on 0..count - 1 in threads, which compiled code and torch let run side by side; `work` counts networks."""
    with ThreadPoolExecutor(max(1, threads)) as pool:
        running = {pool.submit(work, index) for index in range(count)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                advance(sum(future.result() for future in done))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
