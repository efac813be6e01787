"""Publishing a zoo: verified first, uploaded file by file, and readable when the manifest is there, which comes last.

A side listing, `publishing.json`, says which files of an unfinished upload have arrived, so that the same command goes
on from there. Of another version that has the place, the manifest is removed before its first file is replaced.
"""

import json
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from zootool.errors import FormatError, IntegrityError, UsageError, printable
from zootool.progress import Reporter, silent
from zootool.share.card import derived_files
from zootool.share.targets import Found, LocalTarget, Target, open_target
from zootool.share.terms import GivenTerms, check_images, settle_terms, with_terms
from zootool.store.manifest import Manifest, parse_manifest
from zootool.store.reader import Store, open_store
from zootool.store.schema import DERIVED_FILES, MANIFEST_JSON, FileEntry
from zootool.store.storage import LocalStorage
from zootool.store.verify import Verification, check_contents, check_names

MAX_FILES_PER_FOLDER = 9_999
"""Hubs refuse folders of 10,000 files and more."""

LISTING = "publishing.json"
_LISTING_SECONDS = 2.0


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


def publish(
    path: str | Path,
    url: str,
    given: GivenTerms | None = None,
    *,
    dry_run: bool = False,
    workers: int = 3,
    report: Reporter = silent,
) -> PublishPlan:
    """Publish the store at `path` under `url`, and return what was done, or with `dry_run` what would be.

    Raises UsageError for a zoo without licence or terms of its images, one that carries images which may not be passed
    on, folders too full for hubs, and a URL that can't be written to; IntegrityError for a damaged store, or a place
    that doesn't keep what it was given; MissingError where uploading fails for good.
    """
    target = open_target(url)
    store = open_store(path)
    if not isinstance(store.storage, LocalStorage):
        raise UsageError(f"{printable(path)} isn't a folder here", hint=f"zoo pull {printable(path)} first")
    if isinstance(target, LocalTarget) and target.folder.resolve().is_relative_to(store.storage.folder.resolve()):
        raise UsageError(f"{printable(url)} is the store itself", hint="stores are never changed: publish elsewhere")
    check_images(store)
    settle_terms(store.info, given or GivenTerms())
    _check_folders(store.manifest)
    _verify(store, report)
    with with_terms(store, given or GivenTerms()) as version:
        derived = derived_files(version)
        plan, kept = _plan(version, store.zoo_id, target, url, derived)
        if not dry_run:
            _Upload(target, version, plan, kept, derived, workers, report).run()
    return plan


def _plan(
    store: Store, original_id: str, target: Target, url: str, derived: dict[str, bytes]
) -> tuple[PublishPlan, dict[str, FileEntry]]:
    """The plan, and the files that are there already with these contents."""
    there = target.listing()
    old = _published(target, there)
    recorded = _recorded(target, there, old)
    files = store.manifest.files
    kept = {path: entry for path, entry in files.items() if _is_there(entry, there.get(path), recorded.get(path))}
    wanted = {*files, MANIFEST_JSON, *DERIVED_FILES}
    ours = {*(old.files if old else ()), *recorded, LISTING} & there.keys()
    info = store.info
    return PublishPlan(
        url=url,
        zoo_id=store.zoo_id,
        licence=info.licence or "",
        source_terms={source.name: source.terms or "" for source in info.sources},
        to_upload={path: entry.size for path, entry in files.items() if path not in kept}
        | {name: len(content) for name, content in derived.items()},
        present={path: entry.size for path, entry in kept.items()},
        to_remove=tuple(sorted(ours - wanted)),
        replaces=old.zoo_id if old is not None and old.zoo_id != store.zoo_id else None,
        parent=info.parent,
        is_new_version=original_id != store.zoo_id,
    ), kept


def _is_there(entry: FileEntry, found: Found | None, recorded: FileEntry | None) -> bool:
    if found is None or found.size != entry.size:
        return False
    return entry.sha256 == (found.sha256 or (recorded.sha256 if recorded else None))


def _published(target: Target, there: dict[str, Found]) -> Manifest | None:
    """The manifest that has the place; UsageError where something else has it."""
    content = target.read(MANIFEST_JSON) if MANIFEST_JSON in there else None
    if content is None:
        foreign = sorted(path for path in there if not path.startswith("."))
        if foreign and LISTING not in there:
            raise UsageError(
                f"{printable(target.name)} holds {printable(foreign[0])} and no zoo", hint="choose an empty place"
            )
        return None
    try:
        return parse_manifest(content, f"{target.name}/{MANIFEST_JSON}")
    except FormatError as error:
        raise UsageError(
            f"{printable(target.name)} holds something else: {error.message}", hint="choose an empty place"
        ) from error


