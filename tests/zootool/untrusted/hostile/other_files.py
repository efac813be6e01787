"""Hostile safetensors, arrays, tables and settings, and files that aren't what their names say."""

import gzip
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.zootool.untrusted.hostile.archive_files import tar_of
from tests.zootool.untrusted.hostile.assembler import Entry, pickled, zip_file
from tests.zootool.untrusted.hostile.case import Case
from tests.zootool.untrusted.hostile.running_pickles import by_opcode
from zootool.errors import UntrustedError

PICKLE_BY_NAME = "GLOBAL and REDUCE"


def other_cases(canary: str) -> Iterator[Case]:
    yield from safetensors_cases()
    yield from wrong_names()
    yield from npy_cases(canary)
    yield from literal_cases(canary)
    yield from json_cases()
    yield from yaml_cases(canary)


def safetensors(header: Any, data: bytes = bytes(16)) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def entry(shape: list[Any], start: Any, stop: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def safetensors_cases() -> Iterator[Case]:
    whole = entry([4], 0, 16)
    contents: dict[str, tuple[bytes, str]] = {
        "a header of 2^60 bytes": (struct.pack("<Q", 2**60) + b"{}", "in no format|claims a header"),
        "a header longer than the file": (struct.pack("<Q", 100) + b'{"a":1}', "in no format|claims a header"),
        "a header of 8 MB": (safetensors(b"{" + b" " * (8 << 20) + b"}"), "claims a header of"),
        "a header of lists": (safetensors(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}"), "of the dtype|header"),
        "a deep header": (safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "no readable safetensors"),
        "an overlap": (safetensors({"a": whole, "b": entry([2], 8, 16)}), "overlap"),
        "the same bytes twice": (safetensors({"a": whole, "b": whole}), "overlap"),
        "a hole": (safetensors({"a": entry([1], 0, 4), "b": entry([1], 12, 16)}), "leave holes"),
        "bytes of no tensor": (safetensors({"a": whole}, bytes(20)), "belong to no tensor"),
        "a key twice": (
            safetensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"I32","shape":[4],"data_offsets":[0,16]}}'),
            "twice"),
        "a path as name": (safetensors({"../../etc/x": whole}), "leads out"),
        "escapes as name": (safetensors({"\x1b[2J": whole}), r"\\x1b\[2J"),
        "a name of 100,000 characters": (safetensors({"x" * 100_000: whole}), "more than 256 characters"),
        "an offset of -1": (safetensors({"a": entry([4], -1, 15)}), "without offsets"),
        "offsets the wrong way": (safetensors({"a": entry([4], 16, 0)}), "don't hold"),
        "offsets beyond the file": (safetensors({"a": entry([8], 0, 32)}), "don't hold"),
        "three offsets": (safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8, 16]}}), "3 offsets"),
        "a shape that lies": (safetensors({"a": entry([2**31, 2**31], 0, 16)}), "don't hold"),
        "a shape that overflows to 0": (safetensors({"a": entry([2**40, 2**40, 0], 0, 0)}, b""), "no file can hold"),
        "a shape of halves": (safetensors({"a": entry([4.0], 0, 16)}), "without a shape"),
        "a shape of truths": (safetensors({"a": entry([True, 4], 0, 16)}), "without a shape"),
        "a shape of a million axes": (safetensors({"a": entry([1] * 1_000_000, 0, 4)}, bytes(4)), "without a shape"),
        "an unknown dtype": (safetensors({"a": entry([4], 0, 16, "F4")}), "dtype F4"),
        "a dtype that is a list": (safetensors({"a": {"dtype": [], "shape": [4], "data_offsets": [0, 16]}}), "dtype"),
        "a header that isn't UTF-8": (safetensors(b'{"\xff":1}'), "no readable safetensors"),
        "a header cut off": (safetensors(b'{"a":'), "no readable safetensors"),
        "a number of 10,000 digits": (safetensors(b'{"a":' + b"9" * 10_000 + b"}"), "dtype|no readable"),
    }  # fmt: skip
    for name, (content, match) in contents.items():
        yield Case(f"safetensors: {name}", content, match, file_name="net.safetensors")


