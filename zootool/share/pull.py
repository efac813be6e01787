"""Pulling a whole zoo: every file against the manifest, in a folder that takes its name when all of them are right."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zootool.errors import IntegrityError, UsageError, ZooError, printable
from zootool.files import fsync_folder, fsync_tree
from zootool.progress import Reporter, silent
from zootool.share.address import Address, open_manifest, replacement_of
from zootool.share.download import Download, unfinished
from zootool.share.failures import refusals
from zootool.store.manifest import Manifest
from zootool.store.reader import open_store
from zootool.store.schema import MANIFEST_JSON


@dataclass(frozen=True)
class Pulled:
    """What a pull left: the store's folder and id and its files.

    `num_bytes` came over the network this time; of a part, they are those on the disk.
    """

    path: Path
    zoo_id: str
    num_files: int
    num_bytes: int


def pull(address: Address, destination: str | Path, *, workers: int = 4, report: Reporter = silent) -> Pulled:
    """Download the zoo at `address` into the new folder `destination`, going on with an earlier attempt.

    Raises UsageError when the folder exists or another process pulls it, MissingError where nothing is there, the
    connection fails for good or the disk is too small, and IntegrityError for files that aren't what the manifest says,
    by name.
    """
    destination = Path(destination)
    with refusals(f"pull {address.url} to {destination}"):
        storage, manifest, content = open_manifest(address)
        with unfinished(destination) as folder:
            download = Download(storage, manifest.files, folder, report)
            with replacements_named(address, manifest):
                download.run(workers)
            _remove_strangers(folder, manifest)
            (folder / MANIFEST_JSON).write_bytes(content)
            open_store(folder)
            fsync_tree(folder)
            if destination.exists():
                # A rename would silently take the place of an empty folder.
                raise UsageError(f"{destination} exists", hint="choose another name, or remove it first")
            folder.rename(destination)
        fsync_folder(destination.parent)
    return Pulled(destination, manifest.zoo_id, len(manifest.files), download.num_bytes)


@contextmanager
def replacements_named(address: Address, manifest: Manifest) -> Iterator[None]:
    """Say of an IntegrityError in the block that another version came between, where that is the reason."""
    try:
        yield
    except IntegrityError as error:
        new = None
        with suppress(ZooError):
            new = replacement_of(address, manifest)
        if new is None:
            raise
        raise IntegrityError(
            f"{printable(address.url)} was replaced by the version {new[:16]} while it was read",
            hint="run the same command again to take that one" if address.pinned_id is None else "find another copy",
        ) from error


def _remove_strangers(folder: Path, manifest: Manifest) -> None:
    """What an attempt at another version, or at a part, has left."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(parent) / name
            if path.relative_to(folder).as_posix() not in manifest.files:
                path.unlink()
        if Path(parent) != folder and not any(Path(parent).iterdir()):
            Path(parent).rmdir()
