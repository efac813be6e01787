"""What publishing would do: what a place has already, what is lacking, what goes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from zootool.errors import FormatError, UsageError, printable
from zootool.share.address import MAX_MANIFEST_BYTES
from zootool.share.croissant import Publication
from zootool.share.lease import LISTING, Listing, read_listing
from zootool.share.targets import Found, Target
from zootool.store.manifest import Manifest, parse_manifest
from zootool.store.reader import Store
from zootool.store.schema import DERIVED_FILES, MANIFEST_JSON, FileEntry


@dataclass(frozen=True)
class PublishPlan:
    """What publishing would do, files with their bytes. `zoo_id` is that of the version that others will see.

    `is_new_version`: it states terms that the store at hand doesn't, whose id is then `parent`.
    """

    url: str
    zoo_id: str
    licence: str
    source_terms: dict[str, str]
    to_upload: dict[str, int] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)
    to_remove: tuple[str, ...] = ()
    replaces: str | None = None
    parent: str | None = None
    is_new_version: bool = False

    @property
    def num_bytes(self) -> int:
        """Bytes that are uploaded."""
        return sum(self.to_upload.values())

    @property
    def is_done(self) -> bool:
        """Whether everything is there already."""
        return not self.to_upload and not self.to_remove


@dataclass(frozen=True)
class Place:
    """What is found where a zoo is to be published: files, the zoo that has the place, an unfinished upload."""

    target: Target
    found: Mapping[str, Found]
    zoo: Manifest | None
    listing: Listing | None

    @property
    def ours(self) -> set[str]:
        """The files there that belong to zoos, and not to somebody else."""
        known = {*(self.zoo.files if self.zoo else ()), *(self.listing.paths if self.listing else ()), LISTING}
        return known & self.found.keys()

    def has(self, path: str, entry: FileEntry) -> bool:
        """Whether a file is there, as far as the place itself or what is on record tells."""
        found = self.found.get(path)
        if found is None or found.size != entry.size:
            return False
        return entry.sha256 == (self.target.digest(path, found) or self._recorded(path, found))

    def _recorded(self, path: str, found: Found) -> str | None:
        """The digest on record for a file that is there and hasn't been replaced since."""
        if self.listing is None:
            entry = self.zoo.files.get(path) if self.zoo else None
            return entry.sha256 if entry else None
        arrived = self.listing.arrived.get(path)
        return arrived.sha256 if arrived is not None and arrived.mark in (None, found.mark) else None


def look_at(target: Target) -> Place:
    """What `target` has. Raises UsageError where that is no zoo."""
    found = target.listing()
    listing = read_listing(target) if LISTING in found else None
    manifest = found.get(MANIFEST_JSON)
    if manifest is None:
        foreign = sorted(path for path in found if not path.startswith("."))
        if foreign and listing is None:
            raise UsageError(
                f"{printable(target.name)} holds {printable(foreign[0])} and no zoo", hint="choose an empty place"
            )
        return Place(target, found, None, listing)
    content = target.read(MANIFEST_JSON) if manifest.size <= MAX_MANIFEST_BYTES else None
    try:
        return Place(target, found, parse_manifest(content or b"", f"{target.name}/{MANIFEST_JSON}"), listing)
    except FormatError as error:
        raise UsageError(
            f"{printable(target.name)} holds something else: {error.message}", hint="choose an empty place"
        ) from error


def plan_upload(store: Store, original: Store, place: Place, contents: Mapping[str, bytes], anew: bool) -> PublishPlan:
    """The plan for a version of the store `original`, and those of its files that aren't on the disk.

    With `anew`, nothing counts as being there.
    """
    files, info, target = store.manifest.files, store.info, place.target
    present = {path: entry.size for path, entry in files.items() if not anew and place.has(path, entry)}
    lacking = {path: entry.size for path, entry in files.items() if path not in present}
    old = place.zoo.zoo_id if place.zoo else None
    if lacking or old != store.zoo_id:
        manifest = contents.get(MANIFEST_JSON)
        lacking[MANIFEST_JSON] = len(manifest) if manifest else store.storage.size(MANIFEST_JSON) or 0
    for name in DERIVED_FILES:
        if name in contents and (anew or target.read(name) != contents[name]):
            lacking[name] = len(contents[name])
    terms = {source.name: source.terms or "" for source in info.sources}
    return PublishPlan(
        url=target.name,
        zoo_id=store.zoo_id,
        licence=info.licence or "",
        source_terms=terms or {"unnamed images": str(info.provenance.get("source_terms", ""))},
        to_upload=lacking,
        present=present,
        to_remove=tuple(sorted(place.ours - {*files, MANIFEST_JSON, *DERIVED_FILES})),
        replaces=old if old != store.zoo_id else None,
        parent=info.parent,
        is_new_version=original.zoo_id != store.zoo_id,
    )


def publication_of(zoo_id: str, place: Place) -> Publication:
    """Where and since when: a version that is published again keeps its day."""
    day = datetime.now(UTC).date().isoformat()
    if place.zoo is not None and place.zoo.zoo_id == zoo_id:
        try:
            said = json.loads(place.target.read("croissant.json") or b"{}")
            day = str(said.get("datePublished", day))[: len(day)]
        except (ValueError, AttributeError):
            # Somebody else's text: it is written anew, with today's date.
            pass
    return Publication(place.target.public_url, day)
