"""Publishing a zoo: verified first, uploaded file by file, readable when the manifest is there, which comes last."""

from collections import Counter
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path

from zootool.errors import UsageError, printable
from zootool.files import refuse_inside
from zootool.progress import Reporter, silent
from zootool.share.card import derived_files
from zootool.share.claim import Claim
from zootool.share.failures import refusals
from zootool.share.plan import PublishPlan, arrived_of, look_at, plan_upload, publication_of
from zootool.share.targets import LocalTarget, Target, open_target
from zootool.share.terms import GivenTerms, check_images, with_terms
from zootool.share.upload import Upload
from zootool.store.reader import Store, open_store
from zootool.store.storage import LocalStorage
from zootool.store.verification import Verification, check_contents, check_names

MAX_FILES_PER_FOLDER = 9_999
"""Hubs refuse folders of 10,000 files and more."""


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
    with (
        refusals(f"publish to {url}"),
        with_terms(store, given or GivenTerms()) as version,
        nullcontext(False) if dry_run else target.held() as is_held,
    ):
        place = look_at(target)
        derived = derived_files(version, publication_of(version.zoo_id, target, place))
        plan = plan_upload(version, store.zoo_id, target, place, derived, anew)
        _verify(store, report, before_shards_go=plan.replaces is not None)
        if not dry_run and not plan.is_done:
            paths = {*place.ours, *version.manifest.files}
            claim = Claim(target, is_held, arrived_of(plan, version, place), paths)
            Upload(target, version, claim, plan, derived, workers, report).run()
    return plan


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