def wrong_names() -> Iterator[Case]:
    contents = {
        "an empty file": (b"", "in no format"),
        "one byte": (b"\x80", "no readable pickle"),
        "text": (b"weights = 1\n", "in no format"),
        "a script": (b"#!/bin/sh\nrm -rf /\n", "in no format"),
        "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a picture"),
        "gzip": (gzip.compress(bytes(100)), "gzip-compressed"),
        "a gzip bomb": (gzip.compress(bytes(50_000_000)), "gzip-compressed"),
        "a tar archive": (tar_of(("a", b"x")), "a tar archive"),
        "an empty zip": (zip_file([]), "an empty zip"),
        "an array": (npy(np.zeros(3)), "a numpy array"),
        "HDF5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        "a page that asks to log in": (b"<!DOCTYPE html><html>", "a web page"),
        "JSON": (b'{"a": 1}', "JSON|in no format"),
        "a zip behind a program": (b"MZ" + bytes(62) + zip_file([Entry("a/data.pkl", pickled(b"N"))]), "in no format"),
        "a pickle of nothing": (pickled(b"N"), "torch didn't write"),
        "an old pickle": (b"(dp0\n.", "in no format"),
    }
    for name, (content, match) in contents.items():
        yield Case(f"not a checkpoint: {name}", content, match)
        yield Case(f"not safetensors: {name}", content, match, file_name="net.safetensors")


def npy(array: np.ndarray, pickles: bool = False) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=pickles)
    return sink.getvalue()


def npy_with(header: bytes, data: bytes = bytes(32), version: bytes = b"\1\0") -> bytes:
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header + data


def npy_header(descr: str = "'<f8'", shape: str = "(4,)", order: str = "False") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


def npy_cases(canary: str) -> Iterator[Case]:
    evil = pickled(by_opcode(canary)[PICKLE_BY_NAME])
    yield Case(
        "npy: objects", npy_with(npy_header("'|O'"), evil), "Python objects", UntrustedError, "npy", "w.npy", evil
    )
    yield Case(
        "npy: fields of objects",
        npy_with(npy_header("[('a', '|O')]"), evil),
        "Python objects",
        UntrustedError,
        "npy",
        "w.npy",
        evil,
    )
    headers = {
        "a shape that lies": (npy_header(shape="(40,)"), "has 32 bytes of values"),
        "a giant shape": (npy_header(shape="(1000000000000, 1000000)"), "has the shape|bytes of values"),
        "an overflowing empty shape": (npy_header(shape="(0, 99999999999999, 99999999999999)"), "has 32 bytes|shape"),
        "a negative shape": (npy_header(shape="(-4,)"), "has the shape"),
        "a shape of text": (npy_header(shape="('4',)"), "no readable .npy"),
        "a shape of truths": (npy_header(shape="(True, 4)"), "has the shape|no readable"),
        "big-endian numbers": (npy_header("'>f8'"), "little-endian"),
        "text": (npy_header("'<U2'"), "little-endian numbers"),
        "fields": (npy_header("[('a', '<f4'), ('b', '<f4')]"), "little-endian numbers"),
        "dates": (npy_header("'<M8[s]'"), "little-endian numbers"),
        "complex numbers": (npy_header("'<c16'", "(2,)"), "little-endian numbers"),
        "a call in the header": (npy_header(shape=f"__import__('os').mkdir({canary!r})"), "no readable .npy"),
        "a deep header": (npy_header(shape="(" * 3000 + ")" * 3000), "no readable .npy"),
        "a deep header of signs": (npy_header(shape="-" * 8000 + "1"), "no readable .npy"),
        "a header of 60 kB": (npy_header() + b" " * 60_000, "no readable .npy"),
        "no header": (b"", "no readable .npy"),
    }  # fmt: skip
    for name, (header, match) in headers.items():
        yield Case(f"npy: {name}", npy_with(header), match, reader="npy", file_name="w.npy")
    yield Case(
        "npy: a header of 4 GB", b"\x93NUMPY\2\0\xff\xff\xff\xff", "no readable", reader="npy", file_name="w.npy"
    )
    yield Case(
        "npy: version 9",
        npy_with(npy_header(), version=b"\x09\0"),
        "no readable|version",
        reader="npy",
        file_name="w.npy",
    )
    yield Case("npy: a zip", zip_file([Entry("a.npy", b"")]), "no readable", reader="npy", file_name="w.npz")