def _recorded(target: Target, there: dict[str, Found], old: Manifest | None) -> dict[str, FileEntry]:
    """What is known to lie there by content: from the side listing of an unfinished upload, or else the manifest."""
    content = target.read(LISTING) if LISTING in there else None
    if content is None:
        return dict(old.files) if old is not None else {}
    try:
        return {path: FileEntry(int(size), str(digest)) for path, (size, digest) in json.loads(content).items()}
    except (ValueError, TypeError, AttributeError):
        # A listing that can't be read says nothing: everything is uploaded again.
        return {}


class _Upload:
    """One run of an upload. `kept` are the files that are there by content; it grows as files arrive."""

    def __init__(
        self,
        target: Target,
        store: Store,
        plan: PublishPlan,
        kept: dict[str, FileEntry],
        derived: dict[str, bytes],
        workers: int,
        report: Reporter,
    ) -> None:
        assert isinstance(store.storage, LocalStorage)
        self._target, self._store, self._plan, self._kept = target, store, plan, kept
        self._folder = store.storage.folder
        self._derived, self._workers, self._report = derived, workers, report
        self._listed_at = 0.0

    def run(self) -> None:
        """Upload what is missing, the manifest last."""
        with tempfile.TemporaryDirectory(prefix="zoo-publish-") as scratch:
            self._scratch = Path(scratch)
            missing = [path for path in self._plan.to_upload if path in self._store.manifest.files]
            if missing or self._plan.replaces:
                self._open_place()
                self._put_all(missing)
            for name, content in self._derived.items():
                self._put_bytes(name, content)
            self._check_arrived()
            self._target.put(MANIFEST_JSON, self._folder / MANIFEST_JSON)
            own = set() if self._target.is_atomic else {LISTING}
            self._target.remove(sorted({*self._plan.to_remove} | own))
            self._target.commit(f"Publish {self._store.info.name}, id {self._store.zoo_id[:16]}")

    def _open_place(self) -> None:
        """Say what is kept, then make sure that nobody reads old and new files together."""
        if not self._target.is_atomic:
            self._put_listing()
            self._target.remove([MANIFEST_JSON])

    def _put_all(self, paths: list[str]) -> None:
        total = sum(self._store.manifest.files[path].size for path in paths)
        done = 0
        with ThreadPoolExecutor(self._workers) as pool:
            # Small files first: zoo.json without a manifest tells readers that a zoo is on its way.
            order = sorted(paths, key=lambda path: ("/" in path, path))
            waiting = {pool.submit(self._target.put, path, self._folder / path): path for path in order}
            try:
                for future in as_completed(waiting):
                    future.result()
                    path = waiting[future]
                    self._kept[path] = self._store.manifest.files[path]
                    done += self._kept[path].size
                    self._report("uploading bytes", done, total)
                    if not self._target.is_atomic and monotonic() - self._listed_at > _LISTING_SECONDS:
                        self._put_listing()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _put_listing(self) -> None:
        entries = {path: [entry.size, entry.sha256] for path, entry in self._kept.items()}
        self._put_bytes(LISTING, json.dumps(entries).encode("ascii"))
        self._listed_at = monotonic()

    def _put_bytes(self, path: str, content: bytes) -> None:
        source = self._scratch / path
        source.write_bytes(content)
        self._target.put(path, source)

    def _check_arrived(self) -> None:
        """Raise IntegrityError where the place shows other sizes than were uploaded."""
        if self._target.is_atomic:
            return
        there = self._target.listing()
        for path, entry in self._store.manifest.files.items():
            size = there[path].size if path in there else 0
            if size != entry.size:
                self._kept.pop(path, None)
                self._put_listing()
                problem = f"{path} has {size} bytes after the upload, not {entry.size}"
                hint = "run the same command again: it uploads that file anew"
                raise IntegrityError(f"{printable(self._target.name)}/{problem}", hint=hint)


def _verify(store: Store, report: Reporter) -> None:
    result = Verification(store.zoo_id, len(store))
    check_names(store, result)
    check_contents(store, result, report)
    result.raise_problems(store.storage.name)


def _check_folders(manifest: Manifest) -> None:
    for folder, count in Counter(path.rpartition("/")[0] for path in manifest.files).items():
        if count > MAX_FILES_PER_FOLDER:
            raise UsageError(
                f"the folder {folder or '.'} has {count:,} files, hubs accept {MAX_FILES_PER_FOLDER:,} in a folder",
                hint="write the zoo with larger shards: WriteOptions(shard_bytes=...), 64 MB by default",
            )
