"""What a build will take, and how far one is: `--plan` and `--status`, which build nothing."""

import resource
import sys
import time
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from zootool.build.builder import available_threads
from zootool.build.classifier.classifier_data import ClassifierData, Labelled, levels_of
from zootool.build.classifier.draws import CnnRun, draw_run
from zootool.build.classifiers import MAX_STACKED, checked_request
from zootool.build.extents import Limit, extent_of
from zootool.build.recipe import CnnRecipe, SirenRecipe, VitRecipe
from zootool.build.siren.backends import Backend, choose_backend
from zootool.build.siren.settings import FitSettings, initial_weights
from zootool.build.sirens import scaled_targets
from zootool.build.units import Unit, read_recipe
from zootool.engines.claims import Claims
from zootool.images import Images
from zootool.nets.cnn import cnn_architecture

CALIBRATION_SECONDS = 1.0
_TABLE_BYTES = 40  # a row of a unit's table, compressed
_UNIT_BYTES = 4096  # headers and receipt
_BATCHES = {"cpu": 1, "cuda": 1024}  # networks per thread or per launch
_CALIBRATED_RUNS = 4
_CALIBRATED_IMAGES = 256


@dataclass(frozen=True)
class BuildPlan:
    """What a build will hold and take: counts, bytes on disk and in memory, seconds, and what was calibrated."""

    num_images: int
    num_networks: int
    num_units: int
    num_parameters: int
    disk_bytes: int
    memory_bytes: int
    seconds: float
    networks_per_second: float
    backend: str
    threads: int


@dataclass(frozen=True)
class BuildStatus:
    """The units of a folder: finished, held by a running builder, damaged (unlike their receipts), and not begun."""

    folder: Path
    num_networks: int
    num_units: int
    done: int
    running: int
    failed: int
    waiting: int
    num_networks_done: int
    num_diverged: int


