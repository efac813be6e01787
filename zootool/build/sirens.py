"""A zoo of SIRENs from an image set: `zoo build siren` as a function."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zootool.build.claims import Claims
from zootool.build.engine import Engine, run_here
from zootool.build.extents import Extent, Limit, UnitNetworks, extent_of, first_smaller_key, units_of
from zootool.build.recipe import UNIT_SIZES, SirenRecipe
from zootool.build.units import (
    RECEIPT_SUFFIX,
    UNITS_NAME,
    BuildRecord,
    ImageSetRecord,
    Unit,
    is_unit_folder,
    read_recipe,
    refuse_other_content,
    unit_path,
    write_record,
)
from zootool.build.work import UnitJob
from zootool.errors import BadDataError, UsageError
from zootool.images import Images
from zootool.progress import Reporter, silent


@dataclass(frozen=True)
class BuildResult:
    """What a run of `build_sirens` did. Counts of networks; `left` are in units that other processes hold or own."""

    folder: Path
    num_networks: int
    built: int
    found: int
    left: int
    num_refitted: int
    num_diverged: int


def build_sirens(
    images: Images,
    recipe: SirenRecipe,
    out: Path,
    *,
    limit: Limit = None,
    device: str = "cpu",
    engine: Engine = run_here,
    threads: int | None = None,
    share: tuple[int, int] | None = None,
    report: Reporter = silent,
) -> BuildResult:
    """Fit the networks that `recipe` asks for on `images` into the folder of units `out`, but for those it has.

    `limit` is as in `extent_of`. `share` = (i, n) takes every n-th unit from the i-th on. Raises UsageError where
    `out` holds something else or another recipe's networks, naming the key.
    """
    extent = extent_of(images.split, limit, recipe.copies)
    record = _start(images, recipe, out, extent, device)
    units = units_of(images.split, record.extents, _unit_size(record))
    mine = units if share is None else units[share[0] :: share[1]]
    waiting = [unit for unit in mine if not _is_finished(out, unit.number)]
    found = sum(map(len, mine)) - sum(map(len, waiting))
    total, done = sum(map(len, mine)), found

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report("fitting networks", done, total)

    advance(0)
    outcomes = list(engine(_jobs(images, record, out, waiting, device, threads or available_threads()), advance))
    built = sum(o.num_networks for o in outcomes if o.state == "built")
    found += sum(o.num_networks for o in outcomes if o.state == "found")
    return BuildResult(
        folder=out,
        num_networks=record.extent.num_networks,
        built=built,
        found=found,
        left=record.extent.num_networks - built - found,
        num_refitted=sum(o.num_refitted for o in outcomes),
        num_diverged=sum(o.num_diverged for o in outcomes),
    )


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(images: Images, recipe: SirenRecipe, out: Path, extent: Extent, device: str) -> BuildRecord:
    """The folder's record: a new one, the one that is there, or that one with a larger extent."""
    if recipe.unit_size is None:
        recipe = recipe.model_copy(update={"unit_size": UNIT_SIZES[device.partition(":")[0]]})
    wanted = BuildRecord(recipe=recipe, image_set=_image_set_record(images), extents=(extent,))
    refuse_other_content(out)
    (out / UNITS_NAME).mkdir(parents=True, exist_ok=True)
    with Claims(out) as claims, claims.recipe():
        record = _merged(read_recipe(out), wanted, out) if is_unit_folder(out) else wanted
        write_record(out, record)
    return record


def _merged(found: BuildRecord, wanted: BuildRecord, out: Path) -> BuildRecord:
    for part in ("recipe", "image_set"):
        old, new = getattr(found, part).model_dump(), getattr(wanted, part).model_dump()
        for key in old:
            # The copies are part of the extent; the unit size was fixed when the folder was begun.
            if key not in ("copies", "unit_size") and old[key] != new[key]:
                raise UsageError(
                    f"{out} was begun with {key} = {old[key]!r}, this asks for {new[key]!r}", hint="give another --out"
                )
    if key := first_smaller_key(found.extent, wanted.extent):
        old, new = getattr(found.extent, key), getattr(wanted.extent, key)
        raise UsageError(
            f"{out} holds {key} = {old}, this asks for {new}: a folder only grows", hint="give another --out"
        )
    if found.extent == wanted.extent:
        return found
    recipe = found.recipe.model_copy(update={"copies": wanted.recipe.copies})
    return found.model_copy(update={"recipe": recipe, "extents": (*found.extents, wanted.extent)})


def _image_set_record(images: Images) -> ImageSetRecord:
    return ImageSetRecord(
        name=images.name,
        digest=images.digest,
        shape=images.shape,
        num_images=len(images),
        num_classes=len(images.class_names),
        is_partial=images.is_partial,
        source_terms=images.source_terms,
    )


def _unit_size(record: BuildRecord) -> int:
    assert record.recipe.unit_size is not None
    return record.recipe.unit_size


def _is_finished(folder: Path, number: int) -> bool:
    receipt = unit_path(folder, number, RECEIPT_SUFFIX)
    if not receipt.exists():
        return False
    try:
        Unit(folder, number).check()
    except BadDataError:
        receipt.unlink(missing_ok=True)
        return False
    return True


def _jobs(
    images: Images, record: BuildRecord, folder: Path, units: Sequence[UnitNetworks], device: str, threads: int
) -> Iterator[UnitJob]:
    keys = tuple(slot.key for slot in record.recipe.architecture(images.shape[2]).slots)
    for unit in units:
        yield UnitJob(
            folder=folder,
            number=unit.number,
            recipe=record.recipe,
            keys=keys,
            pixels=images.pixels[unit.positions],
            labels=images.labels[unit.positions],
            source_index=images.source_index[unit.positions],
            split=images.split[unit.positions],
            copy=unit.copies,
            device=device,
            threads=threads,
        )
