"""Script of test_crash: appends to the store at sys.argv[1] again and again, killed at every boundary."""

import os
import shutil
import sys
from pathlib import Path

from tests.zootool.store.crashing import check_no_half_store, crash_everywhere
from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block
from zootool.nets.siren import siren_architecture
from zootool.store.append import append_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.zoo import open_zoo

if __name__ == "__main__":
    path, stride = Path(sys.argv[1]), int(sys.argv[2])
    pristine = path.parent.parent / "pristine.zoo"
    source = MemorySource(SourceInfo("more"), [random_block(siren_architecture(2, (8, 4), 1), 9, 5)])
    shutil.copytree(path, pristine)
    new_id = append_store(path, source, SMALL_CHUNKS).zoo_id
    old_id = open_zoo(path).info.parent or ""

    def reset() -> None:
        shutil.rmtree(path)
        shutil.copytree(pristine, path)

    def attempt() -> None:
        append_store(path, source, SMALL_CHUNKS)

    def check(number: int) -> None:
        check_no_half_store(path.parent, old_id, new_id)
        is_new = open_zoo(path).id == new_id
        if is_new:
            reset()
        append_store(path, source, SMALL_CHUNKS)
        assert open_zoo(path).id == new_id
        assert os.listdir(path.parent) == [path.name], os.listdir(path.parent)
        reset()

    reset()
    print(crash_everywhere(attempt, check, stride))
