from pathlib import Path

import pytest

from zootool.data_dir import cache_dir, data_folders


def test_the_folders_are_searched_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "zoo-data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = data_folders(tmp_path / "mine")
    assert [folder.path.relative_to(tmp_path).as_posix() for folder in folders] == ["mine", "zoo-data", "cache/zootool"]
    assert [folder.accepts_partial for folder in folders] == [False, True, False]


def test_without_variables_there_is_the_cache_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert [folder.path for folder in data_folders()] == [tmp_path / ".cache" / "zootool"]
    assert cache_dir() == tmp_path / ".cache" / "zootool"
