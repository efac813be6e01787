"""A convert that is interrupted goes on where it was, and comes to the same bytes."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.zootool.store.small_stores import SMALL_CHUNKS
from tests.zootool.store.unit_folders import write_unit_folder
from zootool.conversion.block_sources import UnitSource
from zootool.conversion.convert import convert
from zootool.files import canonical_json
from zootool.store import WriteOptions
from zootool.store.journal import MARK
from zootool.store.writer import write_store
from zootool.zoo import verify

UNITS = (4, 3, 5, 2, 4)
MARKED = replace(SMALL_CHUNKS, mark_bytes=1)
WIDE = replace(MARKED, shard_bytes=80_000)
COMPRESSED = replace(MARKED, zstd_level=3)


class CountedSource(UnitSource):
    """Units that remember which of their blocks were read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "x")
        self.reads: list[int] = []

    def read(self, index: int):
        self.reads.append(index)
        return super().read(index)


def interrupt_after(networks: int) -> Callable[[str, int, int], None]:
    def report(stage: str, done: int, total: int) -> None:
        if done >= networks:
            raise KeyboardInterrupt

    return report


def interrupted(tmp_path: Path, networks: int, options: WriteOptions = MARKED) -> Path:
    """Units, and beside them an attempt at x.zoo that was interrupted; returns the attempt's folder."""
    write_unit_folder(tmp_path / "units", units=UNITS)
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "x.zoo", UnitSource(tmp_path / "units", "x"), options, interrupt_after(networks))
    (left,) = tmp_path.glob(".x.zoo.*.tmp")
    return left


@pytest.mark.parametrize("options", [MARKED, COMPRESSED], ids=["plain", "zstd"])
@pytest.mark.parametrize("networks", [4, 7, 12, 14, 18])
def test_what_is_written_is_not_read_again(tmp_path: Path, networks: int, options: WriteOptions) -> None:
    interrupted(tmp_path, networks, options)
    source = CountedSource(tmp_path / "units")
    zoo_id = write_store(tmp_path / "x.zoo", source, options)
    finished = [sum(UNITS[: i + 1]) for i in range(len(UNITS))].index(networks) + 1
    assert sorted(source.reads) == list(range(finished, len(UNITS)))
    assert zoo_id == convert(tmp_path / "units", tmp_path / "whole" / "x.zoo", options=options)
    assert verify(tmp_path / "x.zoo", "deep").passed
    assert sorted(os.listdir(tmp_path)) == ["units", "whole", "x.zoo"]


def test_what_a_killed_process_left_is_taken_up(tmp_path: Path) -> None:
    left = interrupted(tmp_path, 12)
    left.rename(tmp_path / ".x.zoo.4194999.tmp")
    source = CountedSource(tmp_path / "units")
    write_store(tmp_path / "x.zoo", source, MARKED)
    assert sorted(source.reads) == [3, 4]
    assert sorted(os.listdir(tmp_path)) == ["units", "x.zoo"]


def test_images_of_networks_before_the_interruption_come_along(tmp_path: Path) -> None:
    def drawn(keys: np.ndarray) -> np.ndarray:
        return np.broadcast_to(keys[:, None, None, None] % 251, (len(keys), 2, 2, 1)).astype(np.uint8)

    interrupted(tmp_path, 12)
    source = CountedSource(tmp_path / "units")
    zoo_id = write_store(tmp_path / "x.zoo", source, MARKED, images=drawn)
    assert sorted(source.reads) == [3, 4]
    assert zoo_id == write_store(tmp_path / "y.zoo", CountedSource(tmp_path / "units"), MARKED, images=drawn)


def test_a_second_interruption_goes_on_too(tmp_path: Path) -> None:
    interrupted(tmp_path, 7)
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "x.zoo", UnitSource(tmp_path / "units", "x"), MARKED, interrupt_after(14))
    source = CountedSource(tmp_path / "units")
    zoo_id = write_store(tmp_path / "x.zoo", source, MARKED)
    assert source.reads == [4]
    assert zoo_id == convert(tmp_path / "units", tmp_path / "whole" / "x.zoo", options=MARKED)