def literal_cases(canary: str) -> Iterator[Case]:
    cells = {
        "a formula": (b"=cmd|'/C calc'!A0", "no plain value"),
        "a hyperlink formula": (b'=HYPERLINK("http://x.invalid","(3,3)")', "no plain value"),
        "a call": (f"__import__('os').mkdir({canary!r})".encode(), "no plain value"),
        "a power": (b"9**9**9**9", "no plain value"),
        "a repetition": (b"'a'*10**9", "no plain value"),
        "an attribute": (b"().__class__.__base__", "no plain value"),
        "a lambda": (b"(lambda: 1)()", "no plain value"),
        "terminal escapes": (b"\x1b]0;owned\x07", r"\\x1b"),
        "deep brackets": (b"[" * 5000 + b"]" * 5000, "nested more than"),
        "deep signs": (b"-" * 9000 + b"1", "no plain value"),
        "deep nots": (b"not " * 2000 + b"1", "no plain value"),
        "a long sum": (b"1+" * 4000 + b"1", "no plain value"),
        "a long cell": (b"(" + b"1," * 50_000 + b")", "at most 10000"),
        "a list as a key": (b"{[]: 1}", "no plain value"),
        "a number of 9,000 digits": (b"9" * 9000, "no plain value"),
        "a zero byte": (b"(1,\x00)", "no plain value"),
        "nothing": (b"", "no plain value"),
    }
    for name, (content, match) in cells.items():
        yield Case(f"cell: {name}", content, match, reader="literal", file_name="cell.csv")


def json_cases() -> Iterator[Case]:
    texts = {
        "deep lists": (b"[" * 100_000 + b"]" * 100_000, "no readable JSON"),
        "lists, 70 deep": (b"[" * 70 + b"]" * 70, "nested more than 64"),
        "dicts, 500 deep": (b'{"a":' * 500 + b"1" + b"}" * 500, "nested more than 64"),
        "a million lists": (b"[" + b"[]," * 1_000_000 + b"[]]", "too many values"),
        "cut off": (b'{"a": [1, 2', "no readable JSON"),
        "escapes": (b"\x1b[2J", "no readable JSON"),
        "not UTF-8": (b'"\xff"', "no readable JSON"),
        "a number of 10,000 digits": (b"9" * 10_000, "no readable JSON"),
    }
    for name, (content, match) in texts.items():
        yield Case(f"JSON: {name}", content, match, reader="json", file_name="results.json")
        yield Case(
            f"JSON lines: {name}",
            b'{"epoch": 1}\n' + content,
            match + "|at most",
            reader="json lines",
            file_name="r.json",
        )
    yield Case("JSON lines: no line's end", b" " * 3_000_000, "at most", reader="json lines", file_name="r.json")


def yaml_cases(canary: str) -> Iterator[Case]:
    laughs = b"a0: &a0 [x, x]\n" + b"".join(
        b"a%d: &a%d [*a%d, *a%d, *a%d]\n" % (i, i, i - 1, i - 1, i - 1) for i in range(1, 40)
    )
    merges = b"a0: &a0 {k: 1}\n" + b"".join(
        b"a%d: &a%d {<<: [*a%d, *a%d], k%d: 1}\n" % (i, i, i - 1, i - 1, i) for i in range(1, 40)
    )
    tagged = {
        "a call": f"!!python/object/apply:os.mkdir [{canary!r}]\n".encode(),
        "an object": b"a: !!python/object/new:argparse.Namespace {}\n",
        "a name": b"a: !!python/name:os.system\n",
        "a module": b"a: !!python/module:os\n",
        "an unknown tag": b"a: !mine {}\n",
        "a tag with escapes": b'a: !<x%1B[2J> "b"\n',
    }
    for name, content in tagged.items():
        yield Case(
            f"YAML: {name}",
            content,
            "has the tag|not readable YAML",
            UntrustedError,
            "yaml",
            "arch.yaml",
        )
    others = {
        "a million laughs": (laughs, "expands to more than"),
        "merges upon merges": (merges, "expands to more than"),
        "a value in itself": (b"&a [*a]\n", "holds itself"),
        "deep lists": (b"[" * 20_000 + b"]" * 20_000, "not readable YAML|nested"),
        "deep blocks": (b"- " * 5_000 + b"1\n", "not readable YAML|nested"),
        "lists, 100 deep": (b"[" * 100 + b"]" * 100, "nested more than 64"),
        "a file of 1 MB": (b"a: 1\n" * 200_000, "at most 65536"),
        "a key twice": (b"a: 1\na: 2\n", "given twice"),
        "not UTF-8": (b"a: \xff\n", "not readable YAML"),
        "escapes": (b"a: \x1b[2J\n", "not readable YAML"),
        "30,000 values": (b"[" + b"1," * 30_000 + b"]", "expands to more"),
    }
    for name, (content, match) in others.items():
        yield Case(f"YAML: {name}", content, match, reader="yaml", file_name="arch.yaml")
