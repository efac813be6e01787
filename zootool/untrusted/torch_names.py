"""The names that a torch pickle may use, and the records that they make. Nothing of torch is imported.

Settings may name more. Of Python's own modules, torch and numpy a short list is known to be harmless; whatever else
those have is refused, since among it is what runs programs. Classes of other projects may be named and made, which
leaves an inert stub: a record of what the pickle says about them. Their functions may not be called.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, UntrustedError, printable
from zootool.untrusted.lazy_tensor import LoadLimits, check_layout
from zootool.untrusted.numpy_arrays import NUMPY_CALLS, NUMPY_NAMES, ArrayRecord, DtypeRecord
from zootool.untrusted.unpickler import Name, SafeUnpickler, Stub, add_items, check_key


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """What a pickle says about a storage: its key in the file, its dtype and how many elements it holds."""

    key: str
    dtype: str
    count: int
    start: int = 0
    """Of a view of a storage, which files of torch before 0.4 have, its first element."""

    @property
    def num_bytes(self) -> int:
        """How many bytes the file must have for it."""
        return self.count * DTYPE_BYTES[self.dtype]


@dataclass(slots=True, eq=False)
class TensorRecord:
    """What a pickle says about a tensor, checked against its storage's record; `name` is where it stands first."""

    storage: StorageRecord
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    name: str | None = None


