"""What few files have: views of storages, a Counter among the settings, tensors of devices that save no storages."""

import os
import subprocess
import sys
from collections import Counter
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
    pickled,
    tensor,
    text,
    torch_zip,
)
from tests.zootool.untrusted.hostile.running_pickles import MKDIR, binary
from tests.zootool.untrusted.test_safe_load import assert_same, saved
from zootool.errors import FormatError, UntrustedError
from zootool.untrusted.safe_load import load_checkpoint

ROOT = Path(__file__).parents[3]


def view(start: int, count: int, key: str = "7", kind: str = "FloatStorage") -> bytes:
    """A storage that is a part of another of 4 elements."""
    part = group(text(f"view{start}"), integer(start), integer(count))
    return group(text("storage"), named("torch", kind), text(key), text("cpu"), integer(4), part) + b"Q"


def old_file_with_views() -> bytes:
    """What torch wrote before 0.4: storages that are parts of another."""
    values = torch.arange(4.0).numpy().tobytes()
    parts = mapping(a=tensor((2,), (1,), 0, view(0, 2)), b=tensor((2,), (1,), 0, view(2, 2)))
    return legacy(pickled(parts), {"7": values})


def test_views_of_storages_in_the_oldest_files(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    path.write_bytes(old_file_with_views())
    loaded = load_checkpoint(path)
    assert loaded.form == "torch legacy"
    assert_same(loaded.value, torch.load(path, weights_only=True))
    assert loaded.value["b"].read().tolist() == [2, 3]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (tensor((3,), (1,), 0, view(1, 2)), "ends at byte 12 of a storage of 8 bytes"),
        (tensor((1,), (1,), 2, view(1, 2)), "ends at byte 12 of a storage of 8 bytes"),
        (tensor((1,), (1,), 0, view(3, 2)), "a view of a storage of 4 elements that ends at 5"),
        (tensor((1,), (1,), 0, view(-1, 2)), "a view of a storage of 4 elements"),
        (tensor((1,), (1,), 0, view(2, -1)), "a view of a storage of 4 elements"),
        (tensor((1,), (1,), 0, view(0, 2**80)), "a view of a storage of 4 elements"),
    ],
)
def test_views_that_lie_are_refused(value: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        load_checkpoint(legacy(pickled(mapping(x=value)), {"7": bytes(16)}))


@pytest.mark.parametrize("part", [text("all"), group(text("v"), integer(0)), group(text("v"), integer(0), text("2"))])
def test_views_that_are_not_described_are_refused(part: bytes) -> None:
    identity = group(text("storage"), named("torch", "FloatStorage"), text("7"), text("cpu"), integer(4), part) + b"Q"
    with pytest.raises(FormatError, match="a view of a storage that it doesn't describe"):
        load_checkpoint(legacy(pickled(mapping(x=tensor((1,), (1,), 0, identity))), {"7": bytes(16)}))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int8", "uint8", "bool"])
def test_values_come_back_bit_for_bit(dtype: str) -> None:
    raw = torch.arange(48, dtype=torch.uint8).remainder(2)
    value = {
        "model": {"w": raw.view(getattr(torch, dtype)), "t": torch.ones(2, 3).T},
        "counts": Counter(a=2), "list": [1, (2.5, None, "ä")], "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 2),
    }  # fmt: skip
    assert_same(load_checkpoint(saved(value)).value, {**value, "counts": {"a": 2}})


def test_a_scheduler_with_milestones_is_read() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    state = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60]).state_dict()
    found = load_checkpoint(saved({"model": {"w": torch.ones(2)}, "scheduler": state})).value
    assert found["scheduler"]["milestones"] == {30: 1, 60: 1}


def test_tensors_of_devices_that_save_no_storages() -> None:
    rebuild = named("torch._utils", "_rebuild_device_tensor_from_cpu_tensor")
    values = {"0": torch.arange(4.0).numpy().tobytes()}

    def moved(dtype: str) -> bytes:
        return call(rebuild, tensor((2, 2), (2, 1)), named("torch", dtype), text("xla:0"), b"\x89")

    assert load_checkpoint(torch_zip(pickled(mapping(x=moved("float32"))), values)).value["x"].read().sum() == 6
    with pytest.raises(FormatError, match=r"of float32 that is to become torch\.bfloat16"):
        load_checkpoint(torch_zip(pickled(mapping(x=moved("bfloat16"))), values))


def test_nothing_is_run_beside_a_counter(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    counter = call(named("collections", "Counter"), b"}")
    for evil in (call(MKDIR, text(str(canary))), call(named("torch.storage", "_load_from_bytes"), binary(b"x"))):
        with pytest.raises(UntrustedError, match="asks for"):
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
def test_tensors_that_are_not_dense_are_refused(value: Any) -> None:
    with pytest.raises(FormatError, match=r"holds a (sparse tensor|tensor of the dtype|tensor that has)"):
        load_checkpoint(saved({"counts": Counter(), "x": value}))


def test_torch_is_not_imported_by_reading() -> None:
    code = (
        "import sys, zootool.untrusted.safe_load as s; s.load_checkpoint(sys.stdin.buffer.read());"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    content = saved({"x": torch.ones(1)})
    assert subprocess.run([sys.executable, "-c", code], input=content, env=environment, check=False).returncode == 0
