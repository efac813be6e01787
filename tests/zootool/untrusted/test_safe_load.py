"""Legitimate checkpoints: whatever torch.save writes comes back as torch.load has it, bit for bit."""

import enum
import io
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, MissingError
from zootool.untrusted.lazy_tensor import LazyTensor, LoadLimits
from zootool.untrusted.safe_load import load_checkpoint
from zootool.untrusted.unpickler import Stub
from zootool.untrusted.zip_files import ZipArchive

DTYPES = sorted(DTYPE_BYTES)
# What the library that writes safetensors doesn't know.
NOT_IN_SAFETENSORS = ("complex128", "float8_e8m0fnu")


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def trained() -> dict[str, Any]:
    """What a training script leaves behind."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(2, 1, 4, 4)).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": None}


def tied() -> dict[str, Tensor]:
    weight = torch.arange(6.0).reshape(2, 3)
    return {"a": weight, "b": weight, "row": weight[1], "transposed": weight.T}


def with_attribute() -> Tensor:
    tensor = torch.arange(3.0)
    tensor.note = "something"  # type: ignore[attr-defined]
    return tensor


BUILDERS: dict[str, Callable[[], Any]] = {
    "a state_dict": lambda: network().state_dict(),
    "a plain dict": lambda: dict(network().state_dict()),
    "an empty state_dict": lambda: OrderedDict(),
    "parameters": lambda: dict(network().named_parameters()),
    "a parameter with an attribute": lambda: {"a": nn.Parameter(with_attribute()), "b": with_attribute()},
    "training state": trained,
    "tied tensors": tied,
    "transposed": lambda: {"w": torch.arange(12.0).reshape(3, 4).T},
    "every second element": lambda: {"w": torch.arange(20.0)[3:15:2]},
    "permuted": lambda: {"w": torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1)},
    "a scalar": lambda: {"s": torch.tensor(2.5), "n": torch.tensor(7)},
    "empty tensors": lambda: {"e": torch.zeros(0), "f": torch.zeros(3, 0, 2), "t": torch.zeros(0, 4).T},
    "one of size one, expanded": lambda: {"x": torch.ones(1).expand(1, 1)},
    "NaN and infinities": lambda: {"x": torch.tensor([float("nan"), float("inf"), -0.0])},
    "a bare tensor": lambda: torch.arange(3),
    "a list of tensors": lambda: [torch.ones(2), (torch.zeros(1), None)],
    "nested plain values": lambda: {
        "config": {"lr": 1e-3, "layers": [1, 2, {"x": (3, "ä\n")}], "on": True, "none": None, "big": 2**62, "neg": -5},
        1: b"bytes", (1, "a"): {2, 3}, "size": torch.Size([2, 3]), "defaults": defaultdict(int, a=1),
    },
    "more than 256 names": lambda: {f"layer{i}.weight": torch.full((2,), float(i)) for i in range(400)},
}  # fmt: skip


def saved(value: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink, **options)
    return sink.getvalue()


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, Tensor):
        assert isinstance(found, LazyTensor)
        assert found.shape == tuple(wanted.shape)
        assert found.dtype == str(wanted.dtype).removeprefix("torch.")
        array = found.read()
        assert array.shape == found.shape
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert array.tobytes() == bits(wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for ours, theirs in zip(found, wanted, strict=True):
            assert_same(ours, theirs)
    else:
        assert found == wanted
        assert type(found) is type(wanted)


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", BUILDERS)
def test_what_torch_saves_is_read_as_torch_reads_it(name: str, is_zip: bool, protocol: int) -> None:
    content = saved(BUILDERS[name](), _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    # Nothing but torch.save's output of this very test is unpickled here.
    wanted = torch.load(io.BytesIO(content), weights_only=False)
    loaded = load_checkpoint(content)
    assert loaded.form == ("torch zip" if is_zip else "torch legacy")
    assert_same(loaded.value, wanted)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, is_zip: bool) -> None:
    raw = torch.arange(48, dtype=torch.uint8).remainder(2 if dtype == "bool" else 255)
    value = {"x": raw.view(getattr(torch, dtype)), "y": raw.view(getattr(torch, dtype))[1:].clone()}
    content = saved(value, _use_new_zipfile_serialization=is_zip)
    assert_same(load_checkpoint(content).value, value)
    if dtype not in NOT_IN_SAFETENSORS:
        assert_same(load_checkpoint(safetensors.torch.save(value)).value, value)


def test_bfloat16_comes_as_the_uint16_of_its_bytes() -> None:
    array = load_checkpoint(saved({"x": torch.tensor([1.0, -2.0], dtype=torch.bfloat16)})).value["x"].read()
    assert array.dtype == np.uint16
    assert array.tolist() == [0x3F80, 0xC000]


def test_a_tensor_is_described_before_it_is_read() -> None:
    tensor = load_checkpoint(saved({"w": torch.arange(12.0).reshape(3, 4).T[1:]})).value["w"]
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.strides, tensor.offset) == (
        "w",
        "float32",
        (3, 3),
        (1, 4),
        1,
    )
    assert (tensor.storage.key, tensor.storage.num_bytes, tensor.read().nbytes) == ("0", 48, 36)


def test_tied_tensors_are_reported() -> None:
    loaded = load_checkpoint(saved(tied()))
    tensors = {name: (t.storage, t.dtype, t.shape, t.strides, t.offset) for name, t in loaded.tensors.items()}
    assert tensors["b"] == tensors["a"]
    assert tensors["row"] != tensors["a"] != tensors["transposed"]
    assert loaded.tensors["row"].storage is loaded.tensors["a"].storage


def test_tensors_are_named_by_their_path() -> None:
    loaded = load_checkpoint(saved({"model": {"fc.weight": torch.ones(1)}, "more": [torch.zeros(1)]}))
    assert list(loaded.tensors) == ["model/fc.weight", "more/0"]


def test_two_tensors_at_one_path_are_refused() -> None:
    loaded = load_checkpoint(saved({"a": {"b": torch.ones(1)}, "a/b": torch.zeros(1)}))
    with pytest.raises(FormatError, match="two tensors at a/b"):
        _ = loaded.tensors


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, io.BytesIO])
def test_any_source_of_bytes_will_do(wrap: Callable[[bytes], Any]) -> None:
    assert load_checkpoint(wrap(saved({"x": torch.ones(2)}))).value["x"].read().tolist() == [1, 1]


@pytest.mark.parametrize("num_values", [10, 3_000_000], ids=["read at once", "read in parts"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", "", ".jpg"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, suffix: str, num_values: int) -> None:
    path = tmp_path / f"net{suffix}"
    value = {"x": torch.arange(num_values), "y": torch.ones(3)}
    for content in (saved(value), saved(value, _use_new_zipfile_serialization=False), safetensors.torch.save(value)):
        path.write_bytes(content)
        assert_same(load_checkpoint(path).value, value)


def test_an_open_file_and_an_open_member_will_do(tmp_path: Path) -> None:
    value = {"x": torch.arange(3_000_000)}
    (tmp_path / "net.pth").write_bytes(saved(value))
    with (tmp_path / "net.pth").open("rb") as file:
        loaded = load_checkpoint(file)
        assert loaded.shown == f"{tmp_path}/net.pth"
        assert_same(loaded.value, value)
    with (tmp_path / "net.pth").open("rb") as file, pytest.raises(FormatError, match="has 1001 bytes, at most 1000"):
        load_checkpoint(file, limits=LoadLimits(max_file_bytes=1000))
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(tmp_path / "net.pth", "a/net.pth")
    with zipfile.ZipFile(tmp_path / "outer.zip") as outer, outer.open("a/net.pth") as member:
        assert_same(load_checkpoint(member).value, value)


def test_a_member_of_a_zip_is_read_in_place(tmp_path: Path) -> None:
    value = {"x": torch.arange(2_500_000.0)}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "outer.zip", "w", method) as outer:
            outer.writestr("zoo/run/checkpoint.pt", saved(value))
        archive = ZipArchive(tmp_path / "outer.zip")
        loaded = load_checkpoint(archive.open("zoo/run/checkpoint.pt"))
        assert loaded.shown == f"{tmp_path}/outer.zip (zoo/run/checkpoint.pt)"
        assert_same(loaded.value, value)


def test_storages_of_a_gpu_are_read_without_one() -> None:
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        content = saved({"x": torch.arange(4.0)}, **options)
        assert b"X\x03\x00\x00\x00cpu" in content
        tagged = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
        if options:
            assert load_checkpoint(tagged).value["x"].read().tolist() == [0, 1, 2, 3]
    records = members(saved({"x": torch.arange(4.0)}))
    records["archive/data.pkl"] = records["archive/data.pkl"].replace(
        b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
    )
    assert load_checkpoint(zipped(records)).value["x"].read().tolist() == [0, 1, 2, 3]


def test_equal_architectures_keep_their_own_values() -> None:
    contents = [saved({"x": torch.full((3,), float(i)), "config": {"n": [1]}}) for i in range(5)]
    first = load_checkpoint(contents[0])
    first.value["config"]["n"].append("changed by its owner")
    for i, content in enumerate(contents):
        loaded = load_checkpoint(content)
        assert loaded.value["x"].read().tolist() == [i] * 3
        assert loaded.value["config"] == {"n": [1]}


def test_numpy_values_among_the_settings() -> None:
    value = {
        "acc": np.float64(0.5),
        "n": np.int64(3),
        "rng": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "f": np.asfortranarray(np.eye(2, 3)),
    }
    for protocol in (2, 4, 5):
        found = load_checkpoint(saved(value, pickle_protocol=protocol)).value
        assert found["acc"] == 0.5
        assert found["n"] == 3
        assert np.array_equal(found["rng"], value["rng"])
        assert np.array_equal(found["f"], value["f"])


class Config:
    """Stands for the settings' class of somebody's project, which isn't installed here."""

    def __init__(self, n_layers: int) -> None:
        self.n_layers = n_layers
        self.parent: object = self


