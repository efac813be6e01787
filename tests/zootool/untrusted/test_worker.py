"""Torch in its own process: only for what our reader can't read, within limits, and never with less care."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.zootool.untrusted.hostile.assembler import (
    call,
    group,
    integer,
    legacy,
    mapping,
    named,
    numbers,
    pickled,
    text,
    torch_zip,
)
from tests.zootool.untrusted.hostile.running_pickles import MKDIR, binary
from tests.zootool.untrusted.test_safe_load import assert_same, saved
from zootool.errors import FormatError
from zootool.untrusted import worker
from zootool.untrusted.byte_source import MemorySource
from zootool.untrusted.limits import LoadLimits
from zootool.untrusted.safe_load import load_checkpoint

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True, scope="module")
def stopped() -> Iterator[None]:
    yield
    worker.stop_workers()


def old_file_with_views() -> bytes:
    """What torch wrote before 0.4: storages that are parts of another."""

    def part(offset: int) -> bytes:
        identity = group(
            text("storage"), named("torch", "FloatStorage"), text("7"), text("cpu"), integer(4),
            group(text(f"view{offset}"), integer(offset), integer(2)),
        )  # fmt: skip
        hooks = call(named("collections", "OrderedDict"))
        rebuild = named("torch._utils", "_rebuild_tensor_v2")
        return call(rebuild, identity + b"Q", b"K\x00", numbers((2,)), numbers((1,)), b"\x89", hooks)

    values = torch.arange(4.0).numpy().tobytes()
    return legacy(pickled(mapping(a=part(0), b=part(2))), {"7": values})


def test_views_of_storages_in_the_oldest_files(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    path.write_bytes(old_file_with_views())
    loaded = load_checkpoint(path)
    assert loaded.form == "torch legacy"
    assert_same(loaded.value, torch.load(path, weights_only=True))
    assert loaded.value["b"].read().tolist() == [2, 3]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int8", "uint8", "bool"])
def test_values_come_back_bit_for_bit(dtype: str) -> None:
    raw = torch.arange(48, dtype=torch.uint8).remainder(2)
    value = {
        "model": {"w": raw.view(getattr(torch, dtype)), "t": torch.ones(2, 3).T},
        "counts": Counter(a=2), "list": [1, (2.5, None, "ä")], "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 2),
    }  # fmt: skip
    assert_same(load_checkpoint(saved(value)).value, {**value, "counts": {"a": 2}})


def test_one_process_serves_many_files() -> None:
    content = saved({"counts": Counter(), "x": torch.ones(2)})
    load_checkpoint(content)
    (process,) = [running._process.pid for running in worker._RUNNING.values()]
    for _ in range(5):
        load_checkpoint(content)
    assert [running._process.pid for running in worker._RUNNING.values()] == [process]


def test_nothing_is_run_there_either(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    counter = call(named("collections", "Counter"), b"}")
    for evil in (call(MKDIR, text(str(canary))), call(named("torch.storage", "_load_from_bytes"), binary(b"x"))):
        # Our reader stops at the Counter, so that torch is asked about the rest.
        with pytest.raises(FormatError, match="is refused by torch"):
            load_checkpoint(legacy(pickled(mapping(a=counter, b=evil))))
    assert not canary.exists()


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(2).to_sparse(),
        torch.zeros(2, dtype=torch.float4_e2m1fn_x2),
        torch.zeros(1).expand(10**9),
    ],
    ids=["sparse", "float4", "repeating"],
)
def test_tensors_that_are_refused_here_are_refused_there(value: Any) -> None:
    source = saved({"x": value})
    with pytest.raises(FormatError, match="is refused by torch: ValueError: a tensor"):
        worker.read_by_torch(MemorySource(source, "a file"), LoadLimits())


def test_a_process_that_dies_is_told_and_started_anew() -> None:
    limits = LoadLimits(max_worker_seconds=20)
    content = saved({"counts": Counter(), "x": torch.ones(2)})
    load_checkpoint(content, limits=limits)
    worker._RUNNING[os.getpid(), limits]._process.kill()
    worker._RUNNING[os.getpid(), limits]._process.wait()
    with pytest.raises(FormatError, match="took torch more than 20 s"):
        load_checkpoint(content, limits=limits)
    assert load_checkpoint(content, limits=limits).value["x"].read().tolist() == [1, 1]


def test_too_much_time_ends_it() -> None:
    limits = LoadLimits(max_worker_seconds=0.0)
    start = time.monotonic()
    with pytest.raises(FormatError, match="took torch more than 0 s"):
        load_checkpoint(saved({"counts": Counter(), "x": torch.ones(1_000_000)}), limits=limits)
    assert (os.getpid(), limits) not in worker._RUNNING
    assert time.monotonic() - start < 120


def test_too_much_memory_is_refused_there() -> None:
    greedy = torch_zip(pickled(b"](" + b"]" * 20_000_000 + b"e"))
    limits = LoadLimits(max_worker_bytes=64 << 20)
    with pytest.raises(FormatError, match=r"refused by torch: MemoryError|took torch more than"):
        worker.read_by_torch(MemorySource(greedy, "a file"), limits)


def test_a_large_file_is_not_sent() -> None:
    with pytest.raises(FormatError, match="too large"):
        worker.read_by_torch(MemorySource(bytes(2000), "a file"), LoadLimits(max_worker_bytes=1000))


def test_torch_is_not_imported_by_reading() -> None:
    code = (
        "import sys, zootool.untrusted.safe_load as s; s.load_checkpoint(sys.stdin.buffer.read());"
        "sys.exit('torch' in sys.modules or bool(s.read_by_torch.__globals__['_RUNNING']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    content = saved({"x": torch.ones(1)})
    assert subprocess.run([sys.executable, "-c", code], input=content, env=environment, check=False).returncode == 0
