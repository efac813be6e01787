"""A zoo of SIRENs from an image set: `zoo build siren` as a function."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from zootool.build.claims import Claims
from zootool.build.engine import Engine, build_here
from zootool.build.extents import Extent, Limit, UnitNetworks, extent_of, first_smaller_key, units_of
from zootool.build.recipe import SirenRecipe
from zootool.build.record import BuildRecord, ImageSetRecord
from zootool.build.siren.backends import choose_backend
from zootool.build.units import (
    UNITS_NAME,
    Unit,
    is_unit_folder,
    read_recipe,
    refuse_other_content,
    write_record,
    writing_to,
)
from zootool.build.work import UnitJob, UnitOutcome
from zootool.errors import UsageError
from zootool.images import Images
from zootool.progress import Reporter, silent
from zootool.validation import Entry

STAGE = "fitting networks"


@dataclass(frozen=True)
class BuildResult:
    """What a run of `build_sirens` did, in networks; `left` are those in units that other processes have or will have.

    `num_refitted` and `num_diverged` count among the networks built: those that left the finite numbers once (and
    were fitted again, from a derived seed), and those that did twice (and are flagged).
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


def build_sirens(
    images: Images,
    recipe: SirenRecipe,
    out: Path,
    *,
    limit: Limit = None,
    device: str = "cpu",
    engine: Engine = build_here,
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
    record = _start_folder(out, recipe, images, limit, device)
    units = units_of(images.split, record.extents, record.unit_size)
    first, step = share or (0, 1)
    waiting = [unit for unit in units[first::step] if not Unit(out, unit.number).is_sound()]
    outcomes = _run(engine, _Jobs(images, record, out, device, threads or available_threads()), waiting, report)
    others = {unit.number for unit in units} - {unit.number for unit in waiting}
    found = [unit for unit in units if unit.number in others and Unit(out, unit.number).receipt_path.exists()]
    return BuildResult(
        folder=out,
        num_networks=record.extent.num_networks,
        built=sum(o.num_networks for o in outcomes if o.state == "built"),
        found=_count(found) + sum(o.num_networks for o in outcomes if o.state == "found"),
        num_refitted=sum(o.num_refitted for o in outcomes),
        num_diverged=sum(o.num_diverged for o in outcomes),
    )


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class _Jobs:
    """What turns units into jobs, one at a time: only the jobs in hand take memory."""

    images: Images
    record: BuildRecord
    folder: Path
    device: str
    threads: int

    def __call__(self, units: Iterable[UnitNetworks]) -> Iterator[UnitJob]:
        images = self.images
        keys = tuple(slot.key for slot in self.record.recipe.architecture(images.shape[2]).slots)
        for unit in units:
            yield UnitJob(
                folder=self.folder,
                number=unit.number,
                recipe=self.record.recipe,
                keys=keys,
                pixels=images.pixels[unit.positions],
                labels=images.labels[unit.positions],
                source_index=images.source_index[unit.positions],
                split=images.split[unit.positions],
                copy=unit.copies,
                device=self.device,
                threads=self.threads,
            )


def _run(engine: Engine, jobs: _Jobs, units: list[UnitNetworks], report: Reporter) -> list[UnitOutcome]:
    """Build units; those that another process holds are tried once more at the end, as it may have died."""
    total, done = _count(units), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(STAGE, done, total)

    advance(0)
    outcomes = list(engine(jobs(units), advance))
    claimed = {outcome.number for outcome in outcomes if outcome.state == "claimed"}
    again = list(engine(jobs(unit for unit in units if unit.number in claimed), advance)) if claimed else []
    return [outcome for outcome in outcomes if outcome.number not in claimed] + again


def _start_folder(out: Path, recipe: SirenRecipe, images: Images, limit: Limit, device: str) -> BuildRecord:
    """The folder's record: a new one, the one that is there, or that one with a larger extent."""
    extent = extent_of(images.split, limit, recipe.copies)
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


def _refuse_change(out: Path, prefix: str, found: Entry, wanted: Entry) -> None:
    old, new = found.model_dump(), wanted.model_dump()
    if new.get("unit_size", 0) is None:  # not asked for
        new["unit_size"] = old["unit_size"]
    for key in old:
        if key != "copies" and old[key] != new[key]:
            raise UsageError(
                f"{out} was begun with {prefix}{key} = {old[key]!r}, this asks for {new[key]!r}",
                hint="give another --out",
            )


def _extended(out: Path, found: BuildRecord, extent: Extent) -> BuildRecord:
    if key := first_smaller_key(found.extent, extent):
        old, new = getattr(found.extent, key), getattr(extent, key)
        raise UsageError(
            f"{out} is to hold {key} = {old} and only grows, this asks for {new}", hint="give another --out"
        )
    if found.extent == extent:
        return found
    recipe = found.recipe.model_copy(update={"copies": extent.copies})
    return found.model_copy(update={"recipe": recipe, "extents": (*found.extents, extent)})


def _count(units: Iterable[UnitNetworks]) -> int:
    return sum(len(unit) for unit in units)
