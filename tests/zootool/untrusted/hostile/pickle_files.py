"""Pickles that call nothing, but are broken, or want more memory, depth or time than anybody has."""

import struct
from collections.abc import Iterator

from tests.zootool.untrusted.hostile.assembler import (
    call,
    group,
    integer,
    legacy,
    mapping,
    named,
    pickled,
    text,
    torch_zip,
)  # fmt: skip
from tests.zootool.untrusted.hostile.case import Case
from zootool.errors import UntrustedError

MERSENNE = 2**61 - 1


def pickle_cases() -> Iterator[Case]:
    for name, (body, match) in {**greedy(), **broken()}.items():
        pickle = pickled(body, 4)
        yield Case(f"{name} (zip)", torch_zip(pickle), match)
        yield Case(f"{name} (legacy)", legacy(pickle), match)
    yield Case("a pickle without an end", torch_zip(b"\x80\x02}"), "no readable pickle")
    yield Case("two pickles in one", torch_zip(pickled(b"N") * 2), "more bytes behind it")
    yield Case("protocol 6", torch_zip(pickled(b"N", 6)), "protocol 6")
    yield Case("protocol 0", torch_zip(b"\x80\x00N."), "protocol 0")
    yield Case("a pickle of 20 MB", torch_zip(pickled(b"N0" * 10_000_000 + b"N")), "pickle of 20000")
    yield Case("an endless stream of opcodes", torch_zip(pickled(b"N0" * 600_000 + b"N")), "more than 1000000 opcodes")
    for name, (body, match) in forbidden().items():
        yield Case(f"{name} (zip)", torch_zip(pickled(body, 4)), match, UntrustedError)


