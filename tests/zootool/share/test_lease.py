"""Two publishers at one place: readers see one zoo or none, and the publishers notice each other."""

import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.zootool.share.small_zoos import contents, write_zoo
from zootool.errors import IntegrityError, MissingError, UsageError, ZooError
from zootool.files import canonical_json
from zootool.records import to_plain
from zootool.share import lease as claim_module
from zootool.share.address import Address
from zootool.share.lease import LEASE_SECONDS, LISTING, Claim, Listing, read_listing
from zootool.share.publish import open_target, publish
from zootool.share.pull import pull
from zootool.share.targets import LocalTarget, ObjectStoreTarget
from zootool.store.schema import DERIVED_FILES
from zootool.zoo import open_zoo


@pytest.fixture(params=["folder", "s3", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind."""
    if request.param == "folder":
        return str(tmp_path / "out" / "x.zoo")
    bucket = request.getfixturevalue("s3") if request.param == "s3" else f"memory://{tmp_path.name}"
    return f"{bucket}/x.zoo"


def zoos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.zoo", tmp_path / "b.zoo"]
    for seed, path in enumerate(paths):
        write_zoo(path, seed=7 * seed)
    return paths


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def claim_of_another(url: str, **changes: Any) -> None:
    """Leave the claim of a publisher on another computer."""
    listing = replace(Listing("another", "elsewhere", 7, time.time()), **changes)
    open_target(url).put_bytes(LISTING, canonical_json(to_plain(listing)))


def fail_to_publish(path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish until the line is cut, with edges uploaded and nodes missing."""
    put = ObjectStoreTarget.put

    def failing(self: ObjectStoreTarget, path: str, source: Path, sha256: str) -> str | None:
        if path == "nodes/c/0":
            raise MissingError("the line is cut")
        return put(self, path, source, sha256)

    with monkeypatch.context() as cut:
        cut.setattr(ObjectStoreTarget, "put", failing)
        with pytest.raises(MissingError, match="the line is cut"):
            publish(path, url, workers=1)


def test_publishers_at_once_leave_one_whole_zoo(url: str, tmp_path: Path) -> None:
    paths = zoos(tmp_path)
    ids = {open_zoo(path).id: path for path in paths}
    done = set()

    def attempt(path: Path) -> None:
        with suppress(UsageError):
            done.add(publish(path, url, workers=2).zoo_id)

    def look(number: int) -> None:
        """What a reader takes meanwhile is one of the two, or refused."""
        with suppress(ZooError):
            seen = pull(Address(url), tmp_path / f"seen-{number}").zoo_id
            assert contents(tmp_path / f"seen-{number}") == contents(ids[seen])

    with ThreadPoolExecutor(4) as pool:
        publishing = [pool.submit(attempt, path) for path in paths * 2]
        looking = [pool.submit(look, number) for number in range(4)]
        for future in [*publishing, *looking]:
            future.result()
    assert done
    last = pull(Address(url), tmp_path / "last").zoo_id
    assert last in done
    assert contents(tmp_path / "last") == contents(ids[last])
    assert LISTING not in open_target(url).listing()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    first, second = zoos(tmp_path)
    zoo_id = publish(first, str(tmp_path / "out")).zoo_id
    with (
        LocalTarget(tmp_path / "out").held(),
        pytest.raises(UsageError, match=r"another process is publishing to .*out"),
    ):
        publish(second, str(tmp_path / "out"))
    assert open_zoo(tmp_path / "out").id == zoo_id


def test_a_place_that_another_claims_is_refused_until_the_claim_is_old(bucket: str, tmp_path: Path) -> None:
    url, (first, _) = f"{bucket}/x.zoo", zoos(tmp_path)
    claim_of_another(url)
    with pytest.raises(UsageError, match=r"process 7 on elsewhere is publishing to .*x\.zoo.*in 60 seconds"):
        publish(first, url)
    assert list(open_target(url).listing()) == [LISTING]
    claim_of_another(url, renewed=time.time() - LEASE_SECONDS - 1)
    publish(first, url)
    assert set(contents(first)) | {"README.md", "croissant.json"} == set(open_target(url).listing())


def test_the_claim_of_a_dead_process_here_is_nobodys(bucket: str, tmp_path: Path) -> None:
    url, (first, _) = f"{bucket}/x.zoo", zoos(tmp_path)
    claim_of_another(url, host=platform.node(), process=os.getppid())
    with pytest.raises(UsageError, match="is publishing to"):
        publish(first, url)
    claim_of_another(url, host=platform.node(), process=dead_process())
    assert publish(first, url).zoo_id == open_zoo(url).id


def test_of_two_first_publishers_one_is_refused(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, (first, _) = f"{bucket}/x.zoo", zoos(tmp_path)
    seen = read_listing

    def quicker(target: ObjectStoreTarget) -> Listing | None:
        """Between the look and the claim, another one claims the place."""
        found = seen(target)
        if found is None:
            claim_of_another(url)
        return found

    monkeypatch.setattr(claim_module, "read_listing", quicker)
    with pytest.raises(UsageError, match="process 7 on elsewhere is publishing"):
        publish(first, url)
    assert list(open_target(url).listing()) == [LISTING]


def test_a_publisher_that_lost_its_claim_stops(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, (first, _) = f"{bucket}/x.zoo", zoos(tmp_path)
    put = ObjectStoreTarget.put

    def losing(self: ObjectStoreTarget, path: str, source: Path, sha256: str) -> str | None:
        if path == "nodes/c/0":
            claim_of_another(url)
        return put(self, path, source, sha256)

    monkeypatch.setattr(ObjectStoreTarget, "put", losing)
    with pytest.raises(UsageError, match=r"another process has begun to publish to .*publish again what shall stay"):
        publish(first, url, workers=1)
    assert "manifest.json" not in open_target(url).listing()
    listing = read_listing(open_target(url))
    assert listing is not None
    assert listing.publisher == "another"


def test_a_publisher_that_slept_too_long_asks_before_it_goes_on(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = open_target(f"{bucket}/x.zoo")
    claim = Claim(target, False, {}, [])
    claim.take()
    claim.renew(LEASE_SECONDS / 2)
    claim_of_another(target.name)
    claim.renew(LEASE_SECONDS / 2)  # it was seen a moment ago
    woken = time.time() + LEASE_SECONDS
    monkeypatch.setattr(claim_module.time, "time", lambda: woken)
    with pytest.raises(UsageError, match="another process has begun"):
        claim.renew(LEASE_SECONDS / 2)


@pytest.mark.parametrize("when", ["before the manifest", "with the manifest"])
def test_what_is_overwritten_meanwhile_is_noticed(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    url, (first, second) = f"{s3}/x.zoo", zoos(tmp_path)
    last = "manifest.json" if when == "with the manifest" else "nodes/c/0"
    put = ObjectStoreTarget.put

    def overwriting(self: ObjectStoreTarget, path: str, source: Path, sha256: str) -> str | None:
        if path == last:
            # An upload of another zoo that was under way all the time; of equal size.
            ObjectStoreTarget(url).put_bytes("edges/c/1", (second / "edges/c/1").read_bytes())
        return put(self, path, source, sha256)

    monkeypatch.setattr(ObjectStoreTarget, "put", overwriting)
    with pytest.raises(IntegrityError, match="edges/c/1 has other bytes after the upload"):
        publish(first, url, workers=1)
    assert "manifest.json" not in open_target(url).listing()
    monkeypatch.setattr(ObjectStoreTarget, "put", put)
    assert set(publish(first, url).to_upload) >= {"edges/c/1", "manifest.json"}
    pull(Address(url), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(first)


def test_a_failed_attempt_lets_the_next_one_in_at_once(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, (first, _) = f"{bucket}/x.zoo", zoos(tmp_path)
    fail_to_publish(first, url, monkeypatch)
    plan = publish(first, url)
    assert "edges/c/0" in plan.present
    assert set(contents(first)) | set(DERIVED_FILES) >= open_target(url).listing().keys()


def test_what_was_overwritten_between_two_attempts_goes_up_anew(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, (first, second) = f"{s3}/x.zoo", zoos(tmp_path)
    fail_to_publish(first, url, monkeypatch)
    open_target(url).put_bytes("edges/c/1", (second / "edges/c/1").read_bytes())
    plan = publish(first, url)
    assert "edges/c/0" in plan.present
    assert "edges/c/1" in plan.to_upload
    pull(Address(url), tmp_path / "y.zoo")


@pytest.mark.parametrize("content", [b'{"publisher": ', b"[]", b'{"publisher":"x","arrived":{"edges/c/0":["?"]}}'])
def test_a_listing_that_lies_costs_nothing_but_time(bucket: str, tmp_path: Path, content: bytes) -> None:
    url, (first, _) = f"{bucket}/x.zoo", zoos(tmp_path)
    publish(first, url)
    target = open_target(url)
    target.remove(["manifest.json"])
    target.put_bytes(LISTING, content)
    assert "edges/c/0" in publish(first, url).to_upload
    pull(Address(url), tmp_path / "y.zoo")


def test_everything_goes_up_anew_where_that_is_asked_for(bucket: str, tmp_path: Path) -> None:
    url, (first, second) = f"{bucket}/x.zoo", zoos(tmp_path)
    publish(first, url)
    # Same size, other bytes: an object store's listing doesn't tell.
    open_target(url).put_bytes("edges/c/1", (second / "edges/c/1").read_bytes())
    assert publish(first, url).is_done
    assert set(contents(first)) <= publish(first, url, anew=True).to_upload.keys()
    pull(Address(url), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(first)
