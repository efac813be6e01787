"""How fast published zoos are read: 20,000 files of one SIREN each, and rows of the Small CNN Zoo, against torch.load.

All contenders run in turn in every round of one process over the same files, so that what slows the machine down slows
all of them; a ratio is the median over the rounds. `pytest benchmarks/test_collecting.py --benchmark-only -s` prints
the tables. `load` is what a reader gives the store: stacked tensors, every file's checksums, keys, shapes and dtypes
checked. The files lie in the system's cache.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.contenders import Run, compare, rate
from tests.zootool.formats.small_cnns_here import LAYOUT, metric_rows, write_layout, write_metrics
from zootool.conversion.convert import convert
from zootool.formats.collection import Collection
from zootool.formats.nfn_sirens import NfnSirens
from zootool.formats.options import ReadOptions
from zootool.formats.small_cnn_zoo import SmallCnnZoo
from zootool.store import WriteOptions
from zootool.store.pack import pack
from zootool.zoo import open_zoo

NUM_FILES = int(os.environ.get("ZOO_BENCH_FILES", "20000"))
NUM_RUNS = int(os.environ.get("ZOO_BENCH_RUNS", "5000"))
BLOCK = 800
THREADS = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def sirens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SIREN set as published; no two networks hold the same values."""
    root = tmp_path_factory.mktemp("sirens") / "siren_cifar_wts"
    shapes = {"net.0.linear": (32, 2), "net.1.linear": (32, 32), "net.2": (3, 32)}
    for label in range(10):
        (root / f"randinit_smaller_{label}s").mkdir(parents=True)
    for i in range(NUM_FILES):
        state = {}
        for prefix, shape in shapes.items():
            state |= {f"{prefix}.weight": torch.full(shape, float(i)), f"{prefix}.bias": torch.full(shape[:1], 0.5)}
        torch.save(state, root / f"randinit_smaller_{i % 10}s" / f"net{i}.pth")
    return root


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Small CNN Zoo of 9 networks a run."""
    root = tmp_path_factory.mktemp("cnns")
    rows = metric_rows(NUM_RUNS)
    num_parameters = sum(int(np.prod(shape)) for _, shape in LAYOUT)
    np.save(root / "weights.npy", np.random.default_rng(0).random((len(rows), num_parameters), np.float32))
    write_layout(root / "layout.csv")
    write_metrics(root / "metrics.csv.gz", rows)
    return root


def test_many_small_files(benchmark: Any, sirens: Path, tmp_path: Path) -> None:
    files = sorted(sirens.rglob("*.pth"))
    collection = NfnSirens.read(sirens, ReadOptions())
    assert len(collection) == len(files) == NUM_FILES
    # No two networks have the same first weight, so the sum tells that each was read once.
    assert sum_of_first_weights(collection) == sum(range(NUM_FILES))

    def read_by_torch() -> float:
        return sum(bool(torch.load(path, weights_only=True)) for path in files)

    contenders: dict[str, Run] = {
        "nfn reader, load": lambda: load_all(collection, 2048),
        "nfn reader, read and load": lambda: load_all(NfnSirens.read(sirens, ReadOptions()), 2048),
        "zoo convert, end to end": lambda: converted(sirens, tmp_path / "x.zoo") * len(collection),
        "torch.load(weights_only=True)": read_by_torch,
    }
    converted(sirens, tmp_path / "x.zoo")
    assert len(open_zoo(tmp_path / "x.zoo")) == NUM_FILES
    compare("small files", "networks/s", contenders, "torch.load(weights_only=True)")
    benchmark.pedantic(lambda: load_all(collection, 2048), rounds=1)


def test_rows_of_a_matrix(benchmark: Any, matrix: Path, tmp_path: Path) -> None:
    collection = SmallCnnZoo.read(matrix, ReadOptions())
    network_bytes = 4 * sum(int(np.prod(shape)) for _, shape in LAYOUT)
    megabytes = len(collection) * network_bytes / 1e6
    assert pack_all(collection, BLOCK) == len(collection) == len(np.load(matrix / "weights.npy", mmap_mode="r"))
    state = {key: torch.from_numpy(tensor[0].copy()) for key, tensor in collection.load(np.array([0])).items()}
    torch.save(state, tmp_path / "one.pth")

    def read_by_torch() -> float:
        for _ in range(2_000):
            torch.load(tmp_path / "one.pth", weights_only=True)
        return 2_000 * network_bytes / 1e6

    contenders: dict[str, Run] = {
        "rows into the store's arrays": lambda: pack_all(collection, BLOCK) * network_bytes / 1e6,
        "zoo convert, end to end": lambda: converted(matrix, tmp_path / "x.zoo") * megabytes,
        "a file per network, torch.load(weights_only=True)": read_by_torch,
    }
    compare("rows of a matrix", "MB/s", contenders, "a file per network, torch.load(weights_only=True)")
    print(f"| reading tables and layout | {rate(lambda: len(SmallCnnZoo.read(matrix, ReadOptions()))):,.0f} rows/s |")
    benchmark.pedantic(lambda: pack_all(collection, BLOCK), rounds=1)


def load_all(collection: Collection, block: int) -> float:
    """Every network, in blocks as the store asks for them."""
    for start in range(0, len(collection), block):
        collection.load(np.arange(start, min(start + block, len(collection))))
    return len(collection)


def pack_all(collection: Collection, block: int) -> float:
    """Every network as rows of the store's arrays, one architecture after another."""
    for number, architecture in enumerate(collection.architectures):
        rows = np.flatnonzero(collection.architecture_index == number)
        for start in range(0, len(rows), block):
            pack(architecture, collection.load(rows[start : start + block]))
    return len(collection)


def converted(source: Path, store: Path) -> float:
    """1, once the store has been written and removed again."""
    shutil.rmtree(store, ignore_errors=True)
    convert(source, store, options=WriteOptions(workers=THREADS))
    return 1


def sum_of_first_weights(collection: Collection) -> float:
    """The sum over all networks of a first layer's first weight."""
    rows = np.arange(len(collection))
    return sum(float(collection.load(part)["net.0.linear.weight"][:, 0, 0].sum()) for part in np.array_split(rows, 20))
