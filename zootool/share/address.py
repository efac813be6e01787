"""`URL@ID`: a zoo's address, which may pin the version that is wanted."""

import re
from dataclasses import dataclass

from zootool.errors import IntegrityError, UsageError, printable
from zootool.store.manifest import Manifest, parse_manifest
from zootool.store.reader import open_store
from zootool.store.schema import MANIFEST_JSON
from zootool.store.storage import Storage, open_storage

_PINNED = re.compile(r"^(?P<url>.+)@(?P<id>[0-9a-f]{12,64})$")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")
_MAX_MANIFEST_BYTES = 1 << 27


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
    """The address that `text` is, with or without `@ID`."""
    found = _PINNED.match(text)
    return Address(found["url"], found["id"]) if found else Address(text)


def open_manifest(address: Address) -> tuple[Storage, Manifest, bytes]:
    """The place, its manifest and the bytes of that, compared with the pinned id.

    Raises IntegrityError for another version, and what `open_store` raises where there is no zoo.
    """
    storage = open_storage(address.url)
    size = storage.size(MANIFEST_JSON)
    if size is None:
        open_store(address.url)  # says what is there instead
        raise IntegrityError(f"{printable(address.url)} appeared only now", hint="run the same command again")
    if size > _MAX_MANIFEST_BYTES:
        raise IntegrityError(f"{printable(address.url)}/{MANIFEST_JSON} claims {size} bytes", hint="fetch another zoo")
    content = storage.read(MANIFEST_JSON)
    manifest = parse_manifest(content, f"{storage.name}/{MANIFEST_JSON}")
    if address.pinned_id is not None and not manifest.zoo_id.startswith(address.pinned_id):
        raise IntegrityError(
            f"{printable(address.url)} is now the version {manifest.zoo_id[:16]}, wanted is {address.pinned_id}",
            hint="find a copy of that version, or leave out @ID to take this one",
        )
    return storage, manifest, content
