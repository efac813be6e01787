"""Zoos of SIRENs from an image set: `zoo build siren` as a function, and the job that fits a unit of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from zootool.build.builder import BuildResult, BuiltUnit, UnitJob, available_threads, begin_folder, build_units
from zootool.build.extents import Extent, Limit, PlannedUnit, extent_of, units_of_images
from zootool.build.philox import derived_seed
from zootool.build.recipe import SirenRecipe
from zootool.build.siren.backends import Backend, choose_backend
from zootool.build.siren.settings import initial_weights, shared_weights
from zootool.engines.engine import Engine, run_here
from zootool.engines.job import Advance
from zootool.images import Images
from zootool.nets.rendering import decibels
from zootool.progress import Reporter, silent

if TYPE_CHECKING:
    import pyarrow as pa

TARGETS_BYTES = 1 << 28
"""Targets in memory at a time: a unit of large images is fitted in several parts."""


def build_sirens(
    images: Images,
    recipe: SirenRecipe,
    out: str | Path,
    *,
    limit: Limit = None,
    device: str = "cpu",
    engine: Engine = run_here,
    threads: int | None = None,
    share: tuple[int, int] | None = None,
    report: Reporter = silent,
) -> BuildResult:
    """Fit the networks that `recipe` asks for on `images` into the folder of units `out`, but for those it has.

    `limit` is as in `extent_of`. `share` = (i, n) builds every n-th unit alone, from unit i on. The engine's workers
    share `threads`, by default one for each processor. Raises UsageError where `out` holds something else or was begun
    with another recipe or image set, naming the key, and MissingError where it can't be written to.
    """
    choose_backend(recipe.settings(images.shape), device)
    out = Path(out)
    record = begin_folder(out, recipe, images, extent_of(images.split, limit, recipe.copies), device)
    extents = [extent for extent in record.extents if isinstance(extent, Extent)]

    def job(unit: PlannedUnit) -> SirenJob:
        return SirenJob(
            folder=out,
            number=unit.number,
            device=device,
            threads=threads or available_threads(),
            unit=unit,
            recipe=recipe,
            images=images.take(unit.networks),
        )

    units = units_of_images(extents, images.split, record.unit_size)
    return build_units(out, record, units, job, "fitting networks", engine=engine, share=share, report=report)


@dataclass(frozen=True, eq=False, kw_only=True)
class SirenJob(UnitJob):
    """One unit of SIRENs: `images` are the networks' own, with repetitions."""

    recipe: SirenRecipe
    images: Images

    def build(self, advance: Advance) -> BuiltUnit:
        """Fit the networks; those that leave the finite numbers are fitted once more, from a derived seed."""
        settings = self.recipe.settings(self.images.shape)
        program, backend = choose_backend(settings, self.device, self.threads)
        parameters, losses = self._fit(backend, np.arange(len(self)), self.recipe.seed, advance)
        seeds = np.full(len(self), self.recipe.seed, np.int64)
        again = np.flatnonzero(_diverged(parameters, losses))
        if len(again):
            seeds[again] = derived_seed(self.recipe.seed, attempt=1)
            parameters[again], losses[again] = self._fit(backend, again, int(seeds[again[0]]), lambda count: None)
        diverged = _diverged(parameters, losses)
        keys = [slot.key for slot in self.recipe.architecture(settings.num_channels).slots]
        tensors = dict(zip(keys, settings.split(parameters), strict=True))
        counts = {"num_refitted": len(again), "num_diverged": int(diverged.sum())}
        return tensors, self._table(seeds, losses, diverged), program, counts

    def _fit(
        self, backend: Backend, rows: Int64[np.ndarray, " rows"], seed: int, advance: Advance
    ) -> tuple[Float32[np.ndarray, "rows parameters"], Float32[np.ndarray, " rows"]]:
        """Flat parameters and mean squared errors."""
        recipe, settings = self.recipe, self.recipe.settings(self.images.shape)
        step = max(1, TARGETS_BYTES // (4 * settings.num_pixels * settings.num_channels))
        fitted = []
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            if recipe.init == "shared":
                initial = shared_weights(settings, seed, len(part))
            else:
                initial = initial_weights(settings, seed, self.images.source_index[part], self.unit.parts[part])
            fitted.append(backend(initial, scaled_targets(self.images.pixels[part], recipe), settings, advance=advance))
        return np.concatenate([part[0] for part in fitted]), np.concatenate([part[1] for part in fitted])

    def _table(self, seeds: np.ndarray, losses: np.ndarray, diverged: np.ndarray) -> "pa.Table":
        import pyarrow as pa

        recipe, images, count = self.recipe, self.images, len(self)
        ids = [f"{index:06d}-{copy:02d}" for index, copy in zip(images.source_index, self.unit.parts, strict=True)]
        return pa.table(
            {
                "net_id": ids,
                "source_index": images.source_index,
                "copy": self.unit.parts.astype(np.int32),
                "label": images.labels,
                "split": images.split.tolist(),
                "seed": seeds,
                "run_id": ids,
                "training_step": np.full(count, recipe.steps, np.int64),
                "loss": losses,
                "psnr": decibels(losses, recipe.target_span).astype(np.float32),
                "diverged": diverged,
                "hp_recipe": [recipe.name] * count,
                **{f"hp_{name}": [getattr(recipe, name)] * count for name in ("init", "omega_0", "steps", "lr")},
            }
        )


def _diverged(
    parameters: Float32[np.ndarray, "networks parameters"], losses: Float32[np.ndarray, " networks"]
) -> np.ndarray:
    """Which networks have a loss or a parameter that is not finite."""
    return ~(np.isfinite(losses) & np.isfinite(parameters).all(axis=1))


def scaled_targets(
    pixels: UInt8[np.ndarray, "networks height width channels"], recipe: SirenRecipe
) -> Float32[np.ndarray, "networks pixels channels"]:
    """What the networks' last layer is to give: pixels scaled to the recipe's target, less the output offset."""
    levels = recipe.target[0] + np.arange(256) / 255 * recipe.target_span - recipe.output_offset
    return levels.astype(np.float32)[pixels.reshape(len(pixels), -1, pixels.shape[-1])]
