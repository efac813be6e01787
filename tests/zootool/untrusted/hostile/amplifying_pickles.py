"""Small pickles whose values are endless once they are written out, copied or gone through."""

import struct
from collections.abc import Iterator

from tests.zootool.untrusted.hostile.assembler import (
    call,
    group,
    integer,
    legacy,
    mapping,
    named,
    numbers,
    pickled,
    storage,
    text,
    torch_zip,
)  # fmt: skip
from tests.zootool.untrusted.hostile.case import Case
from zootool.errors import UntrustedError

MANY_BYTES = "makes more than 67108864 bytes of objects out of"
HOOKS = call(named("collections", "OrderedDict"))
FOUR = {"0": bytes(16)}


def amplifying_cases() -> Iterator[Case]:
    for name, (body, match) in {**quoted(), **copied()}.items():
        error = UntrustedError if "asks for" in match or "rebuilds" in match else Case.error
        pickle = pickled(body, 4)
        yield Case(f"{name} (zip)", torch_zip(pickle, FOUR), match, error)
        yield Case(f"{name} (legacy)", legacy(pickle, FOUR), match, error)


def put(place: int) -> bytes:
    return b"q" + bytes([place]) + b"0"


def get(place: int) -> bytes:
    return b"h" + bytes([place])


def doubled(levels: int) -> bytes:
    """A tuple of 2^levels numbers, both halves of which are the same tuple, and so on."""
    body = b"K\x01K\x01\x86"
    for place in range(10, 9 + levels):
        body += put(place) + get(place) + get(place) + b"\x86"
    return body


def quoted() -> dict[str, tuple[bytes, str]]:
    """Values that are refused for what they are, in an error that has to show them."""
    huge = b"X" + struct.pack("<I", 4_000_000) + b"a" * 4_000_000
    cases = {}
    for name, value in {"doubled": doubled(60), "deep": b")" + b"\x85" * 100_000, "4 MB": huge}.items():
        cases |= {f"{name}, as {place}": case for place, case in _in_every_place(value).items()}
    return cases


def _in_every_place(value: bytes) -> dict[str, tuple[bytes, str]]:
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    by_type = named("torch._tensor", "_rebuild_from_type_v2")
    kind = named("torch", "FloatStorage")
    array = call(named("numpy._core.multiarray", "_reconstruct"), named("numpy", "ndarray"), numbers((0,)), b"C\x01b")
    dtype = call(named("numpy", "dtype"), text("f8"), b"\x89", b"\x88")

    def storage_of(key: bytes = text("0"), place: bytes = text("cpu"), count: bytes = b"K\x04") -> bytes:
        return mapping(x=group(text("storage"), kind, key, place, count) + b"Q")

    def scalar_of(order: bytes) -> bytes:
        return call(named("numpy._core.multiarray", "scalar"), dtype + group(b"K\x03", order) + b"b", b"C\x08abcdefgh")

    return {
        "a shape": (call(rebuild, storage(4), b"K\x00", value, numbers((1,)), b"\x89", HOOKS), "has the shape"),
        "strides": (call(rebuild, storage(4), b"K\x00", numbers((1,)), value, b"\x89", HOOKS), "has the shape"),
        "a count": (storage_of(count=value), "holds a storage of"),
        "a key": (storage_of(key=value), "names a storage"),
        "a place": (storage_of(place=value), "holds a storage on|bare storage"),
        "a device": (call(named("torch", "device"), value), "holds a torch.device of"),
        "a size": (call(named("torch", "Size"), value), "holds a torch.Size of|nested|1 tuple"),
        "a numpy shape": (array + group(b"K\x01", value, dtype, b"\x89", b"C\x00") + b"b", "numpy array of the shape"),
        "a byte order": (scalar_of(value), "of the byte order"),
        "an encoding": (call(named("_codecs", "encode"), text("a"), value), "asks for _codecs.encode with"),
        "a class": (call(by_type, rebuild, value, group(), b"N"), "of the class"),
    }  # fmt: skip


def copied() -> dict[str, tuple[bytes, str]]:
    """Calls that would copy their arguments over and over."""
    pairs = b"](" + b"".join(text(f"{i:x}") + b"N\x86" for i in range(20_000)) + b"e"
    huge = b"X" + struct.pack("<I", 4_000_000) + b"a" * 4_000_000
    ordered, encode = named("collections", "OrderedDict"), named("_codecs", "encode")
    many = b"](" + b"".join(integer(i) for i in range(20_000)) + b"e"
    rebuild_by, tensor_class = named("torch._tensor", "_rebuild_from_type_v2"), named("torch", "Tensor")
    within = group(named("torch._utils", "_rebuild_tensor_v2"), tensor_class, group(), b"N")
    nested = within + b"".join(
        b"r" + struct.pack("<I", i) + b"0(" + get(1) + get(2) + b"j" + struct.pack("<I", i) + b"Nt"
        for i in range(300, 3300)
    )
    return {
        "OrderedDicts of one list": (repeated(ordered, pairs + b"\x85", 2000), MANY_BYTES),
        "OrderedDicts of one list, dropped": (repeated(ordered, pairs + b"\x85", 50_000, keep=False), MANY_BYTES),
        "bytes of one text": (repeated(encode, huge + text("latin1") + b"\x86", 3000), MANY_BYTES),
        "bytes of one text, dropped": (
            repeated(encode, huge + text("latin1") + b"\x86", 50_000, keep=False),
            MANY_BYTES,
        ),
        "sets of one list": (repeated(named("builtins", "set"), many + b"\x85", 3000), MANY_BYTES),
        "arguments of one tuple": (
            repeated(named("argparse", "Namespace"), b"(" + b"N" * 20_000 + b"t", 3000, keep=False),
            MANY_BYTES,
        ),
        "empty sets": (b"](" + b"\x8f" * 800_000 + b"e", MANY_BYTES),
        "one set in many places": (
            b"\x8f(" + b"".join(map(integer, range(20_000))) + b"\x90" + put(1) + b"](" + get(1) * 5000 + b"e",
            "more than 250000 objects",
        ),
        "a set of integers that share a hash": (
            call(named("builtins", "set"), b"](" + b"".join(integer(i * (2**61 - 1)) for i in range(1, 9)) + b"e"),
            "a int as a key",
        ),
        "rebuilds in each other": (
            rebuild_by + put(1) + tensor_class + put(2) + nested
            + b"r" + struct.pack("<I", 4000) + b"0" + get(1) + b"j" + struct.pack("<I", 4000) + b"R",
            "rebuilds a tensor by something else",
        ),
    }  # fmt: skip


def repeated(function: bytes, arguments: bytes, times: int, *, keep: bool = True) -> bytes:
    """A call made over and over with the same arguments, its results kept in a list or dropped."""
    made = (get(1) + get(2) + b"R") if keep else (get(1) + get(2) + b"R0")
    start = function + put(1) + arguments + put(2)
    return start + (b"](" + made * times + b"e" if keep else made * times + b"N")
