"""The unit of work: everything that a process on any machine needs to build one unit, and what it says afterwards."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from zootool.build.claims import Claims
from zootool.build.philox import derived_seed
from zootool.build.recipe import SirenRecipe
from zootool.build.siren.backends import choose_backend
from zootool.build.siren.initial import initial_weights, shared_weights
from zootool.build.units import Receipt, Unit, write_unit

if TYPE_CHECKING:
    import pyarrow as pa

TARGETS_BYTES = 1 << 28
"""Targets in memory at a time: a unit of large images is fitted in several parts."""

Advance = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class UnitJob:
    """One unit to build: its number, its networks' images and where the result goes."""

    folder: Path
    number: int
    recipe: SirenRecipe
    keys: tuple[str, ...]
    pixels: UInt8[np.ndarray, "networks height width channels"]
    labels: Int64[np.ndarray, " networks"]
    source_index: Int64[np.ndarray, " networks"]
    split: np.ndarray
    copy: Int64[np.ndarray, " networks"]
    device: str = "cpu"
    threads: int = 1

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class UnitOutcome:
    """What became of a job: "built", "found" (finished by somebody else meanwhile) or "claimed" (they are at it)."""

    number: int
    state: Literal["built", "found", "claimed"]
    num_networks: int = 0
    num_refitted: int = 0
    num_diverged: int = 0


@dataclass(frozen=True, eq=False)
class Fitted:
    """Fitted networks: flat parameters, mean squared errors, and the seed that each was made from."""

    parameters: Float32[np.ndarray, "networks parameters"]
    losses: Float32[np.ndarray, " networks"]
    seeds: Int64[np.ndarray, " networks"]

    @property
    def diverged(self) -> np.ndarray:
        """Which networks have a loss or a parameter that is not finite."""
        return ~(np.isfinite(self.losses) & np.isfinite(self.parameters).all(axis=1))


def build_unit(job: UnitJob, advance: Advance = lambda count: None) -> UnitOutcome:
    """Fit a unit's networks and write its files, unless another process has the unit or has finished it."""
    with Claims(job.folder) as claims, claims.unit(job.number) as held:
        if not held:
            return UnitOutcome(job.number, "claimed")
        if Unit(job.folder, job.number).is_sound():
            advance(len(job))
            return UnitOutcome(job.number, "found", len(job))
        receipt = _build(job, advance)
    return UnitOutcome(job.number, "built", len(job), receipt.num_refitted, receipt.num_diverged)


def _build(job: UnitJob, advance: Advance) -> Receipt:
    started = time.monotonic()
    settings = job.recipe.settings(job.pixels.shape[1:])
    backend_name, _ = choose_backend(settings, job.device, job.threads)
    fitted = fit_images(job, advance)
    tensors = dict(zip(job.keys, settings.split(fitted.parameters), strict=True))
    details: dict[str, Any] = {
        "num_networks": len(job),
        "num_refitted": int((fitted.seeds != job.recipe.seed).sum()),
        "num_diverged": int(fitted.diverged.sum()),
        "seconds": round(time.monotonic() - started, 3),
        "threads": job.threads,
        "device": f"{backend_name} on {_device_name(job.device)}",
        "versions": {name: version(name) for name in ("zootool", "numpy", "numba", "torch", "pyarrow")},
    }
    return write_unit(job.folder, job.number, tensors, _table(job, fitted), details)


def fit_images(job: UnitJob, advance: Advance = lambda count: None) -> Fitted:
    """Fit a job's networks; those that leave the finite numbers are fitted once more, from a derived seed."""
    parameters, losses = _fit(job, np.arange(len(job)), job.recipe.seed, advance)
    fitted = Fitted(parameters, losses, np.full(len(job), job.recipe.seed, np.int64))
    again = np.flatnonzero(fitted.diverged)
    if len(again):
        seed = derived_seed(job.recipe.seed, attempt=1)
        fitted.parameters[again], fitted.losses[again] = _fit(job, again, seed, lambda count: None)
        fitted.seeds[again] = seed
    return fitted


def _fit(
    job: UnitJob, rows: Int64[np.ndarray, " rows"], seed: int, advance: Advance
) -> tuple[Float32[np.ndarray, "rows parameters"], Float32[np.ndarray, " rows"]]:
    settings = job.recipe.settings(job.pixels.shape[1:])
    _, backend = choose_backend(settings, job.device, job.threads)
    step = max(1, TARGETS_BYTES // (4 * settings.num_pixels * settings.num_channels))
    parts = []
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        targets = scaled_targets(job.pixels[part], job.recipe)
        parts.append(backend(_initial(job, seed, part), targets, settings, advance=advance))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def scaled_targets(
    pixels: UInt8[np.ndarray, "networks height width channels"], recipe: SirenRecipe
) -> Float32[np.ndarray, "networks pixels channels"]:
    """What the networks' last layer is to give: pixels scaled to the recipe's target, less the output offset."""
    levels = recipe.target[0] + np.arange(256) / 255 * recipe.target_span - recipe.output_offset
    return levels.astype(np.float32)[pixels.reshape(len(pixels), -1, pixels.shape[-1])]


def psnr(losses: Float32[np.ndarray, " networks"], span: float) -> Float32[np.ndarray, " networks"]:
    """Peak signal-to-noise ratio in dB, 10 log10(span^2 / MSE); infinite for a loss of zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (10 * np.log10(span**2 / losses.astype(np.float64))).astype(np.float32)


def _initial(job: UnitJob, seed: int, rows: np.ndarray) -> Float32[np.ndarray, "networks parameters"]:
    settings = job.recipe.settings(job.pixels.shape[1:])
    if job.recipe.init == "shared":
        return shared_weights(settings, seed, len(rows))
    return initial_weights(settings, seed, job.source_index[rows], job.copy[rows])


def _table(job: UnitJob, fitted: Fitted) -> "pa.Table":
    import pyarrow as pa

    recipe, count = job.recipe, len(job)
    ids = [f"{index:06d}-{copy:02d}" for index, copy in zip(job.source_index, job.copy, strict=True)]
    constants = {
        "hp_recipe": recipe.name,
        "hp_init": recipe.init,
        "hp_omega_0": recipe.omega_0,
        "hp_steps": recipe.steps,
        "hp_lr": recipe.lr,
    }
    return pa.table(
        {
            "net_id": ids,
            "source_index": job.source_index,
            "copy": job.copy.astype(np.int32),
            "label": job.labels,
            "split": job.split.tolist(),
            "seed": fitted.seeds,
            "run_id": ids,
            "training_step": np.full(count, recipe.steps, np.int64),
            "loss": fitted.losses,
            "psnr": psnr(fitted.losses, recipe.target_span),
            "diverged": fitted.diverged,
            **{key: [value] * count for key, value in constants.items()},
        }
    )


def _device_name(device: str) -> str:
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
