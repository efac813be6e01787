"""Filling a folder of units, whatever kind of networks they hold: begin or extend it, then build what is missing."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from zootool.build.extents import AnyExtent, first_smaller_key
from zootool.build.recipe import AnyRecipe
from zootool.build.record import BuildRecord, ImageSetRecord
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
from zootool.engines.claims import Claims
from zootool.engines.engine import Engine, run_here
from zootool.errors import UsageError
from zootool.progress import Reporter, silent
from zootool.validation import Entry


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


class PlannedUnit(Protocol):
    """A unit that is to be built: its number, and as its length how many networks it holds."""

    @property
    def number(self) -> int: ...

    def __len__(self) -> int: ...


Planned = TypeVar("Planned", bound=PlannedUnit)


@dataclass(frozen=True)
class Wanted(Generic[Planned]):
    """What a folder is to hold, the units that follow from its record, and the job that builds one of them.

    `stage` is what the progress bar is called.
    """

    recipe: AnyRecipe
    image_set: ImageSetRecord
    extent: AnyExtent
    units_of: Callable[[BuildRecord], Sequence[Planned]]
    job_of: Callable[[BuildRecord, Planned], UnitJob]
    stage: str


def build_folder(
    out: str | Path,
    wanted: Wanted[Planned],
    *,
    device: str = "cpu",
    engine: Engine = run_here,
    share: tuple[int, int] | None = None,
    report: Reporter = silent,
) -> BuildResult:
    """Build what the folder of units `out` lacks; `share` = (i, n) builds every n-th unit alone, from unit i on.

    Raises UsageError where `out` holds something else or was begun with another recipe or image set, naming the key,
    and MissingError where it can't be written to.
    """
    out = Path(out)
    record = _start_folder(out, wanted, device)
    units = wanted.units_of(record)
    first, step = share or (0, 1)
    waiting = [unit for unit in units[first::step] if not Unit(out, unit.number).is_sound()]
    outcomes = _run(engine, wanted, record, waiting, report)
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


def _run(
    engine: Engine, wanted: Wanted[Planned], record: BuildRecord, units: list[Planned], report: Reporter
) -> list[UnitOutcome]:
    """Build units; those that another process holds are tried once more at the end, as it may have died."""
    total, done = _count(units), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(wanted.stage, done, total)

    def jobs(chosen: Iterable[Planned]) -> Iterator[UnitJob]:
        # One at a time: only the jobs in hand take memory.
        return (wanted.job_of(record, unit) for unit in chosen)

    advance(0)
    outcomes = list(engine(jobs(units), advance))
    claimed = {outcome.number for outcome in outcomes if outcome.state == "claimed"}
    again = list(engine(jobs(unit for unit in units if unit.number in claimed), advance)) if claimed else []
    return [outcome for outcome in outcomes if outcome.number not in claimed] + again


def _start_folder(out: Path, wanted: Wanted[Planned], device: str) -> BuildRecord:
    """The folder's record: a new one, the one that is there, or that one with a larger extent."""
    recipe, image_set, extent = wanted.recipe, wanted.image_set, wanted.extent
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
    changes = {"copies": copies} if (copies := getattr(extent, "copies", None)) is not None else {}
    recipe = found.recipe.model_copy(update=changes)
    return found.model_copy(update={"recipe": recipe, "extents": (*found.extents, extent)})


def _count(units: Iterable[PlannedUnit]) -> int:
    return sum(len(unit) for unit in units)
