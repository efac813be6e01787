import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.zootool.share.small_zoos import DIGITS, contents, write_zoo
from tests.zootool.store.small_stores import random_block
from zootool.errors import IntegrityError, MissingError, UsageError
from zootool.files import is_temporary
from zootool.nets.siren import siren_architecture
from zootool.share import publish as publish_module
from zootool.share.claim import read_listing
from zootool.share.publish import publish
from zootool.share.targets import LocalTarget
from zootool.share.terms import GivenTerms
from zootool.store import write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.schema import DERIVED_FILES, ImageSource
from zootool.zoo import open_zoo, verify

ROOT = Path(__file__).parents[3]


def test_a_published_zoo_is_the_same_zoo(tmp_path: Path) -> None:
    zoo_id = write_zoo(tmp_path / "x.zoo")
    plan = publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    assert plan.zoo_id == zoo_id
    assert contents(tmp_path / "out", *DERIVED_FILES) == contents(tmp_path / "x.zoo")
    assert verify(tmp_path / "out", "deep").passed
    again = publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    assert again.is_done


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo", licence=None)
    plan = publish(tmp_path / "x.zoo", str(tmp_path / "out"), dry_run=True)
    assert plan.num_bytes > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["x.zoo"]


def test_a_zoo_that_is_damaged_isnt_published(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    shard = tmp_path / "x.zoo" / "edges" / "c" / "1"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(IntegrityError, match="edges/c/1"):
        publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_another_version_takes_the_place_and_nothing_is_left(tmp_path: Path) -> None:
    old, new = write_zoo(tmp_path / "old.zoo", count=50), write_zoo(tmp_path / "new.zoo", seed=5)
    publish(tmp_path / "old.zoo", str(tmp_path / "out"))
    (tmp_path / "out" / "notes.txt").write_text("somebody's own")
    plan = publish(tmp_path / "new.zoo", str(tmp_path / "out"))
    assert (plan.replaces, plan.zoo_id) == (old, new)
    found = contents(tmp_path / "out", *DERIVED_FILES)
    assert found.pop("notes.txt")
    assert found == contents(tmp_path / "new.zoo")


@pytest.mark.parametrize("last", [0, 2, 5])
def test_half_a_replacement_is_no_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    write_zoo(tmp_path / "old.zoo")
    new = write_zoo(tmp_path / "new.zoo", seed=5)
    out = tmp_path / "out"
    publish(tmp_path / "old.zoo", str(out))
    put, count = LocalTarget.put, 0

    def failing(self: LocalTarget, path: str, source: Path, sha256: str) -> str | None:
        nonlocal count
        count += 1
        if count > last:
            raise MissingError("the line is cut")
        return put(self, path, source, sha256)

    monkeypatch.setattr(LocalTarget, "put", failing)
    with pytest.raises(MissingError, match="the line is cut"):
        publish(tmp_path / "new.zoo", str(out), workers=1)
    with pytest.raises(IntegrityError, match="never finished"):
        open_zoo(out)
    monkeypatch.undo()
    publish(tmp_path / "new.zoo", str(out))
    assert open_zoo(out).id == new
    assert contents(out, *DERIVED_FILES) == contents(tmp_path / "new.zoo")


def test_a_copy_that_was_damaged_is_mended(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    out = tmp_path / "out"
    publish(tmp_path / "x.zoo", str(out))
    shard = out / "edges" / "c" / "1"
    shard.write_bytes(shard.read_bytes()[::-1])
    plan = publish(tmp_path / "x.zoo", str(out))
    assert set(plan.to_upload) == {"edges/c/1", "manifest.json"}
    assert verify(out, "deep").passed


_KILLED = """
import os, signal, sys, time
from zootool.share import publish, targets, upload
upload._RENEWED_SECONDS = 0
check, count = targets.check_sent, 0
def dying(*words):
    global count
    count += 1
    if count > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    check(*words)
targets.check_sent = dying
publish.publish(sys.argv[1], sys.argv[2], workers=1)
"""


def killed_publishing(zoo: Path, out: Path, count: int) -> None:
    """A publisher that is killed when the file after `count` others is written, and hasn't its name yet."""
    words = [sys.executable, "-c", _KILLED, str(zoo), str(out), str(count)]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path for path in out.rglob("*") if is_temporary(path)]


def test_an_upload_that_was_killed_goes_on(tmp_path: Path) -> None:
    zoo_id = write_zoo(tmp_path / "x.zoo")
    out = tmp_path / "out"
    killed_publishing(tmp_path / "x.zoo", out, 6)
    with pytest.raises(IntegrityError, match="never finished"):
        open_zoo(out)
    listing = read_listing(LocalTarget(out))
    assert listing is not None
    assert len(listing.arrived) >= 1
    plan = publish(tmp_path / "x.zoo", str(out))
    assert listing.arrived.keys() <= plan.present.keys()
    assert len(plan.present) == 6
    assert open_zoo(out).id == zoo_id
    assert contents(out, *DERIVED_FILES) == contents(tmp_path / "x.zoo")


def test_nothing_stays_of_a_version_that_was_killed(tmp_path: Path) -> None:
    write_zoo(tmp_path / "larger.zoo", count=70)
    write_zoo(tmp_path / "x.zoo", seed=5)
    out = tmp_path / "out"
    killed_publishing(tmp_path / "larger.zoo", out, 14)
    publish(tmp_path / "x.zoo", str(out))
    assert contents(out, *DERIVED_FILES) == contents(tmp_path / "x.zoo")
    assert verify(out, "deep").passed


def test_what_arrives_cut_off_is_noticed_before_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zoo(tmp_path / "x.zoo")
    put = LocalTarget.put

    def cutting(self: LocalTarget, path: str, source: Path, sha256: str) -> None:
        put(self, path, source, sha256)
        if path == "edges/c/1":
            os.truncate(tmp_path / "out" / path, 10)

    monkeypatch.setattr(LocalTarget, "put", cutting)
    with pytest.raises(IntegrityError, match="edges/c/1 has 10 bytes after the upload"):
        publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.undo()
    publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    assert verify(tmp_path / "out", "deep").passed


def test_a_licence_given_makes_a_version_with_a_parent(tmp_path: Path) -> None:
    zoo_id = write_zoo(tmp_path / "x.zoo", licence=None)
    before = contents(tmp_path / "x.zoo")
    plan = publish(tmp_path / "x.zoo", str(tmp_path / "out"), GivenTerms(licence="CC0-1.0"))
    published = open_zoo(tmp_path / "out")
    assert (published.info.licence, published.info.parent, published.id) == ("CC0-1.0", zoo_id, plan.zoo_id)
    assert plan.is_new_version
    assert verify(tmp_path / "out", "deep").passed
    assert contents(tmp_path / "x.zoo") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.zoo"]


def test_terms_that_are_missing_are_asked_for(tmp_path: Path) -> None:
    mine = ImageSource("my-pictures", shape=(8, 8, 1))
    write_zoo(tmp_path / "built.zoo", licence=None, sources=(mine,))
    write_zoo(tmp_path / "collected.zoo", licence="unknown, see the page", tool=None)
    with pytest.raises(UsageError, match=r"my-pictures.*--source-terms"):
        publish(tmp_path / "built.zoo", str(tmp_path / "out"))
    with pytest.raises(UsageError, match=r"collected elsewhere.*--licence"):
        publish(tmp_path / "collected.zoo", str(tmp_path / "out"))
    publish(tmp_path / "built.zoo", str(tmp_path / "out"), GivenTerms(source_terms="my own"))
    assert open_zoo(tmp_path / "out").info.licence == "CC-BY-4.0"
    assert open_zoo(tmp_path / "out").info.sources[0].terms == "my own"
    with pytest.raises(UsageError, match=r"is under CC-BY-4\.0, not MIT"):
        publish(tmp_path / "out", str(tmp_path / "other"), GivenTerms(licence="MIT"))


def test_images_that_may_not_be_passed_on_are_refused(tmp_path: Path) -> None:
    for name, source in (("yes", DIGITS), ("no", ImageSource("cifar10", terms="none stated"))):
        info = SourceInfo(name, sources=(source,), licence="MIT")
        block = random_block(siren_architecture(2, (3,), 1), 4)
        images = lambda keys: np.zeros((len(keys), 2, 2, 1), np.uint8)  # noqa: E731
        write_store(tmp_path / f"{name}.zoo", MemorySource(info, (block,)), images=images)
    publish(tmp_path / "yes.zoo", str(tmp_path / "out"))
    with pytest.raises(UsageError, match="cifar10, whose terms don't allow"):
        publish(tmp_path / "no.zoo", str(tmp_path / "other"))


def test_places_that_arent_for_zoos_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zoo(tmp_path / "x.zoo")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"holds thesis\.tex and no zoo"):
        publish(tmp_path / "x.zoo", str(tmp_path / "full"))
    with pytest.raises(UsageError, match="can be read but not written to"):
        publish(tmp_path / "x.zoo", "https://example.org/x.zoo")
    with pytest.raises(UsageError, match="names no data set"):
        publish(tmp_path / "x.zoo", "hf://models/a/b")
    for place in (tmp_path / "x.zoo", tmp_path / "x.zoo" / "inside"):
        with pytest.raises(UsageError, match="is the store itself"):
            publish(tmp_path / "x.zoo", str(place))
    monkeypatch.setattr(publish_module, "MAX_FILES_PER_FOLDER", 2)
    with pytest.raises(UsageError, match=r"the folder \S+ has \d files, hubs accept.*larger shards"):
        publish(tmp_path / "x.zoo", str(tmp_path / "out"))
