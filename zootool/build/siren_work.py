"""The job that fits a unit of SIRENs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from zootool.build.philox import derived_seed
from zootool.build.siren.backends import choose_backend
from zootool.build.siren.initial import initial_weights, shared_weights
from zootool.build.siren_recipe import SirenRecipe
from zootool.build.work import BuiltUnit, UnitJob, device_name
from zootool.engines.job import Advance
from zootool.nets.rendering import decibels

if TYPE_CHECKING:
    import pyarrow as pa

TARGETS_BYTES = 1 << 28
"""Targets in memory at a time: a unit of large images is fitted in several parts."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SirenJob(UnitJob):
    """One unit of SIRENs: the networks' images, and the state_dict's keys."""

    recipe: SirenRecipe
    keys: tuple[str, ...]
    pixels: UInt8[np.ndarray, "networks height width channels"]
    labels: Int64[np.ndarray, " networks"]
    source_index: Int64[np.ndarray, " networks"]
    split: np.ndarray
    copy: Int64[np.ndarray, " networks"]

    def __len__(self) -> int:
        return len(self.pixels)

    def build(self, advance: Advance) -> BuiltUnit:
        """Fit the networks."""
        settings = self.recipe.settings(self.pixels.shape[1:])
        backend_name, _ = choose_backend(settings, self.device, self.threads)
        fitted = fit_images(self, advance)
        return BuiltUnit(
            tensors=dict(zip(self.keys, settings.split(fitted.parameters), strict=True)),
            table=_table(self, fitted),
            made_by=f"{backend_name} on {device_name(self.device)}",
            packages=("zootool", "numpy", "numba", "torch", "pyarrow"),
            num_refitted=int((fitted.seeds != self.recipe.seed).sum()),
            num_diverged=int(fitted.diverged.sum()),
        )


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


def fit_images(job: SirenJob, advance: Advance = lambda count: None) -> Fitted:
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
    job: SirenJob, rows: Int64[np.ndarray, " rows"], seed: int, advance: Advance
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
    return decibels(losses, span).astype(np.float32)


def _initial(job: SirenJob, seed: int, rows: np.ndarray) -> Float32[np.ndarray, "networks parameters"]:
    settings = job.recipe.settings(job.pixels.shape[1:])
    if job.recipe.init == "shared":
        return shared_weights(settings, seed, len(rows))
    return initial_weights(settings, seed, job.source_index[rows], job.copy[rows])


def _table(job: SirenJob, fitted: Fitted) -> "pa.Table":
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
