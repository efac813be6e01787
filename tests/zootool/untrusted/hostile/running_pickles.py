"""Pickles that run code wherever they are trusted: by every opcode that leads to a call, and by many names.

Each makes a folder, the canary, when Python's own unpickler meets it; a test holds them to that.
"""

import marshal
import struct

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
    text,
    torch_zip,
)  # fmt: skip
from tests.zootool.untrusted.hostile.case import Case
from zootool.errors import UntrustedError

MKDIR = named("os", "mkdir")
N = b"N"
EXTENSION_CODES = {0x11: ("os", "mkdir"), 0x1111: ("posix", "mkdir"), 0x11111111: ("os", "makedirs")}
"""What run_trustingly.py registers, since a pickle can only name what the program that reads it has registered."""


def running_pickles(canary: str) -> dict[str, bytes]:
    """The body of each pickle by what it tries."""
    return {**by_opcode(canary), **by_name(canary), **inside_others(canary)}


def by_opcode(canary: str) -> dict[str, bytes]:
    path = text(canary)
    instance = named("argparse", "Namespace") + b")\x81"
    return {
        "GLOBAL and REDUCE": call(MKDIR, path),
        "STACK_GLOBAL": text("os") + text("mkdir") + b"\x93" + path + b"\x85R",
        "STACK_GLOBAL with a dotted name": text("shutil") + text("os.path.os.mkdir") + b"\x93" + path + b"\x85R",
        "STACK_GLOBAL with a name from the memo": text("mkdir")
        + b"q\x000"
        + text("os")
        + b"h\x00\x93"
        + path
        + b"\x85R",
        "INST": b"(" + path + b"ios\nmkdir\n",
        "OBJ": b"(" + MKDIR + path + b"o",
        "NEWOBJ": named("builtins", "bytes") + lazily(path, b"\x81") + b"\x85\x81",
        "NEWOBJ_EX": named("builtins", "bytes") + lazily(path, b"}\x92") + b"\x85}\x92",
        "BUILD by an own __setstate__": instance + entries(("__setstate__", MKDIR)) + b"b" + path + b"b",
        "EXT1": b"\x82" + struct.pack("<B", 0x11) + path + b"\x85R",
        "EXT2": b"\x83" + struct.pack("<H", 0x1111) + path + b"\x85R",
        "EXT4": b"\x84" + struct.pack("<i", 0x11111111) + path + b"\x85R",
        "a function kept in the memo": MKDIR + b"q\x050" + b"h\x05" + path + b"\x85R",
        "a call that is dropped again": call(MKDIR, path) + b"0N",
        "a call below a mark that is dropped": b"(" + call(MKDIR, path) + b"1N",
        "a call as a dict's key": b"}" + call(MKDIR, path) + b"Ns",
        "the memo far away": b"N" + b"r" + struct.pack("<I", 1 << 20) + b"0" + call(MKDIR, path),
        "a call inside an identity": group(text("storage"), call(MKDIR, path), text("0"), text("cpu"), b"K\x01") + b"Q",
    }


def lazily(path: bytes, make: bytes) -> bytes:
    """`map(os.mkdir, [path])`, which runs when something goes through it."""
    return named("builtins", "map") + MKDIR + b"]" + path + b"a\x86" + make