def plan_sirens(
    images: Images, recipe: SirenRecipe, *, limit: Limit = None, device: str = "cpu", threads: int = 1
) -> BuildPlan:
    """The plan of `build_sirens` on this machine, from a calibration of about one second. Writes nothing."""
    extent = extent_of(images.split, limit, recipe.copies)
    settings = recipe.settings(images.shape)
    backend_name, backend = choose_backend(settings, device, threads)
    batch = max(1, min(len(images), threads * _BATCHES[device.partition(":")[0]]))
    rate = _steps_per_second(backend, images, recipe, settings, batch) / settings.steps
    unit_size, count = recipe.with_unit_size(device).unit_size or 1, extent.num_networks
    # Of a network in a unit: its pixels and targets, and its parameters as words, initial, packed and fitted.
    network_bytes = 5 * settings.num_pixels * settings.num_channels + 24 * settings.num_parameters
    return BuildPlan(
        num_images=extent.num_images,
        num_networks=count,
        num_units=-(-count // unit_size),
        num_parameters=settings.num_parameters,
        disk_bytes=_disk_bytes(count * settings.num_parameters, count, -(-count // unit_size)),
        memory_bytes=_peak_memory() + unit_size * network_bytes,
        seconds=count / rate,
        networks_per_second=rate,
        backend=backend_name,
        threads=threads,
    )


def plan_classifiers(
    images: Images, recipe: CnnRecipe | VitRecipe, *, runs: int | None = None, threads: int | None = None
) -> BuildPlan:
    """The plan of `build_classifiers` on this machine, from a calibration of about a second. Writes nothing."""
    count, data = checked_request(images, recipe, runs)
    threads = threads or available_threads()
    if isinstance(recipe, CnnRecipe):
        checkpoints, backend = len(recipe.checkpoints), "CPU kernel"
        num_parameters, seconds = _cnn_work(data, recipe, count)
    else:
        checkpoints, backend = 1, "stacked torch"
        num_parameters, seconds = _vit_work(data, recipe, count)
    unit_size, stored = recipe.with_unit_size("cpu").unit_size or 1, num_parameters * checkpoints
    # The images once more, as the networks see them; of a network in a unit its checkpoints, stacked and written.
    image_bytes = data.train.pixels.nbytes + data.test.pixels.nbytes
    return BuildPlan(
        num_images=len(data.train.labels) + len(data.test.labels),
        num_networks=count,
        num_units=-(-count // unit_size),
        num_parameters=num_parameters // count,
        disk_bytes=_disk_bytes(stored, count * checkpoints, -(-count // unit_size)),
        memory_bytes=_peak_memory() + image_bytes + 12 * stored * min(unit_size, count) // count,
        seconds=seconds / min(threads, count),
        networks_per_second=count * min(threads, count) / seconds,
        backend=backend,
        threads=threads,
    )


def status_of(folder: Path) -> BuildStatus:
    """How far the build in `folder` is. Reads every finished unit. Raises MissingError and FormatError."""
    record = read_recipe(folder)
    units = [Unit(folder, number) for number in range(record.num_units)]
    with Claims(folder) as claims:
        running = {unit.number for unit in units if claims.is_held(unit.number)}
    receipted = [unit for unit in units if unit.number not in running and unit.receipt_path.exists()]
    done = [unit for unit in receipted if unit.is_sound()]
    return BuildStatus(
        folder=folder,
        num_networks=record.extent.num_networks,
        num_units=len(units),
        done=len(done),
        running=len(running),
        failed=len(receipted) - len(done),
        waiting=len(units) - len(receipted) - len(running),
        num_networks_done=sum(unit.num_networks for unit in done),
        num_diverged=sum(unit.receipt.num_diverged for unit in done),
    )


def _disk_bytes(num_stored: int, num_rows: int, num_units: int) -> int:
    return 4 * num_stored + num_rows * _TABLE_BYTES + num_units * _UNIT_BYTES


def _steps_per_second(
    backend: Backend, images: Images, recipe: SirenRecipe, settings: FitSettings, batch: int
) -> float:
    """Networks times steps per second, for `batch` networks at a time."""
    rows = np.arange(batch)
    initial = initial_weights(settings, recipe.seed, images.source_index[rows], np.zeros(batch, np.int64))
    targets = scaled_targets(images.pixels[rows], recipe)
    backend(initial, targets, replace(settings, steps=1))  # compiles
    steps = min(settings.steps, 8)
    while True:
        started = time.perf_counter()
        backend(initial, targets, replace(settings, steps=steps))
        elapsed = time.perf_counter() - started
        if elapsed >= CALIBRATION_SECONDS / 2 or steps == settings.steps:
            return batch * steps / elapsed
        steps = min(settings.steps, 2 * steps)


def _cnn_work(data: ClassifierData, recipe: CnnRecipe, count: int) -> tuple[int, float]:
    """Parameters of all networks together, and the seconds that one processor needs for them."""
    runs = [draw_run(recipe, run, data.image_shape, data.num_classes) for run in range(count)]
    num_parameters = sum(prod(slot.shape) for run in runs for slot in cnn_architecture(run.config).slots)
    num_train, num_test = len(data.train.labels), len(data.test.labels)
    work = [_work(run, recipe, num_train, num_test) for run in runs]
    return num_parameters, sum(work) / _work_per_second(data, recipe, runs[:_CALIBRATED_RUNS])


def _work(run: CnnRun, recipe: CnnRecipe, num_train: int, num_test: int) -> float:
    """Multiplications of a training, in the convolutions: a step takes three times those of looking at its images."""
    config, sides = run.config, run.config.sides
    per_image = sum(
        config.channels[i] * config.channels[i + 1] * kernel**2 * prod(sides[i + 1])
        for i, kernel in enumerate(config.kernels)
    )
    seen = run.train_fraction * num_train
    return per_image * (3 * recipe.checkpoints[-1] * seen + len(recipe.checkpoints) * (seen + num_test))


def _work_per_second(data: ClassifierData, recipe: CnnRecipe, runs: list[CnnRun]) -> float:
    from zootool.build.classifier.cnn_training import image_data, train_cnn

    levels, done, elapsed = levels_of(recipe.target), 0.0, 0.0
    train, test = image_data(_first(data.train), levels), image_data(_first(data.test), levels)
    once, twice = (recipe.model_copy(update={"checkpoints": (epochs,)}) for epochs in (1, 2))
    train_cnn(runs[0], once, train, test)  # compiles
    for run in runs:
        started = time.perf_counter()
        train_cnn(run, twice, train, test)
        elapsed += time.perf_counter() - started
        done += _work(run, twice, len(train.labels), len(test.labels))
    return done / elapsed


def _vit_work(data: ClassifierData, recipe: VitRecipe, count: int) -> tuple[int, float]:
    """Parameters of all networks together, and the seconds that one processor needs for them."""
    from zootool.build.classifier.vit_training import train_vits

    slots = recipe.architecture(data.image_shape[2], data.num_classes).slots
    few = ClassifierData(_first(data.train), _first(data.test), data.num_classes)
    stack = list(range(min(MAX_STACKED, count)))
    train_vits(stack[:1], 1, recipe, replace(few, train=_first(data.train, 32)))
    started = time.perf_counter()
    train_vits(stack, 2, recipe, few)
    elapsed = (time.perf_counter() - started) / len(stack)
    num_train, num_test = len(few.train.labels), len(few.test.labels)
    per_image = elapsed / (2 * num_train + (num_train + num_test) / 3)
    epochs = sum(map(recipe.num_epochs, range(count)))
    num_train, num_test = len(data.train.labels), len(data.test.labels)
    seen = epochs * num_train + count * (num_train + num_test) / 3
    return sum(prod(slot.shape) for slot in slots) * count, seen * per_image


def _first(images: Labelled, count: int = _CALIBRATED_IMAGES) -> Labelled:
    return Labelled(images.pixels[:count], images.labels[:count])


def _peak_memory() -> int:
    """The most bytes that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
