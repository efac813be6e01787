"""What a build will take, and how far one is: `--plan` and `--status`, which build nothing."""

import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zootool.build.extents import Limit, extent_of
from zootool.build.siren.backends import Backend, choose_backend
from zootool.build.siren.initial import initial_weights
from zootool.build.siren.settings import FitSettings
from zootool.build.siren_recipe import SirenRecipe
from zootool.build.siren_work import scaled_targets
from zootool.build.units import Unit, read_recipe
from zootool.engines.claims import Claims
from zootool.images import Images

CALIBRATION_SECONDS = 1.0
TABLE_BYTES = 40  # a row of a unit's table, compressed
UNIT_BYTES = 4096  # headers and receipt
_BATCHES = {"cpu": 1, "cuda": 1024}  # networks per thread or per launch


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
    unit_size = recipe.with_unit_size(device).unit_size or 1
    batch = max(1, min(len(images), threads * _BATCHES[device.partition(":")[0]]))
    rate = _steps_per_second(backend, images, recipe, settings, batch) / settings.steps
    num_units = -(-extent.num_networks // unit_size)
    network_bytes = 4 * settings.num_parameters
    # A unit's pixels and targets, and its parameters as words, initial, packed and fitted.
    unit_bytes = unit_size * (5 * settings.num_pixels * settings.num_channels + 6 * network_bytes)
    return BuildPlan(
        num_images=extent.num_images,
        num_networks=extent.num_networks,
        num_units=num_units,
        num_parameters=settings.num_parameters,
        disk_bytes=extent.num_networks * (network_bytes + TABLE_BYTES) + num_units * UNIT_BYTES,
        memory_bytes=peak_memory() + unit_bytes,
        seconds=extent.num_networks / rate,
        networks_per_second=rate,
        backend=backend_name,
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


def peak_memory() -> int:
    """The most bytes that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
