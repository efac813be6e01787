import os
from pathlib import Path

import pytest

from zootool.errors import UsageError
from zootool.files import (
    canonical_json,
    folder_atomic,
    is_temporary,
    locked,
    remove_leftovers,
    sha256_file,
    temporary_path,
    write_atomic,
    write_bytes_atomic,
)


def test_a_failed_write_leaves_the_old_file_and_no_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes_atomic(path, b"old")

    def fail(sink):
        sink.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with folder_atomic(tmp_path / "x.zoo") as folder:
            (folder / "half").write_bytes(b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert os.listdir(tmp_path) == []


def test_a_finished_folder_takes_its_name(tmp_path: Path) -> None:
    with folder_atomic(tmp_path / "x.zoo") as folder:
        assert is_temporary(folder)
        (folder / "a").write_bytes(b"1")
    assert (tmp_path / "x.zoo" / "a").read_bytes() == b"1"


def test_leftovers_of_dead_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    dead = tmp_path / ".unit.json.4194999.tmp"
    alive = tmp_path / f".unit.json.{os.getppid()}.tmp"
    dead.write_bytes(b"")
    alive.write_bytes(b"")
    (tmp_path / "unit.json").write_bytes(b"")
    assert remove_leftovers(tmp_path) == [dead]
    assert alive.exists()


def test_temporary_names_are_recognised(tmp_path: Path) -> None:
    assert is_temporary(temporary_path(tmp_path / "nets.parquet"))
    assert not is_temporary(tmp_path / "nets.parquet")


def test_canonical_json_does_not_depend_on_order() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == b'{"a":[1.5,"\\u00e9"],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_a_folder_is_not_named_like_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is named like a file"), folder_atomic(tmp_path / "x.CSV"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_one_process_at_a_time_holds_a_lock(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    path.mkdir() if kind == "folder" else path.write_bytes(b"")
    with locked(path, wait=False) as held, locked(path, wait=False) as again:
        assert (held, again) == (True, False)
    with locked(path) as held:
        assert held


def test_a_lock_is_on_what_has_the_name_now(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with locked(path):
        write_bytes_atomic(path, b"new")
        with locked(path, wait=False) as held:
            assert held
    with pytest.raises(FileNotFoundError), locked(tmp_path / "y"):
        pass
