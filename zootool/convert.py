"""`zoo convert`: from anything that holds networks to a store."""

from pathlib import Path

from zootool.errors import FormatError, MissingError
from zootool.progress import Reporter, silent
from zootool.store.blocks import BlockSource
from zootool.store.options import WriteOptions
from zootool.store.writer import write_store


def convert(
    source: Path,
    destination: Path,
    *,
    name: str | None = None,
    options: WriteOptions | None = None,
    report: Reporter = silent,
) -> str:
    """Write the networks at `source` as a new store at `destination`, and return the store's id.

    `name` is the zoo's name, by default that of `destination` without its suffix.

    Raises MissingError when there is nothing at `source` or nothing in it is finished, FormatError when it is of no
    format that is known, UsageError when `destination` exists, and what reading and checking the networks raises.
    """
    return write_store(destination, open_source(source, name or destination.stem), options, report)


def open_source(source: Path, name: str) -> BlockSource:
    """The reader for what lies at `source`. Raises MissingError and FormatError."""
    from zootool.build.units import is_unit_folder
    from zootool.store.unit_source import UnitSource

    if not source.exists():
        raise MissingError(f"there is nothing at {source}", hint="give the folder that `zoo build` wrote")
    if is_unit_folder(source):
        return UnitSource(source, name)
    raise FormatError(
        f"{source} is of no format that zootool converts", hint="give a folder that `zoo build` wrote, with recipe.yaml"
    )
