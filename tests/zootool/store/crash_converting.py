"""Script of test_crash: converts the units at sys.argv[1] again and again, killed at every boundary."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from tests.zootool.store.crashing import check_no_half_store, crash_everywhere
from tests.zootool.store.small_stores import SMALL_CHUNKS
from zootool.conversion.block_sources import UnitSource
from zootool.store.writer import write_store

if __name__ == "__main__":
    units, folder = Path(sys.argv[1]), Path(sys.argv[2])
    wanted, stride = sys.argv[3], int(sys.argv[4])
    target = folder / "x.zoo"

    def attempt() -> None:
        write_store(target, UnitSource(units, "x"), replace(SMALL_CHUNKS, mark_bytes=1))

    def check(number: int) -> None:
        check_no_half_store(folder, wanted)
        if target.exists():
            target.rename(folder.parent / f"finished-{number}.zoo")

    count = crash_everywhere(attempt, check, stride)
    check_no_half_store(folder, wanted)
    assert os.listdir(folder) == ["x.zoo"], os.listdir(folder)
    print(count)