def test_bytes_behind_the_mark_are_cut_off(tmp_path: Path) -> None:
    left = interrupted(tmp_path, 12, WIDE)
    mark = json.loads((left / MARK).read_bytes())["arrays"]["edges"]
    assert mark["chunks"], "a shard is open"
    with (left / "edges" / "c" / str(mark.get("num_shards", 0))).open("ab") as shard:
        shard.write(b"half a chunk" * 1000)
    (left / "edges" / "c" / "77").write_bytes(b"a shard that no mark knows")
    (left / "nets.parquet").write_bytes(b"half a table")
    zoo_id = write_store(tmp_path / "x.zoo", UnitSource(tmp_path / "units", "x"), WIDE)
    assert zoo_id == convert(tmp_path / "units", tmp_path / "whole" / "x.zoo", options=WIDE)
    assert verify(tmp_path / "x.zoo", "deep").passed


@pytest.mark.parametrize("change", ["units", "options", "name", "mark"])
def test_another_attempt_does_not_take_up_what_is_not_its_own(tmp_path: Path, change: str) -> None:
    left = interrupted(tmp_path, 12)
    options, name = MARKED, "x"
    if change == "units":
        shutil.rmtree(tmp_path / "units")
        write_unit_folder(tmp_path / "units", units=UNITS, seed=1)
    elif change == "options":
        options = COMPRESSED
    elif change == "name":
        name = "y"
    else:
        (left / MARK).write_bytes(b'{"fingerprint": 3}')
    source = CountedSource(tmp_path / "units")
    source.info  # noqa: B018  the name is part of what is written
    zoo_id = convert(tmp_path / "units", tmp_path / "x.zoo", name=name, options=options)
    assert zoo_id == convert(tmp_path / "units", tmp_path / "whole" / "x.zoo", name=name, options=options)
    assert not list(tmp_path.glob(".x.zoo.*"))


@pytest.mark.parametrize("place", ["finished shard", "open shard", "rows"])
def test_an_attempt_that_lost_bytes_is_not_taken_up(tmp_path: Path, place: str) -> None:
    left = interrupted(tmp_path, 12)
    shards = sorted((left / "edges" / "c").iterdir(), key=lambda path: path.stat().st_size)
    path = {"finished shard": shards[-1], "open shard": shards[0], "rows": left / ".journal" / "rows-1.arrow"}[place]
    path.write_bytes(path.read_bytes()[:10]) if place != "rows" else path.unlink()
    assert_done_anew(tmp_path)


@pytest.mark.parametrize("place", ["finished shard", "open shard", "rows", "begun chunk", "recorded digest"])
def test_an_attempt_with_flipped_bits_is_not_taken_up(tmp_path: Path, place: str) -> None:
    left = interrupted(tmp_path, 12)
    mark = json.loads((left / MARK).read_bytes())
    arrays = mark["arrays"]
    if place == "begun chunk":
        begun = next(array for array in arrays.values() if array.get("begun"))
        begun["begun"] = ("B" if begun["begun"][0] == "A" else "A") + begun["begun"][1:]
    elif place == "recorded digest":
        entry = arrays["edges"]["entries"]["c/0"]
        entry["sha256"] = entry["sha256"][::-1]
    if place in ("begun chunk", "recorded digest"):
        (left / MARK).write_bytes(canonical_json(mark))
    else:
        name = next(name for name, array in arrays.items() if array.get("chunks"))
        is_open = f"{name}/c/{arrays[name].get('num_shards', 0)}"
        path = left / {"finished shard": "edges/c/0", "open shard": is_open, "rows": ".journal/rows-0.arrow"}[place]
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    assert_done_anew(tmp_path)


def assert_done_anew(tmp_path: Path) -> None:
    """And to the same bytes as ever."""
    source = CountedSource(tmp_path / "units")
    zoo_id = write_store(tmp_path / "x.zoo", source, MARKED)
    assert sorted(source.reads) == list(range(len(UNITS)))
    assert zoo_id == convert(tmp_path / "units", tmp_path / "whole" / "x.zoo", options=MARKED)
