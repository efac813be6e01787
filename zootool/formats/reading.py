"""A source as its reader finds it: without what the user leaves out, and under names that the store doesn't fill."""

from dataclasses import replace
from pathlib import Path

from zootool.errors import FormatError, IntegrityError, UntrustedError, UsageError, printable
from zootool.formats import reader_for
from zootool.formats.bad_files import without_bad
from zootool.formats.collection import Collection, LeftOut
from zootool.formats.folder_files import is_checkpoint
from zootool.formats.options import ReadOptions
from zootool.nets.rendering import GRIDS
from zootool.untrusted.folder_walk import walk_files
from zootool.untrusted.safe_load import load_checkpoint
from zootool.untrusted.zip_files import ZipArchive


def read_collection(source: Path, format: str | None, options: ReadOptions) -> Collection:
    """The networks at `source`, by the reader called `format` or the one that knows what lies there.

    With `options.skip_bad` every network is read once, and those that can't be are left out. Raises UsageError for an
    unknown format, and for an option that changes nothing; MissingError, and BadDataError's children.
    """
    reader = reader_for(source, format)
    for option, is_given in (("--weights", options.weights is not None), ("--split-names", bool(options.split_names))):
        if is_given and reader.NAME != "folder":
            raise UsageError(
                f"{option} is for plain folders, {printable(source)} is read as {reader.NAME}",
                hint="use --format folder",
            )
    left = _excluded(source, options)
    looks_into_every_file = reader.NAME in ("folder", "zoo-export")
    if options.skip_bad and source.is_dir() and not looks_into_every_file:
        damaged = _damaged(source, options)
        options = replace(options, dropped=frozenset(source / bad.file for bad in damaged))
        left += damaged
    found = reader.read(source, options).with_free_names()
    found = without_bad(found) if options.skip_bad else found
    found = replace(found, left_out=tuple(_without_root(x, source) for x in (*left, *found.left_out)))
    return _declared_grid(found, options)


def _excluded(source: Path, options: ReadOptions) -> list[LeftOut]:
    """The files that patterns fit. Raises UsageError for a pattern that fits none, which may be a slip."""
    if not options.exclude:
        return []
    if source.is_dir():
        names = [file.relative_to(source) for file in walk_files(source)]
    else:
        names = [Path(name) for name in ZipArchive(source)] if source.suffix == ".zip" else []
    left = []
    for name in names:
        parts = (source / part for part in (name, *name.parents) if part != Path("."))
        reason = next((why for part in parts if (why := options.leaves_out(part))), None)
        if reason is not None:
            left.append(LeftOut(name.as_posix(), reason))
    used = {excluded.reason for excluded in left}
    for pattern in options.exclude:
        if f"--exclude {pattern}" not in used:
            raise UsageError(
                f"--exclude {printable(pattern, 100)!r} fits nothing in {printable(source)}",
                hint="patterns are compared with names and with the last parts of paths, as in 'runs/*/optimizer.pt'",
            )
    return left


def _damaged(source: Path, options: ReadOptions) -> list[LeftOut]:
    """The checkpoints that can't be opened; one that asks for what isn't allowed is left to its reader."""
    found = []
    for file in walk_files(source, options.leaves_out):
        if is_checkpoint(file) or file.name == "checkpoints":
            try:
                load_checkpoint(file)
            except UntrustedError:
                continue
            except (FormatError, IntegrityError) as error:
                found.append(LeftOut(file.relative_to(source).as_posix(), printable(error.message, 300)))
    return found


def _without_root(left: LeftOut, source: Path) -> LeftOut:
    """Equal sources give equal zoos wherever they lie, so no zoo records where that was."""
    if left.reason.startswith("--exclude"):
        return left
    root = source if source.is_dir() else source.parent
    return LeftOut(left.file, left.reason.replace(f"{printable(root)}/", "").removeprefix(f"{left.file} "))


def _declared_grid(found: Collection, options: ReadOptions) -> Collection:
    if options.grid is None:
        return found
    if not any(images.grid for images in found.image_sets):
        raise UsageError(
            f"--grid says how networks of coordinates are rendered, {found.format} names no images of such",
            hint="leave out --grid",
        )
    images = tuple(
        replace(i, grid=GRIDS[options.grid], assumed=tuple(a for a in i.assumed if a != "grid"))
        for i in found.image_sets
    )
    return replace(found, image_sets=images)
