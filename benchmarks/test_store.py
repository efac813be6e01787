"""How fast stores are written and read: 65,536 SIRENs 2-32-32-3 of 1,251 parameters, against the usual ways.

All contenders of a table run in turn in every round of one process, so that what slows the machine down slows all of
them; a ratio is the median over the rounds. `pytest benchmarks/test_store.py --benchmark-only -s` prints the tables.
What is not measured against anything stands beside the processor time that it took.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import zarr

from benchmarks.contenders import Run, compare
from tests.zootool.store.unit_folders import write_unit_folder
from zootool.architecture import Architecture, ParameterSlot, Timestamp
from zootool.conversion.convert import convert
from zootool.nets.siren import siren_architecture
from zootool.store import WriteOptions
from zootool.store.blocks import PackedBlock
from zootool.store.reader import open_store
from zootool.store.schema import Segment, ZooInfo
from zootool.store.store_builder import StoreBuilder
from zootool.zoo import Zoo, open_zoo

NUM_NETWORKS = 65_536
UNIT = 4_096
THREADS = len(os.sched_getaffinity(0))
SIREN = siren_architecture(2, (32, 32), 3)
BYTES = 4 * (SIREN.num_edges + SIREN.num_nodes)

OPENING = """
import sys, time
import zootool.zoo

def megabytes():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

