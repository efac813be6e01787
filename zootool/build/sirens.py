"""A zoo of SIRENs from an image set: `zoo build siren` as a function."""

from collections.abc import Sequence
from pathlib import Path

from zootool.build.builder import BuildResult, Wanted, available_threads, build_folder
from zootool.build.extents import Extent, Limit, UnitNetworks, extent_of, units_of
from zootool.build.record import BuildRecord, ImageSetRecord
from zootool.build.siren.backends import choose_backend
from zootool.build.siren_recipe import SirenRecipe
from zootool.build.siren_work import SirenJob
from zootool.engines.engine import Engine, run_here
from zootool.images import Images
from zootool.progress import Reporter, silent

STAGE = "fitting networks"


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
    keys = tuple(slot.key for slot in recipe.architecture(images.shape[2]).slots)

    def units(record: BuildRecord) -> Sequence[UnitNetworks]:
        extents = [extent for extent in record.extents if isinstance(extent, Extent)]
        return units_of(images.split, extents, record.unit_size)

    def job(record: BuildRecord, unit: UnitNetworks) -> SirenJob:
        assert isinstance(record.recipe, SirenRecipe)
        return SirenJob(
            folder=Path(out),
            number=unit.number,
            recipe=record.recipe,
            keys=keys,
            pixels=images.pixels[unit.positions],
            labels=images.labels[unit.positions],
            source_index=images.source_index[unit.positions],
            split=images.split[unit.positions],
            copy=unit.copies,
            device=device,
            threads=threads or available_threads(),
        )

    extent = extent_of(images.split, limit, recipe.copies)
    wanted = Wanted(recipe, ImageSetRecord.of(images), extent, units, job, STAGE)
    return build_folder(out, wanted, device=device, engine=engine, share=share, report=report)
