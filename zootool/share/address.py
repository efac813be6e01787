"""`URL@ID`: a zoo's address, which may pin the version that is wanted."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from zootool.errors import FormatError, IntegrityError, UsageError, printable
from zootool.store.manifest import Manifest, parse_manifest
from zootool.store.reader import open_store
from zootool.store.schema import DERIVED_FILES, MANIFEST_JSON
from zootool.store.storage import Storage, open_storage

MAX_MANIFEST_BYTES = 1 << 27
_PINNED = re.compile(r"^(?P<url>.+)@(?P<id>[0-9a-fA-F]{12,64})$")
_TOO_SHORT = re.compile(r"^.+\.zoo@[0-9a-fA-F]{0,11}$")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")
_MAX_PATH = 1000


@dataclass(frozen=True)
class Address:
    """Where a zoo is, and the first digits (12 to 64) of the id that it has to have."""

    url: str
    pinned_id: str | None = None

    @property
    def folder_name(self) -> str:
        """The name that the zoo gets here where none is given: the last part of its URL. Raises UsageError."""
        name = self.url.rstrip("/").rpartition("/")[2]
        if not _NAME.fullmatch(name):
            raise UsageError(f"{printable(self.url)} suggests no name", hint=f"zoo pull {printable(self.url)} NAME.zoo")
        return name


def parse_address(text: str) -> Address:
    """The address that `text` is, with or without `@ID`. Raises UsageError for an id of fewer than 12 digits."""
    if _TOO_SHORT.match(text):
        raise UsageError(f"{printable(text)}: an id needs 12 digits or more", hint="`zoo info` shows all 64 of them")
    found = _PINNED.match(text)
    return Address(found["url"], found["id"].lower()) if found else Address(text)


def open_manifest(address: Address) -> tuple[Storage, Manifest, bytes]:
    """The place, its manifest and the bytes of that, compared with the pinned id.

    Raises IntegrityError for another version, FormatError for paths that can't all be files of one folder, and what
    `open_store` raises where there is no zoo.
    """
    storage = open_storage(address.url)
    size = storage.size(MANIFEST_JSON)
    if size is None:
        open_store(address.url)  # says what is there instead
        raise IntegrityError(f"{printable(address.url)} appeared only now", hint="run the same command again")
    where = f"{storage.name}/{MANIFEST_JSON}"
    if not 0 < size <= MAX_MANIFEST_BYTES:
        raise IntegrityError(f"{printable(where)} claims {size} bytes", hint="fetch another zoo")
    # By its range: a server that says little and sends much is cut off.
    content = storage.fetch(MANIFEST_JSON, [(0, size)])[0].tobytes()
    manifest = parse_manifest(content, where)
    _check_paths(manifest.files, where)
    if address.pinned_id is not None and not manifest.zoo_id.startswith(address.pinned_id):
        raise IntegrityError(
            f"{printable(address.url)} is now the version {manifest.zoo_id[:16]}, wanted is {address.pinned_id}",
            hint="find a copy of that version, or leave out @ID to take this one",
        )
    return storage, manifest, content


def _check_paths(paths: Iterable[str], where: str) -> None:
    """Refuse what no folder can hold, and pages that a browser would run."""
    paths = set(paths)
    for path in paths:
        parts = path.split("/")
        is_below_a_file = any("/".join(parts[:i]) in paths for i in range(1, len(parts)))
        if len(path) > _MAX_PATH or path in DERIVED_FILES or is_below_a_file:
            raise FormatError(f"{where} lists a path that no store has: {printable(path, 80)!r}")
