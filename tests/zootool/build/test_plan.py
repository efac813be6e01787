import os
import signal
from pathlib import Path

import pytest

from tests.zootool.build.small import TINY, small_images
from zootool.build import build_sirens, finished_units
from zootool.build.plan import plan_sirens, status_of
from zootool.build.recipe import load_recipe
from zootool.engines.claims import Claims
from zootool.errors import MissingError
from zootool.images import load_images

IMAGES = small_images()


def test_a_plan_counts_and_estimates(tmp_path: Path) -> None:
    plan = plan_sirens(IMAGES, TINY)
    assert (plan.num_images, plan.num_networks, plan.num_units) == (12, 20, 7)
    assert plan.seconds > 0
    assert plan.memory_bytes > 0
    build_sirens(IMAGES, TINY, tmp_path / "x")
    written = sum(path.stat().st_size for path in (tmp_path / "x" / "units").iterdir())
    assert plan.disk_bytes / 2 < written < plan.disk_bytes * 3


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA is not set: no real CIFAR-100 here")
def test_the_plan_of_cifar100_says_510_000_networks() -> None:
    images = load_images("cifar100")
    plan = plan_sirens(images, load_recipe("inr-nfn", "cifar100"))
    assert (plan.num_images, plan.num_networks) == (60_000, 510_000)
    assert 2.5e9 < plan.disk_bytes < 2.7e9


def test_the_status_tells_finished_damaged_and_waiting_units(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    build_sirens(IMAGES, TINY, folder, share=(0, 2))
    finished_units(folder)[1].weights_path.write_bytes(b"")
    status = status_of(folder)
    assert (status.num_units, status.done, status.running, status.failed, status.waiting) == (7, 3, 0, 1, 3)
    assert (status.num_networks_done, status.num_networks) == (3 + 3 + 2, 20)


def test_the_status_tells_what_another_process_holds(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    build_sirens(IMAGES, TINY, folder, share=(0, 2))
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        with Claims(folder) as claims, claims.unit(1), claims.unit(3):
            os.write(theirs, b"1")
            signal.pause()
        os._exit(0)
    os.close(theirs)
    os.read(ours, 1)
    try:
        assert status_of(folder).running == 2
        with Claims(folder) as claims, claims.unit(1) as held, claims.unit(2) as free:
            assert (held, free) == (False, True)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert status_of(folder).running == 0


def test_a_folder_without_recipe_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        status_of(tmp_path)