def test_an_object_of_somebody_elses_class_becomes_a_stub() -> None:
    content = saved({"config": Config(3), "again": Config, "x": torch.ones(1)})
    loaded = load_checkpoint(content)
    stub = loaded.value["config"]
    assert isinstance(stub, Stub)
    assert stub.class_name == f"{Config.__module__}.Config"
    assert stub.state["n_layers"] == 3
    assert stub.state["parent"] is stub
    assert loaded.value["again"].arguments is None
    assert list(loaded.tensors) == ["x"]


class Activation(enum.Enum):
    RELU = "relu"


@dataclass
class Node:
    """Stands for OmegaConf's nodes, which know their parents and their types."""

    content: object
    parent: "Node | None" = None
    ref_type: object = Any


def test_settings_that_refer_to_each_other() -> None:
    root = Node({"activation": Activation.RELU, "path": PurePosixPath("a/b"), "options": Namespace(lr=0.1)})
    root.content["inner"] = Node([1, 2], parent=root)  # type: ignore[index]
    for protocol in (2, 4):
        loaded = load_checkpoint(saved({"config": root, "model": network().state_dict()}, pickle_protocol=protocol))
        config = loaded.value["config"]
        content = config.state["content"]
        assert content["inner"].state["parent"] is config
        assert content["inner"].state["content"] == [1, 2]
        assert (content["activation"].class_name, content["activation"].arguments) == (
            f"{__name__}.Activation",
            ("relu",),
        )
        assert content["path"].arguments == ("a", "b")
        assert content["options"].state == {"lr": 0.1}
        assert (config.state["ref_type"].class_name, config.state["ref_type"].arguments) == ("typing.Any", None)
        assert len(loaded.tensors) == len(network().state_dict())


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"net\.pth can't be read"):
        load_checkpoint(tmp_path / "net.pth")
    with pytest.raises(FormatError, match="no regular file"):
        load_checkpoint(tmp_path)


def test_limits_can_be_set() -> None:
    content = saved({f"x{i}": torch.ones(1) for i in range(20)})
    for limits in (
        LoadLimits(max_tensors=19),
        LoadLimits(max_opcodes=50),
        LoadLimits(max_objects=20),
        LoadLimits(max_depth=0),
    ):
        with pytest.raises(FormatError):
            load_checkpoint(content, limits=limits)


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(records: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return sink.getvalue()