before, start = megabytes(), time.perf_counter()
zoo = zootool.zoo.open_zoo(sys.argv[1])
columns = zoo.nets.columns
print(len(zoo), time.perf_counter() - start, before, megabytes())
"""


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "units"
    write_unit_folder(folder, (UNIT,) * (NUM_NETWORKS // UNIT), hidden=(32, 32), channels=3)
    return folder


@pytest.fixture(scope="module")
def store(units: Path) -> Path:
    path = units.parent / "sirens.zoo"
    convert(units, path)
    return path


def test_converting(benchmark: Any, units: Path, tmp_path: Path) -> None:
    files = checkpoints(units, tmp_path, 400)

    def from_units() -> int:
        shutil.rmtree(tmp_path / "x.zoo", ignore_errors=True)
        convert(units, tmp_path / "x.zoo", options=WriteOptions(workers=THREADS))
        return NUM_NETWORKS

    assert_equal_content(files[:3], tmp_path)
    contenders: dict[str, Run] = {
        "zoo convert from units": from_units,
        "a script per file, loops over weights": lambda: script_with_loops(files[:40], tmp_path),
        "a script per file, tensor operations": lambda: script_without_loops(files, tmp_path),
    }
    rates = compare("converting", "networks/s", contenders, "zoo convert from units")
    megabytes = statistics.median(rates["zoo convert from units"]) * BYTES / 1e6
    print(f"| zoo convert | {megabytes:,.0f} MB/s |")
    benchmark.extra_info["MB/s"] = megabytes
    benchmark.pedantic(from_units, rounds=1)


def test_reading(benchmark: Any, store: Path) -> None:
    zoo = open_zoo(store)
    edges = zarr.open_array(store / "edges", mode="r")
    rng = np.random.default_rng(0)

    def epoch(mode: Any, batch_size: int) -> Run:
        loader = zoo.loader(batch_size, shuffle=True, mode=mode, targets=[])
        next(iter(loader))
        return lambda: sum(len(batch) for batch in loader)

    def plain_zarr() -> int:
        rows = np.sort(rng.choice(NUM_NETWORKS, 64, replace=False))
        places = (rows[:, None] * SIREN.num_edges + np.arange(SIREN.num_edges)).ravel()
        return len(np.asarray(edges.oindex[places]).reshape(64, -1))

    def plain_zarr_in_blocks() -> int:
        per_shard = open_store(store).arrays["edges"].layout.shard // SIREN.num_edges
        start = int(rng.integers(NUM_NETWORKS // per_shard)) * per_shard
        return (
            len(np.asarray(edges[start * SIREN.num_edges : (start + per_shard) * SIREN.num_edges])) // SIREN.num_edges
        )

    contenders: dict[str, Run] = {
        "resident, batches of 256": epoch("resident", 256),
        "resident, batches of 64": epoch("resident", 64),
        "mapped, batches of 256": epoch("mapped", 256),
        "mapped, batches of 64": epoch("mapped", 64),
        "streamed in shuffled blocks, batches of 256": epoch("streamed", 256),
        "plain zarr, fancy indexing, batches of 64": plain_zarr,
        "plain zarr, whole shards in random order": plain_zarr_in_blocks,
    } | tensorstore_contenders(store)
    total = float(np.asarray(edges[:], np.float64).sum())
    for mode in ("resident", "mapped", "streamed"):
        loader = zoo.loader(256, shuffle=True, mode=mode, targets=[])
        found = sum(float(edge.double().sum()) for batch in loader for edge in batch.edges)
        assert found == pytest.approx(total, rel=1e-9), mode
    compare("reading", "networks/s", contenders, "plain zarr, fancy indexing, batches of 64")
    benchmark.pedantic(contenders["resident, batches of 256"], rounds=3)


def test_opening_ten_million_networks(benchmark: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.zoo"
    write_simulated(path, 10_000_000)
    found = subprocess.run([sys.executable, "-c", OPENING, str(path)], capture_output=True, text=True, check=True)
    count, seconds, before, after = (float(word) for word in found.stdout.split())
    assert count == 10_000_000
    print(f"| opening {count:,.0f} networks | {seconds:.3f} s | {after:.0f} MB, of which imports {before:.0f} |")
    benchmark.extra_info |= {"seconds": seconds, "MB": after}
    benchmark.pedantic(lambda: open_zoo(path), rounds=3)


@pytest.mark.parametrize("sizes", [(10_000, 100_000)] + [(10_000, 1_000_000)] * ("ZOO_BENCH_LARGE" in os.environ))
def test_the_cost_per_network_is_flat(benchmark: Any, tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Processor time, since a run over more networks takes longer and meets more of what else the machine does."""
    for size in sizes:
        write_unit_folder(tmp_path / f"u{size}", (2_000,) * (size // 2_000), hidden=(32, 32), channels=3)
        start = time.process_time()
        convert(tmp_path / f"u{size}", tmp_path / f"{size}.zoo")
        converted = time.process_time()
        total = sum(len(batch) for batch in open_zoo(tmp_path / f"{size}.zoo").loader(256, True, mode="streamed"))
        read = time.process_time()
        assert total == size
        each = [(converted - start) / size * 1e6, (read - converted) / size * 1e6]
        print(f"| {size:,} networks | convert {each[0]:.1f} us | streamed read {each[1]:.1f} us of processor each |")
        shutil.rmtree(tmp_path / f"u{size}")
    benchmark.pedantic(lambda: open_zoo(tmp_path / f"{sizes[0]}.zoo"), rounds=3)


def checkpoints(units: Path, folder: Path, count: int) -> list[Path]:
    """The first networks as .pth files of their own."""
    convert(units, folder / "for-files.zoo")
    zoo = open_zoo(folder / "for-files.zoo")
    paths = []
    for i in range(count):
        paths.append(folder / f"net{i}.pth")
        torch.save(zoo.state_dict(i), paths[-1])
    return paths


def assert_equal_content(files: list[Path], folder: Path) -> None:
    """Both scripts write what the store holds of a network."""
    zoo = open_zoo(folder / "for-files.zoo")
    for i, path in enumerate(files):
        edges = torch.from_numpy(np.concatenate([edge.T.ravel() for edge in edges_of(zoo, i)]))
        for script in (script_with_loops, script_without_loops):
            script([path], folder)
            torch.testing.assert_close(torch.load(folder / "converted.pt")["e"], edges, rtol=0, atol=0)


def edges_of(zoo: Zoo, index: int) -> list[np.ndarray]:
    """A network's weights, (targets, sources) of each layer."""
    batch = zoo.graph(index)
    return [edge[0, ..., 0].numpy() for edge in batch.edges]


def script_with_loops(files: list[Path], folder: Path) -> int:
    """What the field's converters do: every weight by its indices."""
    for path in files:
        state = torch.load(path, weights_only=True)
        edges, nodes = [], []
        for key, value in state.items():
            if key.endswith("weight"):
                edges += [value[i, j] for j in range(value.shape[1]) for i in range(value.shape[0])]
            else:
                nodes += list(value)
        torch.save({"e": torch.stack(edges), "b": torch.stack(nodes)}, folder / "converted.pt")
    return len(files)


def script_without_loops(files: list[Path], folder: Path) -> int:
    """The same by tensor operations."""
    for path in files:
        state = torch.load(path, weights_only=True)
        edges = torch.cat([value.T.flatten() for key, value in state.items() if key.endswith("weight")])
        nodes = torch.cat([value for key, value in state.items() if key.endswith("bias")])
        torch.save({"e": edges, "b": nodes}, folder / "converted.pt")
    return len(files)


def tensorstore_contenders(store: Path) -> dict[str, Run]:
    """Tensorstore on whole blocks, where it is installed."""
    try:
        tensorstore: Any = import_module("tensorstore")
    except ImportError:
        return {}
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store / "edges")}}
    edges = tensorstore.open(spec, open=True).result()
    per_shard = open_store(store).arrays["edges"].layout.shard // SIREN.num_edges
    rng = np.random.default_rng(0)

    def blocks() -> int:
        start = int(rng.integers(NUM_NETWORKS // per_shard)) * per_shard
        part = edges[start * SIREN.num_edges : (start + per_shard) * SIREN.num_edges].read().result()
        return len(part) // SIREN.num_edges

    return {"tensorstore, whole shards in random order": blocks}


def write_simulated(path: Path, count: int) -> None:
    """A zoo of networks with one weight and one bias; digests are made up, all else is as it must be."""
    slots = (
        ParameterSlot("weight", "edges", 0, (1, 1), timestamp=1),
        ParameterSlot("bias", "nodes", 0, (1,), role="bias", timestamp=1),
    )
    architecture = Architecture(1, (Timestamp("linear", 1, 1),), slots)
    info = ZooInfo(name="simulated", num_networks=count, segments=(Segment(architecture.signature, count),))
    path.mkdir()
    with StoreBuilder(path, info, {architecture.signature: architecture}, WriteOptions()) as builder:
        for start in range(0, count, 1_000_000):
            block = simulated_block(architecture, start, min(1_000_000, count - start))
            builder.append(block, np.zeros((len(block.table), 32), np.uint8))
        builder.finish()


def simulated_block(architecture: Architecture, start: int, count: int) -> PackedBlock:
    index = np.arange(start, start + count)
    table = pa.table(
        {
            "net_id": index,
            "source_index": index % 60_000,
            "label": index % 100,
            "split": pa.array(np.where(index % 10 == 0, "test", "train")).dictionary_encode(),
            "psnr": np.linspace(30, 40, count),
        }
    )
    empty = np.empty((count, 0), np.float32)
    values = np.zeros((count, 1), np.float32)
    rows = {"edges": values, "nodes": values, "extras": empty, "exact": empty.astype(np.uint8)}
    return PackedBlock(architecture, rows, table)  # type: ignore[arg-type]
