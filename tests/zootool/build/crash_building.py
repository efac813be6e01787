"""Script of test_faults: builds into a folder again and again, killed at every boundary.

    python -m tests.zootool.build.crash_building FOLDER STRIDE

Each attempt is a fork that dies by SIGKILL at its n-th open, mkdir, rename, removal or fsync. A second fork then
finishes the build, and has to find what was finished untouched and leave the same bytes as a build without deaths.
"""

import shutil
import sys
from pathlib import Path

from tests.zootool.build.small import TINY, content, small_images, stamps
from tests.zootool.store.crashing import crash_everywhere
from zootool.build import build_sirens, finished_units
from zootool.files import is_temporary

IMAGES = small_images(train=10)


def main(folder: Path, stride: int) -> int:
    """Kill at every stride-th event; returns the number of events of a whole build."""
    build_sirens(IMAGES, TINY, folder / "whole")
    wanted, attempted = content(folder / "whole"), folder / "attempted"
    assert len(finished_units(folder / "whole")) == 8

    def check(number: int) -> None:
        finished = stamps(attempted) if (attempted / "units").exists() else {}
        num_finished = len(finished) // 3
        result = build_sirens(IMAGES, TINY, attempted)
        assert result.left == 0
        assert result.found == sum(unit.num_networks for unit in finished_units(attempted)[:num_finished])
        assert stamps(attempted).items() >= finished.items(), "a finished unit was built again"
        assert content(attempted) == wanted
        assert not [path for path in attempted.rglob("*") if is_temporary(path)], "a dead builder's files are left"
        shutil.rmtree(attempted)

    return crash_everywhere(lambda: void(build_sirens(IMAGES, TINY, attempted)), check, stride)


def void(_: object) -> None:
    """Nothing: an attempt gives none of its result back."""


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2])))
