"""Filling a folder of units, whatever kind of networks they hold.

The way is the same for all: a recipe and an extent become the folder's record, the record its units, each unit that is
missing a job, and each job a unit's files with their receipt. `begin_folder` and `build_units` are its two halves, and
`UnitJob` is all that claims, receipts and restarts know of the networks.
"""

import os
import platform
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zootool.build.extents import AnyExtent, PlannedUnit, first_smaller_key
from zootool.build.recipe import AnyRecipe
from zootool.build.units import (
    UNITS_NAME,
    BuildRecord,
    ImageSetRecord,
    Unit,
    is_unit_folder,
    read_recipe,
    refuse_other_content,
    write_record,
    write_unit,
    writing_to,
)
from zootool.engines.claims import Claims
from zootool.engines.engine import Engine
from zootool.engines.job import Advance, Job, Outcome
from zootool.errors import UsageError
from zootool.images import Images
from zootool.progress import Reporter
from zootool.validation import Entry

if TYPE_CHECKING:
    import pyarrow as pa

_PACKAGES = ("zootool", "numpy", "numba", "torch", "pyarrow")
"""Those whose versions matter to the bytes."""


@dataclass(frozen=True)
class BuildResult:
    """What a run of a build did, in networks; `left` are those in units that other processes have or will have.

    `num_refitted` and `num_diverged` count among the networks built: those that left the finite numbers once and were
    fitted again, from a derived seed (SIRENs alone), and those that are flagged because they left them for good.
    """

    folder: Path
    num_networks: int
    built: int
    found: int
    num_refitted: int
    num_diverged: int

    @property
    def left(self) -> int:
        """Networks that the folder is to hold and doesn't yet, as far as this run knows."""
        return self.num_networks - self.built - self.found


@dataclass(frozen=True)
class UnitOutcome(Outcome):
    """What became of a unit, in networks."""

    num_networks: int = 0
    num_refitted: int = 0
    num_diverged: int = 0


BuiltUnit = tuple[Mapping[str, np.ndarray], "pa.Table", str, Mapping[str, Any]]
"""Tensors and table as in `zootool.build.units`, the program that made them, and what else their receipt says."""


@dataclass(frozen=True, eq=False, kw_only=True)
class UnitJob(Job[UnitOutcome]):
    """One unit to build. Each kind of network has its own job."""

    unit: PlannedUnit

    def __len__(self) -> int:
        """Networks to be trained; one with several checkpoints counts once."""
        return len(self.unit)

    @abstractmethod
    def build(self, advance: Advance) -> BuiltUnit:
        """Train the networks; `advance(n)` is called when n more are done."""

    def run(self, advance: Advance = lambda count: None) -> UnitOutcome:
        """Build a unit and write its files, unless another process has the unit or has finished it."""
        with Claims(self.folder) as claims, claims.unit(self.number) as held:
            if not held:
                return UnitOutcome(self.number, "claimed")
            if Unit(self.folder, self.number).is_sound():
                advance(len(self))
                return UnitOutcome(self.number, "found", len(self))
            started = time.monotonic()
            tensors, table, program, found = self.build(advance)
            details = {
                "num_networks": len(self),
                "seconds": round(time.monotonic() - started, 3),
                "threads": self.threads,
                "device": f"{program} on {_device_name(self.device)}",
                "versions": {name: version(name) for name in _PACKAGES},
                **found,
            }
            receipt = write_unit(self.folder, self.number, tensors, table, details)
        return UnitOutcome(self.number, "built", len(self), receipt.num_refitted, receipt.num_diverged)


def begin_folder(out: Path, recipe: AnyRecipe, images: Images, extent: AnyExtent, device: str = "cpu") -> BuildRecord:
    """The record of the folder `out`: a new one, the one that is there, or that one with a larger extent.

    Raises UsageError where `out` holds something else or was begun with another recipe or image set, naming the key,
    and MissingError where it can't be written to.
    """
    image_set = ImageSetRecord.of(images)
    refuse_other_content(out)
    with writing_to(out):
        (out / UNITS_NAME).mkdir(parents=True, exist_ok=True)
        with Claims(out) as claims, claims.recipe():
            found = read_recipe(out) if is_unit_folder(out) else None
            if found is None:
                record = BuildRecord(recipe=recipe.with_unit_size(device), image_set=image_set, extents=(extent,))
            else:
                _refuse_change(out, "", found.recipe, recipe)
                _refuse_change(out, "image_set.", found.image_set, image_set)
                record = _extended(out, found, extent)
            if record != found:
                write_record(out, record)
    return record


def build_units(
    out: Path,
    record: BuildRecord,
    units: Sequence[PlannedUnit],
    job_of: Callable[[PlannedUnit], UnitJob],
    stage: str,
    *,
    engine: Engine,
    share: tuple[int, int] | None,
    report: Reporter,
) -> BuildResult:
    """Build those of the `units` that `out` lacks; `share` = (i, n) builds every n-th unit alone, from unit i on.

    `stage` is what the progress bar is called.
    """
    first, step = share or (0, 1)
    waiting = [unit for unit in units[first::step] if not Unit(out, unit.number).is_sound()]
    others = {unit.number for unit in units} - {unit.number for unit in waiting}
    total, done = sum(map(len, waiting)), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(stage, done, total)

    def build(chosen: Iterable[PlannedUnit]) -> list[UnitOutcome]:
        # Jobs are made one at a time: only those in hand take memory.
        return list(engine((job_of(unit) for unit in chosen), advance))

    advance(0)
    outcomes = build(waiting)
    if claimed := {outcome.number for outcome in outcomes if outcome.state == "claimed"}:
        # Once more at the end: who held them may have died.
        outcomes = [outcome for outcome in outcomes if outcome.number not in claimed]
        outcomes += build(unit for unit in waiting if unit.number in claimed)
    found = [len(unit) for unit in units if unit.number in others and Unit(out, unit.number).receipt_path.exists()]
    return BuildResult(
        folder=out,
        num_networks=record.extent.num_networks,
        built=sum(o.num_networks for o in outcomes if o.state == "built"),
        found=sum(found) + sum(o.num_networks for o in outcomes if o.state == "found"),
        num_refitted=sum(o.num_refitted for o in outcomes),
        num_diverged=sum(o.num_diverged for o in outcomes),
    )


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _refuse_change(out: Path, prefix: str, found: Entry, wanted: Entry) -> None:
    old, new = found.model_dump(), wanted.model_dump()
    if new.get("unit_size", 0) is None:  # not asked for
        new["unit_size"] = old["unit_size"]
    # Recipes of another kind have other keys: their kind is what is named.
    for key in sorted(old, key=lambda key: key != "kind"):
        if key != "copies" and old[key] != new[key]:
            raise UsageError(
                f"{out} was begun with {prefix}{key} = {old[key]!r}, this asks for {new[key]!r}",
                hint="give another --out",
            )


def _extended(out: Path, found: BuildRecord, extent: AnyExtent) -> BuildRecord:
    if key := first_smaller_key(found.extent, extent):
        old, new = getattr(found.extent, key), getattr(extent, key)
        raise UsageError(
            f"{out} is to hold {key} = {old} and only grows, this asks for {new}", hint="give another --out"
        )
    if found.extent == extent:
        return found
    recipe = found.recipe.model_copy(update=extent.model_dump(include={"copies"}))
    return found.model_copy(update={"recipe": recipe, "extents": (*found.extents, extent)})


def _device_name(device: str) -> str:
    """The processor's name, or the GPU's."""
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
