"""Torch files without code in them, whose tensors, storages and containers lie."""

import math
import struct
from collections.abc import Iterator

import numpy as np

from tests.zootool.untrusted.hostile.assembler import (
    call,
    entries,
    group,
    integer,
    legacy,
    mapping,
    named,
    numbers,
    pickled,
    storage,
    tensor,
    text,
    torch_zip,
)  # fmt: skip
from tests.zootool.untrusted.hostile.case import Case
from zootool.errors import IntegrityError, NumericalError, UntrustedError

FOUR = {"0": np.arange(4, dtype="<f4").tobytes()}
HUGE = 10**10
FINE = tensor((2, 2), (2, 1))


def of(value: bytes, content: dict[str, bytes] | None = None) -> bytes:
    """A zip file whose state_dict has the one tensor x."""
    return torch_zip(pickled(mapping(x=value)), FOUR if content is None else content)


def tensor_cases() -> Iterator[Case]:
    for name, value, match in layouts():
        yield Case(f"{name} (zip)", of(value), match)
        yield Case(f"{name} (legacy)", legacy(pickled(mapping(x=value)), FOUR), match)
    yield from kinds()
    yield from storages()
    yield from names()
    weights = pickled(entries(("0.weight", FINE)))
    for name, value in (("NaN", math.nan), ("infinity", -math.inf)):
        content = torch_zip(weights, {"0": np.full(4, value, "<f4").tobytes()})
        yield Case(name, content, "NaN or infinite", NumericalError, "convert")
    amplified = entries(*((f"x{i}", tensor((1 << 16,), (1,), 0, storage(1 << 16))) for i in range(300)))
    yield Case(
        "aliases of one large storage", torch_zip(pickled(amplified), {"0": bytes(1 << 18)}), "describes tensors of"
    )


def layouts() -> list[tuple[str, bytes, str]]:
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return [
        ("a stride-0 giant", tensor((HUGE,), (0,), 0, storage(4)), "it repeats them"),
        ("a stride-0 giant of many axes", tensor((2,) * 34, (0,) * 34), "at most 16"),
        ("a small tensor that repeats", tensor((4, 4), (0, 1)), "it repeats them"),
        ("a negative size", tensor((-2,), (1,)), "has the shape"),
        ("two negative sizes", tensor((-2, -2), (2, 1)), "has the shape"),
        ("a negative stride", tensor((2,), (-1,), 1), "strides"),
        ("a negative offset", tensor((2,), (1,), -1), "offset"),
        ("a size that overflows", tensor((2**63, 2), (2, 1)), "has the shape"),
        ("sizes whose product overflows", tensor((2**32, 2**32), (0, 0)), "no file can hold"),
        ("an empty tensor that overflows", tensor((0, 2**40, 2**40), (1, 1, 1)), "no file can hold"),
        ("a stride that overflows", tensor((2,), (2**62,)), "strides"),
        ("a stride beyond the storage", tensor((2, 2), (4, 1)), "ends at byte 24 of a storage of 16"),
        ("an offset beyond the storage", tensor((2,), (1,), 3), "ends at byte 20"),
        ("an empty tensor beyond the storage", tensor((0,), (1,), 5), "ends at byte 20"),
        ("more strides than sizes", tensor((2,), (1, 1)), "1 axes and 2 strides"),
        ("65 axes", tensor((1,) * 65, (1,) * 65), "65 axes"),
        (
            "sizes that are no integers",
            call(rebuild, storage(4), b"K\x00", group(b"\x88"), numbers((1,)), b"\x89", b"}"),
            "has the shape",
        ),
        (
            "sizes that are no tuple",
            call(rebuild, storage(4), b"K\x00", integer(4), integer(1), b"\x89", b"}"),
            "has the shape",
        ),
        (
            "a tensor without a storage",
            call(rebuild, text("0"), b"K\x00", numbers((1,)), numbers((1,)), b"\x89", b"}"),
            "without a storage",
        ),
        (
            "a parameter without a tensor",
            call(named("torch._utils", "_rebuild_parameter"), b"N", b"\x88", b"}"),
            "without a tensor",
        ),
        ("a storage by itself", storage(4), "bare storage"),
    ]