def greedy() -> dict[str, tuple[bytes, str]]:
    laughs = b"]" + b"".join(
        b"q" + bytes([i]) + b"0](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(60)
    )
    return {
        "a million laughs": (laughs, "objects|nested"),
        "a million laughs, flat": (
            b"](" + b"N" * 1000 + b"eq\x000](" + b"h\x00" * 1000 + b"e",
            "more than 250000 objects",
        ),
        "100,000 lists in each other": (b"]" * 100_000 + b"a" * 99_999, "nested more than"),
        "100,000 tuples in each other": (b")" + b"\x85" * 100_000, "nested more than"),
        "100,000 dicts in each other": ((b"}" + text("a")) * 100_000 + b"N" + b"s" * 100_000, "nested more than"),
        "100,000 tuples as a key": (b"})" + b"\x85" * 100_000 + b"Ns", "a tuple as a key"),
        "900,000 empty lists": (b"](" + b"]" * 900_000 + b"e", "more than 250000 objects"),
        "900,000 references": (b"](N" + b"2" * 900_000 + b"e", "more than 250000 objects"),
        "900,000 marks": (b"(" * 900_000 + b"N", "no readable pickle|leaves objects"),
        "a list in itself": (b"]q\x00h\x00a", "nested more than"),
        "a dict in itself": (b"}q\x00" + text("a") + b"h\x00s", "nested more than"),
        "an integer of 4 MB": (
            b"\x8b" + struct.pack("<I", 4_000_000) + b"\x7f" * 4_000_000,
            "integer of 4000000 bytes",
        ),
        "integers that share a hash": (
            b"}(" + b"".join(integer(i * MERSENNE) + b"N" for i in range(1, 50_000)) + b"u",
            "a int as a key",
        ),
        "numbers that share a hash": (
            b"}(" + b"".join(b"G" + struct.pack(">d", 2.0**i) + b"N" for i in range(1000)) + b"u",
            "a float as a key",
        ),
        "text that is said to be 4 GB": (b"X\xff\xff\xff\xff" + b"a", "no readable pickle"),
        "text that is said to be 2^63 bytes": (b"\x8d" + struct.pack("<Q", 2**63) + b"a", "no readable pickle"),
        "a frame of 2^62 bytes": (b"\x95" + struct.pack("<Q", 2**62) + b"N", "no readable pickle"),
        "a name of 1 MB": (b"c" + b"a" * 1_000_000 + b"\n" + b"b\n", "no readable pickle"),
        "a memo index of 2^32": (b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xfeN", "no readable pickle"),
        "a numpy array that lies": (numpy_array(integer(1 << 40)), "numpy array of"),
        "a numpy scalar that lies": (
            call(
                named("numpy._core.multiarray", "scalar"),
                call(named("numpy", "dtype"), text("f8"), b"\x89", b"\x88"),
                b"C\x01a",
            ),
            "isn't of 8 bytes",
        ),
    }


def numpy_array(size: bytes) -> bytes:
    array = call(named("numpy._core.multiarray", "_reconstruct"), named("numpy", "ndarray"), group(b"K\x00"), b"C\x01b")
    kind = call(named("numpy", "dtype"), text("f8"), b"\x89", b"\x88")
    return array + group(b"K\x01", group(size), kind, b"\x89", b"C\x08abcdefgh") + b"b"


def broken() -> dict[str, tuple[bytes, str]]:
    unreadable = "no readable pickle"
    return {
        "a memo that isn't there": (b"h\x07", unreadable),
        "an empty stack": (b"0N0N", unreadable),
        "a mark that isn't there": (b"Nt", unreadable),
        "objects left behind": (b"NN", "leaves objects behind"),
        "an unknown opcode": (b"\xfe", "opcode 0xfe"),
        "an opcode of protocol 0": (b"I1\n", "opcode 0x49"),
        "a buffer from elsewhere": (b"\x97", "opcode 0x97"),
        "text that isn't UTF-8": (b"X\x02\x00\x00\x00\xff\xfe", unreadable),
        "a list as a key": (b"}]Ns", "a list as a key"),
        "a dict as a key": (b"}}Ns", "a dict as a key"),
        "a key given twice": (b"}(" + text("a") + b"N" + text("a") + b"Nu", "a key twice"),
        "a key without a value": (b"}(Nu", unreadable),
        "items for a number": (b"K\x01(" + text("a") + b"Nu", unreadable),
        "an argument of another kind": (call(named("collections", "OrderedDict"), integer(5)), unreadable),
        "a set of lists": (b"\x8f(]\x90", "a list as a key"),
        "a call without a tuple": (named("collections", "OrderedDict") + b"]R", unreadable),
        "a tuple of nothing": (b"\x86", unreadable),
    }


def forbidden() -> dict[str, tuple[bytes, str]]:
    """What would be harmless here, but is no business of a checkpoint."""
    return {
        "a call of a text": (text("os.mkdir") + b")R", "calls a str"),
        "a call of a dict": (b"})R", "calls a dict"),
        "a call of a class": (named("torch", "FloatStorage") + b")R", "calls torch.FloatStorage"),
        "a state for a number": (b"K\x01}b", "sets the state of a int"),
        "a state for a list": (b"]}b", "sets the state of a list"),
        "keywords": (named("collections", "OrderedDict") + b")" + mapping(a=b"N") + b"\x92", "by keywords"),
        "a name that is a number": (text("os") + b"K\x01\x93", "no text"),
        "rot13": (call(named("_codecs", "encode"), text("a"), text("rot13")), "_codecs.encode"),
        "an array of objects": (
            call(named("numpy._core.multiarray", "_reconstruct"), named("numpy", "ndarray"), group(b"K\x00"), b"C\x01b")
            + group(
                b"K\x01", group(b"K\x01"), call(named("numpy", "dtype"), text("O8"), b"\x89", b"\x88"), b"\x89", b"]Na"
            )
            + b"b",
            "isn't of plain numbers",
        ),
        "a class with escapes in its name": (named("os\x1b[2J", "x"), r"asks for os\\x1b\[2J.x"),
    }
