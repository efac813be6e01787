"""Builders that die, collide, run out of room or lose their clock: a rerun always gives the same bytes."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.zootool.build.small import TINY, content, small_images, stamps
from zootool.build import build_sirens, finished_units
from zootool.build.plan import status_of
from zootool.engines.processes import ProcessEngine
from zootool.errors import MissingError

IMAGES = small_images(train=10)
LONG_STEPS = 4000


def start(folder: Path, steps: int = TINY.steps, workers: int = 1, *options: str) -> subprocess.Popen[str]:
    words = [str(folder), str(steps), str(workers), *options]
    command = [sys.executable, "-m", "tests.zootool.build.build_here", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def finish(process: subprocess.Popen[str]) -> int:
    """The number of networks that the process built."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return int(output)


def crash(folder: Path, stride: int) -> int:
    command = [sys.executable, "-m", "tests.zootool.build.crash_building", str(folder), str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_builder_killed_at_some_boundaries_leaves_what_can_be_finished(tmp_path: Path) -> None:
    assert crash(tmp_path, stride=7) > 100


@pytest.mark.slow
def test_a_builder_killed_at_any_boundary_leaves_what_can_be_finished(tmp_path: Path) -> None:
    assert crash(tmp_path, stride=1) > 100


def test_a_builder_killed_at_random_moments_loses_one_unit(tmp_path: Path) -> None:
    recipe = TINY.model_copy(update={"steps": LONG_STEPS})
    build_sirens(IMAGES, recipe, tmp_path / "whole")
    moments = random.Random(0)
    for _ in range(4):
        process = start(tmp_path / "killed", LONG_STEPS)
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        process.communicate()
        finished = stamps(tmp_path / "killed") if (tmp_path / "killed" / "units").exists() else {}
    build_sirens(IMAGES, recipe, tmp_path / "killed")
    assert stamps(tmp_path / "killed").items() >= finished.items()
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.parametrize("size", [200, 600])
def test_a_builder_killed_in_the_middle_of_a_write_leaves_what_can_be_finished(tmp_path: Path, size: int) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "whole")
    process = start(tmp_path / "killed", TINY.steps, 1, str(size), "die")
    process.communicate()
    assert process.returncode == -signal.SIGXFSZ
    assert list((tmp_path / "killed").rglob("*.tmp"))
    build_sirens(IMAGES, TINY, tmp_path / "killed")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.tmp"))


def test_a_full_disk_is_named_and_leaves_what_can_be_finished(tmp_path: Path) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "whole")
    process = start(tmp_path / "full", TINY.steps, 1, "700")
    _, errors = process.communicate()
    assert "MissingError: can't write to" in errors
    assert not list((tmp_path / "full").rglob("*.tmp"))
    build_sirens(IMAGES, TINY, tmp_path / "full")
    assert content(tmp_path / "full") == content(tmp_path / "whole")


def test_a_unit_whose_rebuilding_failed_does_not_exist(tmp_path: Path) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "x")
    finished_units(tmp_path / "x")[2].table_path.write_bytes(b"")
    process = start(tmp_path / "x", TINY.steps, 1, "200")
    assert "MissingError" in process.communicate()[1]
    assert [unit.number for unit in finished_units(tmp_path / "x")] == [0, 1, 3, 4, 5, 6, 7]


def test_two_builders_share_the_units_of_a_folder(tmp_path: Path) -> None:
    recipe = TINY.model_copy(update={"steps": LONG_STEPS})
    total = build_sirens(IMAGES, recipe, tmp_path / "alone").built
    pair = [start(tmp_path / "shared", LONG_STEPS) for _ in range(2)]
    assert sum(finish(process) for process in pair) == total
    assert content(tmp_path / "shared") == content(tmp_path / "alone")


def test_processes_and_threads_give_the_same_bytes(tmp_path: Path) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "here", threads=2)
    seen: list[int] = []
    result = build_sirens(
        IMAGES, TINY, tmp_path / "there", engine=ProcessEngine(2), report=lambda _, done, total: seen.append(done)
    )
    assert result.left == 0
    assert seen[-1] == result.built == 24
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    recipe = TINY.model_copy(update={"steps": LONG_STEPS})
    killed: list[int] = []

    def kill_one(stage: str, done: int, total: int) -> None:
        if done > 3 and not killed:
            victim = multiprocessing.active_children()[0]
            killed.append(victim.pid or 0)
            victim.kill()

    result = build_sirens(IMAGES, recipe, tmp_path / "x", engine=ProcessEngine(2), report=kill_one)
    assert killed
    assert (result.built, result.left) == (24, 0)
    build_sirens(IMAGES, recipe, tmp_path / "y")
    assert content(tmp_path / "x") == content(tmp_path / "y")


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    process = start(tmp_path / "x", 10**9, 2)
    wait_for(lambda: is_begun(tmp_path / "x") and status_of(tmp_path / "x").running == 2)
    process.kill()
    process.communicate()
    wait_for(lambda: status_of(tmp_path / "x").running == 0)
    assert status_of(tmp_path / "x").done == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_build_stops_and_goes_on_from_there(tmp_path: Path, workers: int) -> None:
    process = start(tmp_path / "x", 100_000, workers)
    wait_for(lambda: is_begun(tmp_path / "x") and status_of(tmp_path / "x").running == workers)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert status_of(tmp_path / "x").running == 0
    recipe = TINY.model_copy(update={"steps": 100_000})
    assert build_sirens(IMAGES, recipe, tmp_path / "x").left == 0


def test_a_job_that_fails_in_a_worker_fails_here_with_its_own_error(tmp_path: Path) -> None:
    engine = ProcessEngine(2)

    def broken(jobs, advance):
        for job in jobs:
            (job.folder / "units").rename(job.folder / "away")
            return engine([job], advance)
        return iter(())

    with pytest.raises(MissingError, match="can't write to"):
        build_sirens(IMAGES, TINY, tmp_path / "x", engine=broken)


def test_times_on_the_disk_mean_nothing(tmp_path: Path) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "x", share=(0, 2))
    for index, path in enumerate((tmp_path / "x").rglob("*")):
        os.utime(path, ns=(0, 0) if index % 2 else (4 * 10**18, 4 * 10**18))
    before = stamps(tmp_path / "x")
    build_sirens(IMAGES, TINY, tmp_path / "x")
    assert stamps(tmp_path / "x").items() >= before.items()
    assert len(finished_units(tmp_path / "x")) == 8


def wait_for(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def is_begun(folder: Path) -> bool:
    return (folder / "recipe.yaml").exists()
