"""How fast checkpoints from elsewhere are read: 20,000 files of one SIREN each, and a few large ones, against torch.

All contenders run in turn in every round of one process over the same files, so that what slows the machine down slows
all of them; a ratio is the median over the rounds. `pytest benchmarks/test_checkpoint_reading.py --benchmark-only -s`
prints the tables. Every contender ends with the values in memory, and ours has checked checksums, bounds and names.
The files lie in the system's cache.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.contenders import Run, compare
from zootool.untrusted.safe_load import load_checkpoint
from zootool.untrusted.state_dicts import find_state_dict

NUM_FILES = int(os.environ.get("ZOO_BENCH_FILES", "20000"))
THREADS = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def sirens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """SIREN state_dicts of 1,251 parameters by the format that they are saved in; no two hold the same values."""
    folder = tmp_path_factory.mktemp("sirens")
    network = nn.Sequential(nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 3))
    state = network.state_dict()
    paths: dict[str, list[Path]] = {"zip": [], "legacy": []}
    for form, own in paths.items():
        for i in range(NUM_FILES if form == "zip" else NUM_FILES // 10):
            own.append(folder / f"{form}_net{i}.pth")
            torch.save(
                {key: value + i for key, value in state.items()}, own[-1], _use_new_zipfile_serialization=form == "zip"
            )
    return paths


def test_many_small_files(benchmark: Any, sirens: dict[str, list[Path]]) -> None:
    files = sirens["zip"]
    for paths in sirens.values():
        assert_equal_reading(paths[-1])
    with ProcessPoolExecutor(THREADS) as pool:

        def in_processes() -> int:
            size = -(-len(files) // (THREADS * 4))
            return sum(pool.map(read_safely, [files[i : i + size] for i in range(0, len(files), size)]))

        assert in_processes() == read_safely(files) == len(files)
        contenders: dict[str, Run] = {
            "our reader": lambda: read_safely(files),
            f"our reader, {THREADS} processes": in_processes,
            "torch.load(weights_only=True)": lambda: read_by_torch(files, weights_only=True),
            "torch.load(weights_only=False)": lambda: read_by_torch(files, weights_only=False),
        }
        compare("small files, zip", "networks/s", contenders, "torch.load(weights_only=True)")
    legacy = sirens["legacy"]
    contenders = {
        "our reader": lambda: read_safely(legacy),
        "torch.load(weights_only=True)": lambda: read_by_torch(legacy, weights_only=True),
    }
    compare("small files, legacy", "networks/s", contenders, "torch.load(weights_only=True)")
    benchmark.pedantic(lambda: read_safely(files[:1000]), rounds=3)


def test_large_files(benchmark: Any, tmp_path: Path) -> None:
    """Where bytes count and not files: 8 layers of 16 MB."""
    state = {f"{i}.weight": torch.randn(2048, 2048) for i in range(8)}
    files = [tmp_path / "large.pth", tmp_path / "large_legacy.pth"]
    for path in files:
        torch.save(state, path, _use_new_zipfile_serialization=path is files[0])
    for path in files:
        assert_equal_reading(path)
        megabytes = path.stat().st_size // 1_000_000
        contenders: dict[str, Run] = {
            "our reader": lambda path=path, megabytes=megabytes: read_safely([path]) * megabytes,
            "torch.load(weights_only=True)": lambda path=path, megabytes=megabytes: (
                read_by_torch([path], weights_only=True) * megabytes
            ),
        }
        compare(path.stem, "MB/s", contenders, "torch.load(weights_only=True)")
    benchmark.pedantic(lambda: read_safely(files[:1]), rounds=3)


def read_safely(files: Iterable[Path]) -> int:
    count = 0
    for path in files:
        count += bool(arrays_of(path))
    return count


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    return {key: tensor.read() for key, tensor in find_state_dict(load_checkpoint(path).value).tensors.items()}


def read_by_torch(files: Iterable[Path], *, weights_only: bool) -> int:
    """The files are our own, so that reading them without care is safe here, and here alone."""
    count = 0
    for path in files:
        count += bool(torch.load(path, weights_only=weights_only))
    return count


def assert_equal_reading(path: Path) -> None:
    """Ours and torch's reader give the same tensors."""
    ours = arrays_of(path)
    wanted = torch.load(path, weights_only=True)
    assert list(ours) == list(wanted)
    for key, value in wanted.items():
        np.testing.assert_array_equal(ours[key], value.numpy())
