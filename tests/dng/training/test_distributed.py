import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dng.training.distributed import local_device
from dng.training.metrics import read_metrics
from tests.dng import train_in_ranks
from zootool.errors import UsageError

ROOT = Path(__file__).parents[3]


def in_two_processes(folder: Path, case: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.dng.train_in_ranks", str(folder), case]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_processes_draw_the_curve_of_one(tmp_path: Path) -> None:
    train_in_ranks.main(tmp_path / "one", "plain")
    in_two_processes(tmp_path / "two", "plain")
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two] == [4, 8, 12]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    wanted = torch.load(tmp_path / "one" / "weights-0.pt")
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / "two" / f"weights-{rank}.pt"), wanted)


def test_a_bad_loss_on_one_rank_stops_all(tmp_path: Path) -> None:
    in_two_processes(tmp_path, "poisoned")
    for rank in range(2):
        assert "nan at step 0, on 2 rows" in (tmp_path / f"stopped-{rank}.txt").read_text()


def test_devices_that_are_not_there_are_named() -> None:
    with pytest.raises(UsageError, match="no device 'gpu'"):
        local_device("gpu")
    with pytest.raises(UsageError, match="asks for GPU 99"):
        local_device("cuda:99")
    with pytest.raises(UsageError, match="nothing here computes on 'mps'"):
        local_device("mps")
    assert local_device("cpu") == torch.device("cpu")


def test_an_environment_that_torchrun_did_not_make_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from dng.training.distributed import joined_ranks

    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE is 'two'"), joined_ranks(torch.device("cpu")):
        pass
