"""Settings beside the weights: objects of any class become inert records, and what could run anything is refused."""

import argparse
import datetime
import enum
import functools
import pathlib
import types
from collections import deque, namedtuple
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from tests.zootool.untrusted.hostile.assembler import call, group, integer, mapping, named, pickled, text, torch_zip
from tests.zootool.untrusted.test_safe_load import assert_same, saved
from zootool.errors import FormatError, UntrustedError
from zootool.untrusted.file_stack import found_in
from zootool.untrusted.safe_load import load_checkpoint
from zootool.untrusted.unpickler import Stub

STATE = {"0.weight": torch.arange(6.0).reshape(2, 3), "0.bias": torch.zeros(2)}
CASES = Path(__file__).parents[2] / "cases"


class Kind(enum.Enum):
    RELU = "relu"
    SECOND = 2


class Flags(enum.IntFlag):
    ON = 1


class Settings(dict[str, Any]):
    """Stands for the dictionaries with attributes of many projects."""


class Listing(list[int]):
    pass


class Traps:
    """Runs something in every way in which an unpickled object can."""

    ran: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.lr = 0.1

    def __new__(cls, *_: Any) -> "Traps":
        cls.ran.append("__new__")
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.ran.append("__setstate__")

    def __getstate__(self) -> dict[str, Any]:
        return {"lr": 0.1}


Pair = namedtuple("Pair", "a b")

SETTINGS: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace(lr=0.1, out=pathlib.Path("runs/1"), act=nn.ReLU),
    "a path": pathlib.PurePosixPath("a/b"),
    "a Windows path": pathlib.PureWindowsPath("c:/a"),
    "SimpleNamespace": types.SimpleNamespace(a=1),
    "a member": Kind.RELU,
    "a member that is a number": Kind.SECOND,
    "a flag": Flags.ON,
    "members as keys": {Kind.RELU: 1, Kind.SECOND: 2},
    "a date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "a time": datetime.timedelta(1),
    "a device": torch.device("cuda:1"),
    "a dtype": torch.float16,
    "a layout": torch.strided,
    "a Size": torch.Size([1, 2]),
    "a version": torch.torch_version.TorchVersion("2.0"),
    "an activation class": nn.ReLU,
    "an activation": nn.GELU(),
    "a function": nn.functional.relu,
    "a function of torch's": nn.functional.gelu,
    "a partial": functools.partial(nn.functional.softmax, dim=1),
    "an optimizer's class": torch.optim.Adam,
    "a dict of another class": Settings(a=1),
    "a list of another class": Listing([1, 2]),
    "a tuple with names": Pair(1, 2),
    "a deque": deque([1]),
    "a complex number": 1j,
    "bytes that change": bytearray(b"a"),
    "numpy's numbers": [np.float32(1.5), np.int64(4), np.bool_(True), np.dtype("float32"), np.float64],
    "numpy's generator": np.random.RandomState(0),
    "an object with traps": Traps(),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", SETTINGS)
def test_no_settings_refuse_a_file(name: str, is_zip: bool, protocol: int) -> None:
    value = {"args": SETTINGS[name], "state_dict": STATE}
    content = saved(value, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    Traps.ran.clear()
    loaded = load_checkpoint(content)
    assert_same(found_in(loaded).tensors, STATE)
    assert Traps.ran == []


def test_what_settings_say_is_kept() -> None:
    found = load_checkpoint(saved({"args": SETTINGS["argparse.Namespace"], "cfg": Settings(a=1), "l": Listing([7])}))
    args = found.value["args"]
    assert isinstance(args, Stub)
    assert args.class_name == "argparse.Namespace"
    assert args.state["lr"] == 0.1
    assert args.state["out"].arguments == ("runs", "1")
    assert (args.state["act"].class_name, args.state["act"].arguments) == ("torch.nn.modules.activation.ReLU", None)
    assert found.value["cfg"].content == {"a": 1}
    assert found.value["l"].content == [7]


def test_the_file_with_a_namespace_is_read() -> None:
    loaded = load_checkpoint(CASES / "settings_objects" / "namespace_args" / "model_2.pth")
    assert [tensor.shape for tensor in found_in(loaded).tensors.values()] == [(8, 4), (8,), (3, 8), (3,)]


REFUSED = {
    "a program that is only named": named("os", "system"),
    "a program in a namespace": named("argparse", "Namespace") + b")\x81" + mapping(f=named("os", "popen")) + b"b",
    "eval that is only named": named("builtins", "eval"),
    "a loader": named("torch", "load"),
    "a loader of storages": named("torch.storage", "_load_from_bytes"),
    "numpy's loader": named("numpy", "load"),
    "another pickler": named("dill", "loads"),
    "another pickler's classes": named("joblib.numpy_pickle", "NumpyArrayWrapper"),
    "a method of a harmless class": named("pathlib", "Path.unlink"),
    "a program that another project imports": named("a.b", "os.system"),
    "a class in what another project imports": call(named("a.b", "jobs.Popen"), text("x")),
    "an attribute of a module": call(named("builtins", "getattr"), text("os"), text("system")),
    "an attribute of an attribute": call(
        named("builtins", "getattr"), call(named("builtins", "getattr"), named("a.b", "C"), text("d")), text("e")
    ),
    "a hidden attribute": call(named("builtins", "getattr"), named("a.b", "C"), text("__subclasses__")),
    "a function of another project": call(named("a.b", "run"), text("x")),
    "a class that is called with more": call(named("a.b", "Run"), text("x"), text("y")),
    "a class that is called with an object": call(named("a.b", "Run"), mapping(x=b"N")),
    "an object that is called": call(named("a.b", "C") + b")\x81", text("x")),
    "a partial that is called": call(call(named("functools", "partial"), named("a.b", "f")), text("x")),
    "an object of Python's, the old way": call(
        named("copyreg", "_reconstructor"), named("os", "_wrap_close"), named("builtins", "object"), b"N"
    ),
    "a name in letters that look alike": text("t\u043erch.nn") + text("ReLU") + b"\x93",
    "a name with a space": text("a b") + text("C") + b"\x93",
    "keywords": named("a.b", "C") + b")" + mapping(x=b"N") + b"\x92",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_run_anything_is_refused_even_where_it_is_only_named(name: str) -> None:
    with pytest.raises(UntrustedError):
        load_checkpoint(torch_zip(pickled(mapping(x=REFUSED[name]), 4)))


def test_tensors_are_of_listed_classes_alone() -> None:
    rebuild = call(
        named("torch._tensor", "_rebuild_from_type_v2"),
        named("torch._utils", "_rebuild_tensor_v2"), named("a.b", "TensorOfMine"), group(integer(1)), b"N",
    )  # fmt: skip
    with pytest.raises(FormatError, match=r"a tensor of the class a\.b\.TensorOfMine"):
        load_checkpoint(torch_zip(pickled(mapping(x=rebuild))))
