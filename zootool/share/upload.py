"""One run of an upload: everything but the manifest, a look at what has arrived, then the manifest."""

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event

from zootool.errors import IntegrityError, printable
from zootool.progress import Reporter
from zootool.share.claim import LEASE_SECONDS, LISTING, Arrived, Claim
from zootool.share.layered import LayeredStorage
from zootool.share.plan import PublishPlan
from zootool.share.targets import Target
from zootool.store.reader import Store
from zootool.store.schema import MANIFEST_JSON
from zootool.store.storage import LocalStorage

_RENEWED_SECONDS = 5.0


class Upload:
    """Brings to `target` what a plan says of a store, and of the contents `derived` of it.

    Another version that has the place stops being readable before its first file is replaced.
    """

    def __init__(
        self,
        target: Target,
        store: Store,
        claim: Claim,
        plan: PublishPlan,
        derived: Mapping[str, bytes],
        workers: int,
        report: Reporter,
    ) -> None:
        self._target, self._store, self._claim = target, store, claim
        self._covered = [path for path in plan.to_upload if path in store.manifest.files]
        self._derived = {name: content for name, content in derived.items() if name in plan.to_upload}
        self._to_remove = {*plan.to_remove} | ({LISTING} if not target.is_atomic else set())
        self._is_seen = MANIFEST_JSON not in plan.to_upload
        self._workers, self._report = workers, report
        self._failed = Event()

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
        info = self._store.info
        self._target.commit(f"Publish {printable(info.name, 60)}, id {self._store.zoo_id[:16]}")

    def _upload(self) -> None:
        if not self._is_seen and not self._target.is_atomic:
            self._target.remove([MANIFEST_JSON])
        self._put_all()
        for name, content in self._derived.items():
            self._target.put_bytes(name, content)
        if not self._is_seen:
            self._check_arrived()
            self._claim.check()
            self._target.put(MANIFEST_JSON, self._source(MANIFEST_JSON), self._store.zoo_id)
            self._check_again()
        self._target.remove(sorted(self._to_remove))

    def _put_all(self) -> None:
        """Small files first: zoo.json without a manifest tells readers that a zoo is on its way."""
        total = sum(self._store.manifest.files[path].size for path in self._covered)
        done = 0
        order = sorted(self._covered, key=lambda path: ("/" in path, path))
        with ThreadPoolExecutor(self._workers) as pool:
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
            self._claim.renew(LEASE_SECONDS / 2)
            entry = self._store.manifest.files[path]
            mark = self._target.put(path, self._source(path), entry.sha256)
        except BaseException:
            self._failed.set()
            raise
        self._claim.note(path, Arrived(entry.size, entry.sha256, mark))
        return entry.size

    def _check_arrived(self) -> None:
        """Raise IntegrityError where the place shows other sizes or marks than were left there."""
        if self._target.is_atomic:
            return
        there = self._target.listing()
        for path, entry in self._store.manifest.files.items():
            found, arrived = there.get(path), self._claim.arrived.get(path)
            mark = arrived.mark if arrived else None
            if found is None or found.size != entry.size or mark not in (None, found.mark):
                self._claim.forget(path)
                state = "other bytes" if found and found.size == entry.size else f"{found.size if found else 0} bytes"
                raise IntegrityError(
                    f"{printable(self._target.name)}/{path} has {state} after the upload, not the {entry.size} sent",
                    hint="run the same command again: it uploads that file anew",
                )

    def _check_again(self) -> None:
        """What was overwritten while the manifest went up takes it away again."""
        self._claim.check()
        try:
            self._check_arrived()
        except IntegrityError:
            self._target.remove([MANIFEST_JSON])
            raise

    def _source(self, path: str) -> Path:
        """Where a file of the store lies here."""
        storage = self._store.storage
        if isinstance(storage, LayeredStorage):
            above = storage.upper / path
            if above.exists():
                return above
            storage = storage.lower
        assert isinstance(storage, LocalStorage)
        return storage.folder / path
