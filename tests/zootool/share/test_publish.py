from pathlib import Path

import pytest

from tests.zootool.share.killed import killed
from tests.zootool.share.small_zoos import contents, write_zoo
from zootool.errors import IntegrityError, MissingError, UsageError
from zootool.files import is_temporary
from zootool.share import publish as publish_module
from zootool.share import publish_plan as plan_module
from zootool.share.lease import read_listing
from zootool.share.publish import publish
from zootool.share.targets import LocalTarget
from zootool.store.schema import DERIVED_FILES
from zootool.zoo import open_zoo, verify


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
    monkeypatch.setattr(LocalTarget, "put", put)
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


def killed_publishing(zoo: Path, out: Path, count: int) -> None:
    killed("publish", zoo, out, count)
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
    write_zoo(tmp_path / "other.zoo", seed=4)
    publish(tmp_path / "other.zoo", str(tmp_path / "large"))
    monkeypatch.setattr(plan_module, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(UsageError, match="holds something else"):
        publish(tmp_path / "x.zoo", str(tmp_path / "large"))
    monkeypatch.setattr(publish_module, "MAX_FILES_PER_FOLDER", 2)
    with pytest.raises(UsageError, match=r"the folder \S+ has \d files, hubs accept.*larger shards"):
        publish(tmp_path / "x.zoo", str(tmp_path / "out"))


def test_a_card_alone_is_renewed_without_hiding_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zoo(tmp_path / "x.zoo")
    out = tmp_path / "out"
    publish(tmp_path / "x.zoo", str(out))
    (out / "README.md").write_text("?")
    removed: list[str] = []
    monkeypatch.setattr(LocalTarget, "remove", lambda self, paths: removed.extend(paths))
    assert set(publish(tmp_path / "x.zoo", str(out)).to_upload) == {"README.md"}
    assert "manifest.json" not in removed
    assert (out / "README.md").read_text().startswith("---\nlicense")


def test_what_the_system_refuses_is_no_bug(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MissingError, match=r"can't publish to .*file: File exists"):
        publish(tmp_path / "x.zoo", str(tmp_path / "file"))
    with pytest.raises(MissingError, match=r"can't publish to .*Not a directory"):
        publish(tmp_path / "x.zoo", str(tmp_path / "file" / "x.zoo"))
