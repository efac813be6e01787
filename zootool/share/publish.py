"""Publishing a zoo: verified first, uploaded file by file, readable when the manifest is there, which comes last."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path
from threading import Event

from zootool.errors import IntegrityError, UsageError, printable
from zootool.files import refuse_inside
from zootool.progress import Reporter, silent
from zootool.share.card import derived_files
from zootool.share.failures import refusals
from zootool.share.hub import HUB, HubTarget
from zootool.share.lease import LEASE_SECONDS, LISTING, Claim
from zootool.share.publish_plan import Place, PublishPlan, look_at, plan_upload, publication_of
from zootool.share.targets import Found, LocalTarget, ObjectStoreTarget, Target
from zootool.share.terms import GivenTerms, check_images, with_terms
from zootool.store.reader import Store, open_store
from zootool.store.schema import MANIFEST_JSON
from zootool.store.storage import LocalStorage, check_url
from zootool.store.verification import Verification, check_contents, check_names

MAX_FILES_PER_FOLDER = 9_999
"""Hubs refuse folders of 10,000 files and more."""

_RENEWED_SECONDS = 5.0


def publish(
    path: str | Path,
    url: str,
    given: GivenTerms | None = None,
    *,
    dry_run: bool = False,
    anew: bool = False,
    workers: int = 2,
    report: Reporter = silent,
) -> PublishPlan:
    """Publish the store at `path` under `url`, and return what was done, or with `dry_run` what would be.

    With `anew`, what seems to be there is uploaded too. Raises UsageError for a zoo without licence or terms of its
    images, one that carries images which may not be passed on, folders too full for hubs, a URL that can't be written
    to, and while another process publishes there; IntegrityError for a damaged store, or a place that doesn't keep what
    it was given; MissingError where uploading fails for good.
    """
    target = open_target(url)
    store = open_store(path)
    _check_store(store, path, target)
    with refusals(f"publish to {url}"):
        version, contents = with_terms(store, given or GivenTerms())
        with nullcontext(False) if dry_run else target.held() as is_held:
            place = look_at(target)
            contents |= derived_files(version, publication_of(version.zoo_id, place))
            plan = plan_upload(version, store, place, contents, anew)
            _verify(store, report, before_shards_go=plan.replaces is not None)
            if not dry_run and not plan.is_done:
                Upload(version, contents, place, plan, is_held, workers, report).run()
    return plan


def open_target(url: str) -> Target:
    """The target that `url` names: a path, `file://`, `hf://datasets/owner/name`, or any fsspec URL.

    Raises UsageError for what can't be written to, MissingError where a package is missing.
    """
    check_url(url)
    if url.startswith(("http://", "https://")):
        raise UsageError(
            f"{printable(url)} can be read but not written to",
            hint="publish to the folder that the web server serves, or to s3://, gs:// or hf://datasets/OWNER/NAME",
        )
    if url.startswith(HUB):
        return HubTarget(url)
    if "://" not in url or url.startswith("file://"):
        return LocalTarget(Path(url.removeprefix("file://")))
    return ObjectStoreTarget(url)


def _check_store(store: Store, path: str | Path, target: Target) -> None:
    if not isinstance(store.storage, LocalStorage):
        raise UsageError(f"{printable(path)} isn't a folder here", hint=f"zoo pull {printable(path)} first")
    if isinstance(target, LocalTarget) and target.folder.resolve().is_relative_to(store.storage.folder.resolve()):
        raise UsageError(f"{target.name} is the store itself", hint="stores are never changed: publish elsewhere")
    if isinstance(target, LocalTarget):
        refuse_inside(target.folder)
    check_images(store)
    for folder, count in Counter(path.rpartition("/")[0] for path in store.manifest.files).items():
        if count > MAX_FILES_PER_FOLDER:
            raise UsageError(
                f"the folder {folder or '.'} has {count:,} files, hubs accept {MAX_FILES_PER_FOLDER:,} in a folder",
                hint="write the zoo with larger shards: WriteOptions(shard_bytes=...), 64 MB by default",
            )


def _verify(store: Store, report: Reporter, before_shards_go: bool) -> None:
    """Every network's digest and every chunk's checksum, and every file's digest but the shards'.

    Those are taken of the bytes that go up, so that nothing is read once more for them; `before_shards_go` where
    finding damage only then would cost the place the zoo that it has.
    """
    result = Verification(store.zoo_id, len(store))
    check_names(store, result)
    checked = copy(store)
    if not before_shards_go:
        early = {path: entry for path, entry in store.manifest.files.items() if "/c/" not in path}
        checked.manifest = replace(store.manifest, files=early)
    check_contents(checked, result, report)
    result.raise_problems(store.storage.name)


class Upload:
    """One run of an upload: all that a plan says but the manifest, a look at what has arrived, then the manifest.

    `contents` are the files that aren't on the disk. Another version that has the place stops being readable before
    its first file is replaced.
    """

    def __init__(
        self,
        store: Store,
        contents: Mapping[str, bytes],
        place: Place,
        plan: PublishPlan,
        is_held: bool,
        workers: int,
        report: Reporter,
    ) -> None:
        self._store, self._contents, self._plan, self._target = store, contents, plan, place.target
        self._workers, self._report = workers, report
        self._failed = Event()
        files = store.manifest.files
        arrived = {p: Found(size, files[p].sha256, place.found[p].mark) for p, size in plan.present.items()}
        self._claim = Claim(place.target, is_held, arrived, {*place.ours, *files})

    def run(self) -> None:
        """Upload what is missing, the manifest last.

        Raises UsageError when another publisher takes the place over, IntegrityError for what changes here or there
        meanwhile, and what the target raises.
        """
        self._claim.take()
        try:
            self._upload()
        except BaseException:
            self._claim.release()
            raise
        self._target.commit(f"Publish {printable(self._store.info.name, 60)}, id {self._store.zoo_id[:16]}")

    def _upload(self) -> None:
        is_seen_anew, target = MANIFEST_JSON in self._plan.to_upload, self._target
        if is_seen_anew and not target.is_atomic:
            target.remove([MANIFEST_JSON])
        self._put_all([path for path in self._plan.to_upload if path in self._store.manifest.files])
        for name in self._plan.to_upload:
            if name not in self._store.manifest.files and name != MANIFEST_JSON:
                target.put_bytes(name, self._contents[name])
        if is_seen_anew:
            self._check_arrived()
            self._claim.check()
            target.put(MANIFEST_JSON, self._source(MANIFEST_JSON), self._store.zoo_id)
            self._claim.check()
            try:
                self._check_arrived()
            except IntegrityError:
                # Somebody's upload was under way while the manifest went up: nobody shall read what they made of it.
                target.remove([MANIFEST_JSON])
                raise
        target.remove([*self._plan.to_remove, *(() if target.is_atomic else (LISTING,))])

    def _put_all(self, paths: list[str]) -> None:
        """Small files first: zoo.json without a manifest tells readers that a zoo is on its way."""
        total = sum(self._plan.to_upload[path] for path in paths)
        done = 0
        with ThreadPoolExecutor(self._workers) as pool:
            order = sorted(paths, key=lambda path: ("/" in path, path))
            waiting: set[Future[int]] = {pool.submit(self._put, path) for path in order}
            try:
                while waiting:
                    ready, waiting = wait(waiting, _RENEWED_SECONDS, FIRST_COMPLETED)
                    done += sum(future.result() for future in ready)
                    self._report("uploading bytes", done, total)
                    self._claim.renew(_RENEWED_SECONDS)
            except BaseException:
                self._failed.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _put(self, path: str) -> int:
        """Upload a covered file; its bytes. Where one has failed, no other is begun."""
        if self._failed.is_set():
            return 0
        try:
            # After a long sleep of this computer, the place may be somebody else's.
            self._claim.renew(LEASE_SECONDS / 2)
            entry = self._store.manifest.files[path]
            mark = self._target.put(path, self._source(path), entry.sha256)
        except BaseException:
            self._failed.set()
            raise
        self._claim.note(path, Found(entry.size, entry.sha256, mark))
        return entry.size

    def _source(self, path: str) -> Path | bytes:
        assert isinstance(self._store.storage, LocalStorage)
        return self._contents.get(path) or self._store.storage.folder / path

    def _check_arrived(self) -> None:
        """Raise IntegrityError where the place shows other sizes or marks than were left there."""
        if self._target.is_atomic:
            return
        there = self._target.listing()
        for path, entry in self._store.manifest.files.items():
            found, arrived = there.get(path), self._claim.arrived.get(path)
            mark = arrived.mark if arrived else None
            if found is None or found.size != entry.size or mark not in (None, found.mark):
                self._claim.note(path, None)
                state = "other bytes" if found and found.size == entry.size else f"{found.size if found else 0} bytes"
                raise IntegrityError(
                    f"{printable(self._target.name)}/{path} has {state} after the upload, not the {entry.size} sent",
                    hint="run the same command again: it uploads that file anew",
                )