def by_name(canary: str) -> dict[str, bytes]:
    path = text(canary)
    code = f"__import__('os').mkdir({canary!r})"
    compiled = compile(code, "x", "exec")
    inner = pickled(call(MKDIR, path))
    importing_by = named("builtins", "__import__")
    importing = call(importing_by, text("os"))
    getting = named("builtins", "getattr")
    partial = call(named("functools", "partial"), MKDIR, path)
    return {
        "builtins.eval": call(named("builtins", "eval"), text(code)),
        "builtins.exec": call(named("builtins", "exec"), text(code)),
        "__builtin__.eval": call(named("__builtin__", "eval"), text(code)),
        "os.system": call(named("os", "system"), text(f"mkdir {canary}")),
        "posix.system": call(named("posix", "system"), text(f"mkdir {canary}")),
        "os.spawnlp": call(named("os", "spawnlp"), b"K\x00", text("mkdir"), text("mkdir"), path),
        "subprocess.call": call(named("subprocess", "call"), b"]" + text("mkdir") + b"a" + path + b"a"),
        "subprocess.check_output": call(named("subprocess", "check_output"), b"]" + text("mkdir") + b"a" + path + b"a"),
        "builtins.getattr": call(call(getting, importing, text("mkdir")), path),
        "importlib": call(call(getting, call(named("importlib", "import_module"), text("os")), text("mkdir")), path),
        "operator.attrgetter": call(call(call(named("operator", "attrgetter"), text("mkdir")), importing), path),
        "operator.methodcaller": call(call(named("operator", "methodcaller"), text("mkdir"), path), importing),
        "functools.partial": partial + b")R",
        "functools.reduce": call(named("functools", "reduce"), MKDIR, b"]" + path + b"aM\xff\x01a"),
        "builtins.map": call(named("builtins", "list"), call(named("builtins", "map"), MKDIR, b"]" + path + b"a")),
        "pathlib": call(named("pathlib", "Path.mkdir"), call(named("pathlib", "Path"), path)),
        "timeit": call(named("timeit", "timeit"), text(code), text("pass"), named("timeit", "default_timer"), b"K\x01"),
        "trace": call(named("trace", "Trace.run"), call(named("trace", "Trace"), b"K\x00", b"K\x00"), text(code)),
        "runpy": call(
            named("runpy", "_run_code"), call(named("builtins", "compile"), text(code), text("x"), text("exec")), b"}"
        ),
        "a code object": call(
            call(named("types", "FunctionType"), call(named("marshal", "loads"), binary(marshal.dumps(compiled))), b"}")
        ),
        "torch.storage._load_from_bytes": call(named("torch.storage", "_load_from_bytes"), binary(legacy(inner))),
        "torch.load": call(named("torch", "load"), stream(legacy(inner)), N, call(importing_by, text("pickle"))),
        "pickle.Unpickler": call(named("pickle", "Unpickler.load"), call(named("pickle", "Unpickler"), stream(inner))),
    }


def inside_others(canary: str) -> dict[str, bytes]:
    path = text(canary)
    inner = binary(pickled(call(MKDIR, path)))
    partial = call(named("functools", "partial"), MKDIR, path)
    array = call(
        named("numpy._core.multiarray", "_reconstruct"), named("numpy", "ndarray"), numbers((0,)), binary(b"b")
    )
    objects = call(named("numpy", "dtype"), text("O8"), b"\x89", b"\x88") + group(
        b"K\x03", text("|"), N, N, N, integer(-1), integer(-1), integer(63)
    ) + b"b"  # fmt: skip
    return {
        "pickle.loads": call(named("pickle", "loads"), inner),
        "_pickle.loads": call(named("_pickle", "loads"), inner),
        "a numpy array of objects": array
        + group(b"K\x01", numbers((1,)), objects, b"\x89", b"]" + call(MKDIR, path) + b"a")
        + b"b",
        "_rebuild_from_type_v2": call(
            named("torch._tensor", "_rebuild_from_type_v2"), MKDIR, named("torch", "Tensor"), group(path), b"}"
        ),
        "_rebuild_parameter": call(named("torch._utils", "_rebuild_parameter"), call(MKDIR, path), b"\x88", N),
        "OrderedDict": call(named("collections", "OrderedDict"), b"]]" + text("a") + b"a" + call(MKDIR, path) + b"aa"),
        "behind a fine state_dict": mapping(x=storage(4)) + b"0" + call(MKDIR, path),
        "copyreg": call(named("copyreg", "__newobj__"), named("builtins", "bytes"), lazily(path, b"\x81")),
        "a defaultdict's factory": call(
            named("collections", "defaultdict.__missing__"),
            call(named("collections", "defaultdict"), partial),
            text("a"),
        ),
        "torch.serialization, dotted": text("torch.serialization") + text("os.mkdir") + b"\x93" + path + b"\x85R",
    }


def stream(content: bytes) -> bytes:
    """An open file in memory."""
    return call(named("io", "BytesIO"), binary(content))


def binary(content: bytes) -> bytes:
    """Bytes."""
    return b"B" + struct.pack("<I", len(content)) + content


def whole(name: str, body: bytes) -> bytes:
    """The pickle of a body: Python 2's names count up to protocol 2, dotted ones from protocol 4 on."""
    return pickled(body, 2 if "__builtin__" in name else 4)


def running_cases(canary: str) -> list[Case]:
    """Each pickle as a zip file and as a legacy file; every one has to be refused as untrusted."""
    cases = []
    for name, body in running_pickles(canary).items():
        pickle = whole(name, body)
        for form, content in (("zip", torch_zip(pickle)), ("legacy", legacy(pickle))):
            cases.append(
                Case(f"{name} ({form})", content, r"asks for|opcode (INST|OBJ|EXT)", UntrustedError, pickled=pickle)
            )
        cases.append(Case(f"{name} (bare)", pickle, r"asks for|opcode (INST|OBJ|EXT)", UntrustedError, pickled=pickle))
    return cases
