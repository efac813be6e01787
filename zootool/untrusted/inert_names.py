"""Which classes and functions the settings in a checkpoint may name. Each becomes an inert stub: nothing is looked up.

Of Python's own modules, torch and numpy a short list is known to be harmless; whatever else those have is refused,
since among it is what runs programs. Classes of other projects may be named and made, which leaves a record of what
the pickle says about them. Their functions may not be called.
"""

import re
import sys
from typing import Any

from zootool.untrusted.pickle_names import Name

_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
_DOTTED = re.compile(rf"{_WORD}(\.{_WORD})*", re.ASCII)
# A class by the usual way of writing them. What is called with one plain value is a member of an enumeration.
_CLASS_NAME = re.compile(r"(_*[A-Z][A-Za-z0-9_]*\.)*_*[A-Z][A-Za-z0-9_]*", re.ASCII)

_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_TYPES = ("str", "unicode", "bool", "tuple", "complex", "object", "slice", "range", "bytes", "bytearray")
# These may be called, too: the call is recorded.
_HARMLESS: dict[str, tuple[str, ...]] = {
    "argparse": ("Namespace",),
    "builtins": _TYPES,
    "__builtin__": _TYPES,
    "collections": ("deque",),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "functools": ("partial",),
    "operator": ("getitem",),
    "_operator": ("getitem",),
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "types": ("SimpleNamespace", "GenericAlias"),
    "typing": ("Any", "List", "Dict", "Union", "Optional", "Tuple", "Set", "Callable", "Sequence", "Mapping"),
    "uuid": ("UUID", "SafeUUID"),
    "numpy": (
        "bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
        "uint64", "generic",
    ),
    "numpy.random._pickle": ("__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"),
    "numpy.random._mt19937": ("MT19937",),
    "numpy.random._pcg64": ("PCG64",),
}  # fmt: skip

# Layers, optimisers and what shards tensors, as classes and as functions that settings mention.
_TORCH_MODULES = ("torch.nn", "torch.optim", "torch.distributions", "torch.amp", "torch.cuda.amp", "torch.ao",
                  "torch._C._nn", "torch.distributed.checkpoint", "torch.distributed.fsdp")  # fmt: skip
# Programs that load or run others' code. Python 2's modules are among them.
_REFUSED = frozenset(
    ("cloudpickle", "commands", "cPickle", "copy_reg", "dill", "IPython", "joblib", "pip", "pkg_resources", "popen2",
     "setuptools", "urllib2", "__builtin__", "torch", "numpy")
)  # fmt: skip


def is_inert(name: Name) -> bool:
    """Whether a pickle may name it and make an object of it, which leaves a record."""
    if is_harmless(name):
        return True
    if not _DOTTED.fullmatch(name.module) or not _DOTTED.fullmatch(name.name):
        return False
    # A dotted name gets at what a module imports: mypackage.os.system.
    if not sys.stdlib_module_names.isdisjoint(name.name.split(".")[:-1]):
        return False
    top = name.module.partition(".")[0]
    if top == "torch":
        return any(name.module == module or name.module.startswith(f"{module}.") for module in _TORCH_MODULES)
    return top == "__main__" or (top not in _REFUSED and top not in sys.stdlib_module_names)


def is_harmless(name: Name) -> bool:
    """Whether a call of it may be recorded as well, whatever it is called with."""
    return name.name in _HARMLESS.get(name.module, ())


def is_member(name: Name, arguments: tuple[Any, ...]) -> bool:
    """Whether it looks like a member of an enumeration: a class that is called with one plain value."""
    return (
        is_inert(name)
        and _CLASS_NAME.fullmatch(name.name) is not None
        and len(arguments) == 1
        and type(arguments[0]) in (str, int, float, bool)
    )
