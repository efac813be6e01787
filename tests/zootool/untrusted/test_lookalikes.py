"""What kind of file it is, its structure says; what is no checkpoint is named with the way out."""

import gzip
import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.zootool.untrusted.hostile.assembler import (
    Entry,
    entries,
    pickled,
    storage,
    tensor,
    torch_members,
    torch_zip,
    zip_file,
)
from tests.zootool.untrusted.test_safe_load import assert_same
from zootool.errors import FormatError, MissingError
from zootool.nets.infer import infer_architecture
from zootool.untrusted import byte_source
from zootool.untrusted.file_stack import stack_networks
from zootool.untrusted.safe_load import load_checkpoint

HEADERS = Path(__file__).parents[2] / "cases" / "safetensors_header_0x80"
FOUR = {"0": bytes(16)}
FINE = pickled(entries(("0.weight", tensor((2, 2), (2, 1)))))


def safetensors_with(header_bytes: int, value: torch.Tensor) -> bytes:
    """A file whose header has exactly that many bytes."""
    entry = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [0, value.numel() * 4]}
    header = json.dumps({"0.weight": entry}, separators=(",", ":")).encode()
    return struct.pack("<Q", header_bytes) + header.ljust(header_bytes) + value.numpy().tobytes()


@pytest.mark.parametrize("header_bytes", [128, 384, 640, 32896, *range(256, 512), 0x4B50, 0x8B1F, 0x5A42])
def test_the_length_of_a_header_is_no_sign_of_another_format(header_bytes: int) -> None:
    value = torch.arange(20_000.0).reshape(100, 200)
    loaded = load_checkpoint(safetensors_with(header_bytes, value))
    assert loaded.form == "safetensors"
    assert_same(loaded.value, {"0.weight": value})


@pytest.mark.parametrize("path", sorted(HEADERS.rglob("*.safetensors")), ids=lambda path: path.name)
def test_files_whose_header_begins_like_a_pickle_are_read(path: Path) -> None:
    assert path.read_bytes()[:1] == b"\x80"
    wanted = safetensors.torch.load_file(path)
    found = load_checkpoint(path).value
    assert_same({name: found[name] for name in wanted}, wanted)
    assert len(found) == len(wanted)


def npz() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, a=np.ones(3))
    return sink.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    return zip_file([Entry(name, content)])


OTHERS = {
    "nothing": (b"", "is empty", "get the file again"),
    "zeros": (bytes(1000), "begins with zeros", "get the file again"),
    "a page": (b"\n <!DOCTYPE html><html>", "a web page", "what a server answered"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
    "gzip": (gzip.compress(torch_zip(FINE, FOUR)), "gzip-compressed", "unpack it"),
    "arrays": (npz(), "numpy arrays", "torch.save"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5", "as safetensors from the program"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(64), "GGUF", "as safetensors from the program"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x051.13" + bytes(64), "ONNX", "as safetensors from the program"),
    "TensorFlow": (b"\x08\x01\x12\x04" + bytes(64), "TensorFlow", "as safetensors from the program"),
    "Flax": (b"\x82\xa4step\x05\xa6params\x81\xa1w\x90" + bytes(40), "msgpack", "as safetensors from the program"),
    "safetensors cut off": (struct.pack("<Q", 5000) + b'{"a":{"dtype"', "a header of 5000 bytes", "cut off"),
    "TorchScript": (
        zip_file([*torch_members(FINE, FOUR), Entry("a/constants.pkl", pickled(b")"))]),
        "TorchScript",
        "torch.jit.load('a buffer of",
    ),
    "an exported program": (zipped("m/archive_format", b"pt2"), "torch.export", "torch.export.load"),
    "a zip of a checkpoint": (zipped("m/a.pth", torch_zip(FINE, FOUR)), "without data.pkl", "give the checkpoint"),
    "zips behind one another": (torch_zip(FINE, FOUR) * 2, "ends at byte", "dcp_to_torch"),
    "a pickle of arrays": (pickled(b"}"), "torch didn't write", "torch.save"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_checkpoint_is_named_with_the_way_out(name: str) -> None:
    content, what, hint = OTHERS[name]
    with pytest.raises(FormatError, match=what) as caught:
        load_checkpoint(content)
    assert hint in str(caught.value.hint)


def sparse_file(path: Path, header: bytes, num_bytes: int) -> Path:
    """A file that claims `num_bytes` more than were ever written."""
    path.write_bytes(header)
    os.truncate(path, len(header) + num_bytes)
    return path


def test_what_is_larger_than_the_free_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 60 << 30
    side = size // 4 // 1024
    entry = {"dtype": "F32", "shape": [1024, side], "data_offsets": [0, size]}
    header = json.dumps({"0.weight": entry}).encode()
    path = sparse_file(tmp_path / "a.safetensors", struct.pack("<Q", len(header)) + header, size)
    monkeypatch.setattr(byte_source, "_free_bytes", lambda: 8 << 30)
    loaded = load_checkpoint(path)
    with pytest.raises(MissingError, match=r"a.safetensors needs 64.4 GB of memory at once, 8.6 GB are free"):
        [tensor.read() for tensor in loaded.tensors.values()]
    architecture = infer_architecture({"0.weight": ((1024, side), "float32")}, "a").architecture
    with pytest.raises(MissingError, match=r"needs 128.8 GB of memory"):
        stack_networks(architecture, [path])


def test_the_free_memory_is_known_here() -> None:
    free = byte_source._free_bytes()
    assert free is None or 0 < free < 1 << 50


def test_a_storage_that_is_shared_by_many_is_counted_each_time() -> None:
    body = entries(*((f"{i}.weight", tensor((1 << 14,), (1,), 0, storage(1 << 14))) for i in range(300)))
    with pytest.raises(FormatError, match="describes tensors of"):
        load_checkpoint(torch_zip(pickled(body), {"0": bytes(1 << 16)}))