class TorchUnpickler(SafeUnpickler):
    """A torch pickle; `storages` is filled with those that it refers to."""

    def __init__(self, content: bytes, limits: LoadLimits, position: int = 0) -> None:
        super().__init__(content, limits, position)
        self.storages: dict[str, StorageRecord] = {}

    def find_class(self, module: str, name: str) -> Name:
        """The stand-in of a name. Raises UntrustedError for one that may not stand in such a file."""
        named = super().find_class(module, name)
        key = (module, name)
        is_known = key in _CALLS or key in NUMPY_NAMES or key in _CLASSES
        is_storage = module in _STORAGE_MODULES and name in _STORAGES
        if not (is_known or is_storage or (module == "torch" and _DTYPE.fullmatch(name))):
            _check_unknown(named)
        return named

    def call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """The record or plain value that a call stands for."""
        key = (name.module, name.name)
        if key in _CALLS:
            return _CALLS[key](self, *arguments)
        if key in NUMPY_CALLS:
            return NUMPY_CALLS[key](*arguments)
        if _is_harmless(name) or _is_member(name, arguments):
            return Stub(f"{name.module}.{name.name}", arguments)
        if _is_inert(name):
            raise UntrustedError(f"calls {name}, which may do anything", hint=_ASK)
        raise UntrustedError(f"calls {name}, which is nothing to call", hint="don't use this file")

    def make(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """A record of an object of a class that settings are of; listed classes are made as by a call."""
        key = (name.module, name.name)
        if key in _CALLS or key in NUMPY_CALLS or not _is_inert(name):
            return self.call(name, arguments)
        return Stub(f"{name.module}.{name.name}", arguments)

    def set_state(self, target: Any, state: Any) -> None:
        """Take in the state of a stub or array. What torch notes beside a dictionary or a tensor is passed over."""
        if type(target) is Stub or type(target) is ArrayRecord or type(target) is DtypeRecord:
            target.state = state
        elif type(target) not in (dict, TensorRecord) or type(state) not in (dict, tuple):
            raise UntrustedError(f"sets the state of a {type(target).__name__}", hint="don't use this file")

    def persistent_load(self, pid: Any) -> StorageRecord | Name:
        """The record of a storage, which lies outside of the pickle; of a class with its source, the class alone."""
        if type(pid) is tuple and len(pid) == 4 and pid[0] == "module" and type(pid[1]) is Name:
            return pid[1]
        if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage":
            raise UntrustedError("refers to something outside of it that is no storage", hint="don't use this file")
        kind, key, location, count = pid[1:5]
        if type(kind) is not Name or kind.name not in _STORAGES or kind.module not in _STORAGE_MODULES:
            raise FormatError("holds a storage of no known type")
        if type(key) is not str or not 0 < len(key) <= 64 or not key.isalnum():
            raise FormatError(f"names a storage {printable(key, 40)!r}")
        # Where it was computed (cpu, cuda:0, mps) doesn't matter; a storage on `meta` has no bytes.
        if type(location) is not str or location == "meta":
            raise FormatError(f"holds a storage on {printable(location, 40)!r}, which has no bytes")
        if type(count) is not int or not 0 <= count < 1 << 48:
            raise FormatError(f"holds a storage of {printable(count, 40)} elements")
        record = StorageRecord(key, _STORAGES[kind.name], count)
        if self.storages.setdefault(key, record) != record:
            raise FormatError(f"says two things about storage {printable(key, 40)}")
        return record if len(pid) == 5 or pid[5] is None else _part(record, pid[5])

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRecord:
        if type(storage) is not StorageRecord:
            raise FormatError("holds a tensor without a storage")
        return self._tensor_of(storage, storage.dtype, shape, strides, offset)

    def _tensor_with_dtype(
        self, storage: Any, offset: Any, shape: Any, strides: Any, gradient: Any, hooks: Any, dtype: Any, *_: Any
    ) -> TensorRecord:
        """How torch writes the dtypes that it has no class of storages for."""
        if type(storage) is not StorageRecord or type(dtype) is not Name or dtype.module != "torch":
            raise FormatError("holds a tensor without a storage or a dtype")
        if dtype.name not in DTYPE_BYTES:
            raise FormatError(f"holds a tensor of the dtype {dtype}", hint=f"known are {', '.join(DTYPE_BYTES)}")
        return self._tensor_of(storage, dtype.name, shape, strides, offset)

    def _tensor_of(self, storage: StorageRecord, dtype: str, shape: Any, strides: Any, offset: Any) -> TensorRecord:
        first, rest = divmod(storage.start * DTYPE_BYTES[storage.dtype], DTYPE_BYTES[dtype])
        try:
            check_layout(dtype, shape, strides, offset, storage.num_bytes, self.limits)
        except FormatError as error:
            raise FormatError(f"holds a tensor that {error.message}") from None
        if rest:
            raise FormatError(f"holds a tensor of {dtype} over a view that begins between two of its values")
        return TensorRecord(self.storages[storage.key], dtype, shape, strides, first + offset)

    def _parameter(self, data: Any, *_: Any) -> TensorRecord:
        if type(data) is not TensorRecord:
            raise FormatError("holds a parameter without a tensor")
        return data

    def _from_cpu(self, data: Any, dtype: Any, *_: Any) -> TensorRecord:
        """How torch writes tensors of devices that it saves no storages of."""
        record = self._parameter(data)
        if type(dtype) is not Name or (dtype.module, dtype.name) != ("torch", record.dtype):
            raise FormatError(f"holds a tensor of {record.dtype} that is to become {printable(dtype, 40)}")
        return record

    def _from_type(self, function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
        """A tensor or parameter that somebody hung attributes on, which are passed over."""
        if type(function) is not Name or type(arguments) is not tuple or function.module != "torch._utils":
            raise UntrustedError("rebuilds a tensor by something else than a listed function", hint=_ASK)
        if type(kind) is not Name or (kind.module, kind.name) not in _TENSOR_CLASSES:
            raise FormatError(f"holds a tensor of the class {printable(kind, 80)}")
        return self._parameter(self.call(function, arguments))

    def _ordered(self, *arguments: Any) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for pairs in arguments:
            add_items(made, [part for pair in pairs for part in (pair[0], pair[1])])
        return made

    def _counter(self, counts: Any = None) -> dict[Any, Any]:
        """How schedulers keep their milestones."""
        if type(counts) not in (dict, type(None)):
            raise TypeError
        return dict(counts or {})

    def _set(self, items: Any = ()) -> set[Any]:
        if type(items) not in (list, tuple):
            raise FormatError("holds a set of no plain values")
        return {check_key(item) for item in items}

    def _size(self, sizes: Any = ()) -> tuple[int, ...]:
        if type(sizes) not in (list, tuple) or not all(type(size) is int for size in sizes):
            raise FormatError(f"holds a torch.Size of {printable(sizes, 40)}")
        return tuple(sizes)

    def _device(self, kind: Any, index: Any = None) -> str:
        if type(kind) is not str or len(kind) > 40 or type(index) not in (int, type(None)):
            raise FormatError(f"holds a torch.device of {printable((kind, index), 40)}")
        return kind if index is None else f"{kind}:{index}"

    def _text(self, text: Any) -> str:
        if type(text) is not str:
            raise TypeError
        return text

    def _object(self, kind: Any, *arguments: Any) -> Stub:
        """How protocol 0 and 1 made an object of a class."""
        if type(kind) is not Name or not _is_inert(kind):
            raise UntrustedError(f"makes an object of {printable(kind, 80)}", hint=_ASK)
        return Stub(f"{kind.module}.{kind.name}", arguments)

    def _attribute(self, owner: Any = None, name: Any = None, *others: Any) -> Stub:
        """How some versions of Python write the members of an enumeration."""
        if not others and type(owner) is Name and _is_inert(owner) and type(name) is str and _MEMBER.fullmatch(name):
            return Stub(f"{owner.module}.{owner.name}", (name,))
        raise UntrustedError("asks for builtins.getattr, which weights never need", hint="don't use this file")


_BUILTINS = ("builtins", "__builtin__")
_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): TorchUnpickler._tensor,
    ("torch._utils", "_rebuild_tensor_v2"): TorchUnpickler._tensor,
    ("torch._utils", "_rebuild_tensor_v3"): TorchUnpickler._tensor_with_dtype,
    ("torch._utils", "_rebuild_parameter"): TorchUnpickler._parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): TorchUnpickler._parameter,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): TorchUnpickler._from_cpu,
    ("torch._tensor", "_rebuild_from_type_v2"): TorchUnpickler._from_type,
    ("torch", "Size"): TorchUnpickler._size,
    ("torch", "device"): TorchUnpickler._device,
    ("torch.torch_version", "TorchVersion"): TorchUnpickler._text,
    ("torch.serialization", "_get_layout"): TorchUnpickler._text,
    ("copyreg", "_reconstructor"): TorchUnpickler._object,
    ("copy_reg", "_reconstructor"): TorchUnpickler._object,
    ("collections", "OrderedDict"): TorchUnpickler._ordered,
    ("collections", "defaultdict"): lambda unpickler, factory=None, *pairs: unpickler._ordered(*pairs),
    ("collections", "Counter"): TorchUnpickler._counter,
    **{(module, kind): TorchUnpickler._set for module in _BUILTINS for kind in ("set", "frozenset")},
    ("builtins", "getattr"): TorchUnpickler._attribute,
}
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
}  # fmt: skip
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
_DTYPE = re.compile(
    r"bool|half|float|double|int|long|short|q?u?int\d+|quint\dx\d|(b?float|complex)\d+(_\w{1,12})?", re.ASCII
)
_MEMBER = re.compile(r"[A-Za-z]\w{0,99}", re.ASCII)
_ASK = "ask its author for the state_dict alone, saved by torch.save(model.state_dict(), 'weights.pth')"
_TENSOR_CLASSES = (("torch", "Tensor"), ("torch.nn.parameter", "Parameter"))
# Classes that are stored as such, in defaultdict's arguments for one. Nobody can call them here.
_CLASSES = {
    *_TENSOR_CLASSES,
    *((module, name) for module in _BUILTINS for name in ("dict", "list", "int", "long", "float")),
}