def kinds() -> Iterator[Case]:
    """Tensors that aren't dense arrays of real numbers."""
    utils = "torch._utils"

    def rebuilt(dtype: bytes) -> bytes:
        hooks = call(named("collections", "OrderedDict"))
        within = storage(16, kind="UntypedStorage", module="torch.storage")
        arguments = (within, b"K\x00", numbers((4,)), numbers((1,)), b"\x89", hooks, dtype)
        return call(named(utils, "_rebuild_tensor_v3"), *arguments)

    half_complex = storage(4, kind="ComplexHalfStorage")
    values: dict[str, tuple[bytes, str]] = {
        "complex": (tensor((4,), (1,), 0, half_complex), "complex numbers of 16 bits"),
        "quantized": (call(named(utils, "_rebuild_qtensor"), storage(4, kind="QInt8Storage"), b"K\x00"), "quantized"),
        "a quantized storage": (tensor((4,), (1,), 0, storage(16, kind="QInt8Storage")), "quantized"),
        "sparse": (call(named(utils, "_rebuild_sparse_tensor"), b"N", b"N"), "sparse"),
        "sparse rows": (call(named(utils, "_rebuild_sparse_csr_tensor"), b"N", b"N"), "sparse"),
        "meta": (
            call(named(utils, "_rebuild_meta_tensor_no_storage"), named("torch", "float32"), numbers((HUGE,))),
            "meta",
        ),
        "a storage on meta": (tensor((4,), (1,), 0, storage(4, place="meta")), "'meta', which has no bytes"),
        "nested": (call(named(utils, "_rebuild_nested_tensor"), b"N"), "nested"),
        "float4": (rebuilt(named("torch", "float4_e2m1fn_x2")), "the dtype torch.float4_e2m1fn_x2"),
        "a dtype that is a text": (rebuilt(text("float32")), "without a storage or a dtype"),
        "larger by its dtype than its storage": (rebuilt(named("torch", "uint64")), "of a storage of 16 bytes"),
        "an unknown storage": (tensor((4,), (1,), 0, storage(4, kind="ObjectStorage")), "asks for torch.ObjectStorage"),
        "a class as storage": (tensor((4,), (1,), 0, storage(4, kind="dict", module="builtins")), "no known type"),
    }
    for name, (value, match) in values.items():
        error = UntrustedError if "asks for" in match else Case.error
        yield Case(f"{name} tensor (zip)", of(value), match, error)
        yield Case(f"{name} tensor (legacy)", legacy(pickled(mapping(x=value)), FOUR), match, error)


def storages() -> Iterator[Case]:
    """Storages that aren't what the pickle says."""
    one = pickled(mapping(x=FINE))
    yield Case("a storage smaller than said", torch_zip(one, {"0": bytes(12)}), "has 12 bytes for storage 0")
    yield Case("a storage larger than said", torch_zip(one, {"0": bytes(20)}), "has 20 bytes for storage 0")
    yield Case("a storage that is missing", torch_zip(one, {"1": bytes(16)}), "lacks the storage 0")
    giant = tensor((1,), (1,), 0, storage(1 << 46))
    yield Case("a giant storage", of(giant), "has 16 bytes for storage 0, its pickle says")
    yield Case("a giant storage (legacy)", legacy(pickled(mapping(x=giant)), FOUR), "has 4 elements for storage 0")
    yield Case("a storage of -1 elements", of(tensor((1,), (1,), 0, storage(-1))), "a storage of -1 elements")
    yield Case("a storage's path", of(tensor((1,), (1,), 0, storage(4, key="../data.pkl"))), "names a storage")
    yield Case(
        "a storage that is said twice",
        torch_zip(pickled(mapping(x=FINE, y=tensor((4,), (1,), 0, storage(4, kind="IntStorage")))), FOUR),
        "says two things about storage 0",
    )
    identity = group(text("module"), named("torch", "FloatStorage"), text("0"), text("cpu"), b"K\x04") + b"Q"
    yield Case("an identity that is no storage", of(identity), "outside of it that is no storage", UntrustedError)
    yield Case("an identity that is text", of(text("storage") + b"Q"), "no storage", UntrustedError)
    yield Case("an identity in a line", of(b"Pstorage\n"), "opcode PERSID", UntrustedError)
    fine = legacy(one, FOUR)
    yield Case("bytes behind the last storage", fine + b"\0", "1 bytes behind")
    yield Case("a storage that is cut off (legacy)", fine[:-1], "cut off in storage 0")
    yield Case("a count that is cut off (legacy)", fine[:-20], "bytes, byte", IntegrityError)
    yield Case(
        "a count that lies (legacy)", fine[:-24] + struct.pack("<q", 1 << 60) + fine[-16:], "elements for storage 0"
    )
    yield Case("a negative count (legacy)", fine[:-24] + struct.pack("<q", -4) + fine[-16:], "has -4 elements")
    keys = pickled(b"](" + text("0") + text("0") + b"e")
    yield Case("a storage listed twice (legacy)", legacy(one, FOUR, keys=keys), "no list of its storages")
    yield Case("storages that aren't listed (legacy)", legacy(one, {"1": bytes(16)}), "lists 1 storages")


def names() -> Iterator[Case]:
    """Names of tensors that would do harm where they are shown or used as paths."""
    harmful = {
        "a path upwards": ("../../etc/x", "leads out"),
        "an absolute path": ("/etc/x", "absolute"),
        "an absolute path of Windows": ("C:\\x", "absolute"),
        "terminal escapes": ("\x1b]0;owned\x07\x1b[2J", r"x1b\]0;owned"),
        "a line break": ("x\r\nFINISHED", "control characters"),
        "text that runs backwards": ("x\u202egnp.exe", "control characters"),
        "a zero byte": ("x\0y", "control characters"),
        "10,000 characters": ("x" * 10_000, "more than 256 characters"),
    }
    for shown, (name, match) in harmful.items():
        yield Case(f"a tensor's name: {shown}", torch_zip(pickled(entries((name, FINE))), FOUR), match)
        inside = mapping(model=entries((name, FINE)))
        if "absolute" not in match:
            yield Case(f"a tensor's name, further in: {shown}", legacy(pickled(inside), FOUR), match)
