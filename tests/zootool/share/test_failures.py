"""Locks that come too late, or not at all, and refusals in words."""

from pathlib import Path

import pytest

from tests.zootool.share.small_zoos import contents, write_zoo
from zootool import files
from zootool.errors import FormatError, MissingError, UsageError
from zootool.share.download import unfinished
from zootool.share.failures import locked, refusals
from zootool.share.lease import LISTING
from zootool.share.publish import publish
from zootool.store.schema import DERIVED_FILES


def test_a_folder_that_went_away_before_the_lock_came_is_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    for comes_back in (False, True):
        folder.mkdir(exist_ok=True)

        def late(descriptor: int, operation: int, comes_back: bool = comes_back) -> None:
            folder.rename(tmp_path / f"gone-{comes_back}")
            if comes_back:
                folder.mkdir()

        monkeypatch.setattr(files.fcntl, "flock", late)
        with pytest.raises(UsageError, match="somebody is at it"), locked(folder, "somebody is at it"):
            pass


def test_a_pull_that_another_finished_before_the_lock_came_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(descriptor: int, operation: int) -> None:
        (tmp_path / "y.zoo").mkdir()

    monkeypatch.setattr(files.fcntl, "flock", late)
    with pytest.raises(UsageError, match=r"y\.zoo exists"), unfinished(tmp_path / "y.zoo"):
        pass


def test_disks_without_locks_are_published_to_under_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(descriptor: int, operation: int) -> None:
        raise OSError(37, "no locks available")

    monkeypatch.setattr(files.fcntl, "flock", nowhere)
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    assert contents(tmp_path / "out", *DERIVED_FILES) == contents(tmp_path / "x.zoo")
    (tmp_path / "out" / LISTING).write_text('{"publisher":"another","host":"elsewhere","process":7,"renewed":9e9}')
    write_zoo(tmp_path / "other.zoo", seed=3)
    with pytest.raises(UsageError, match="process 7 on elsewhere is publishing"):
        publish(tmp_path / "other.zoo", str(tmp_path / "out"))


def test_refusals_say_what_and_why() -> None:
    full = r"can't fly to \\x1b\[31m: No space left on device: make room"
    with pytest.raises(MissingError, match=full), refusals("fly to \x1b[31m"):
        raise OSError(28, "No space left on device")
    with pytest.raises(MissingError, match=r"can't fly: Access Denied \(PermissionError\)"), refusals("fly"):
        raise PermissionError("Access Denied")
    with pytest.raises(FormatError, match=r"^as it is$"), refusals("fly"):
        raise FormatError("as it is")