_REFUSED_KINDS = {
    **dict.fromkeys(("_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor"), "a sparse tensor"),
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_meta_tensor_no_storage": "a meta tensor, which has no values",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_wrapper_subclass": "a tensor of a wrapping class, which has no values",
    "DTensor": "a sharded tensor (FSDP, DTensor)",
    **dict.fromkeys(("ShardedTensor", "_init_from_local_shards"), "a sharded tensor (FSDP)"),
    "ScriptObject": "packed parameters, which are quantized",
    "ComplexHalfStorage": "complex numbers of 16 bits",
    **dict.fromkeys((f"{kind}Storage" for kind in ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")),
                    "quantized numbers"),
}  # fmt: skip


def _part(whole: StorageRecord, view: Any) -> StorageRecord:
    """The record of a view, which a file describes by its own key, its first element and how many it has."""
    if type(view) is not tuple or len(view) != 3 or any(type(number) is not int for number in view[1:]):
        raise FormatError("holds a view of a storage that it doesn't describe")
    start, count = view[1:]
    if not 0 <= start <= start + count <= whole.count:
        raise FormatError(
            f"holds a view of a storage of {whole.count} elements that ends at {printable(start + count, 40)}"
        )
    return StorageRecord(whole.key, whole.dtype, count, start)


def _check_unknown(name: Name) -> None:
    if name.module.partition(".")[0] == "torch" and name.name in _REFUSED_KINDS:
        raise FormatError(
            f"holds {_REFUSED_KINDS[name.name]}", hint="save dense tensors of float, integer or bool, and try again"
        )
    if not _is_inert(name):
        raise UntrustedError(
            f"asks for {name}, which weights never need",
            hint=f"don't use this file; if you know where it is from, {_ASK}",
        )


_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
_DOTTED = re.compile(rf"{_WORD}(\.{_WORD})*", re.ASCII)
# A class by the usual way of writing them. What is called with one plain value is a member of an enumeration.
_CLASS_NAME = re.compile(r"(_*[A-Z][A-Za-z0-9_]*\.)*_*[A-Z][A-Za-z0-9_]*", re.ASCII)

_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_TYPES = ("str", "unicode", "bool", "tuple", "complex", "object", "slice", "range", "bytes", "bytearray")
# These may be called, too: the call is recorded.
_HARMLESS: dict[str, tuple[str, ...]] = {
    "argparse": ("Namespace",), "builtins": _TYPES, "__builtin__": _TYPES, "collections": ("deque",),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"), "decimal": ("Decimal",),
    "fractions": ("Fraction",), "functools": ("partial",), "operator": ("getitem",), "_operator": ("getitem",),
    "pathlib": _PATHS, "pathlib._local": _PATHS, "types": ("SimpleNamespace", "GenericAlias"),
    "typing": ("Any", "List", "Dict", "Union", "Optional", "Tuple", "Set", "Callable", "Sequence", "Mapping"),
    "uuid": ("UUID", "SafeUUID"),
    "numpy": (
        "bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
        "uint64", "generic",
    ),
    "numpy.random._pickle": ("__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"),
    "numpy.random._mt19937": ("MT19937",), "numpy.random._pcg64": ("PCG64",),
}  # fmt: skip

# Layers, optimisers and what shards tensors, as classes and as functions that settings mention.
_TORCH_MODULES = ("torch.nn", "torch.optim", "torch.distributions", "torch.amp", "torch.cuda.amp", "torch.ao",
                  "torch._C._nn", "torch.distributed.checkpoint", "torch.distributed.fsdp")  # fmt: skip
# Programs that load or run others' code. Python 2's modules are among them.
_REFUSED = frozenset(
    ("cloudpickle", "commands", "cPickle", "copy_reg", "dill", "IPython", "joblib", "pip", "pkg_resources", "popen2",
     "setuptools", "urllib2", "__builtin__", "torch", "numpy")
)  # fmt: skip


def _is_inert(name: Name) -> bool:
    """Whether a pickle may name it and make an object of it, which leaves a record."""
    if _is_harmless(name):
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


def _is_harmless(name: Name) -> bool:
    """Whether a call of it may be recorded as well, whatever it is called with."""
    return name.name in _HARMLESS.get(name.module, ())


def _is_member(name: Name, arguments: tuple[Any, ...]) -> bool:
    """Whether it looks like a member of an enumeration: a class that is called with one plain value."""
    return (
        _is_inert(name)
        and _CLASS_NAME.fullmatch(name.name) is not None
        and len(arguments) == 1
        and type(arguments[0]) in (str, int, float, bool)
    )
