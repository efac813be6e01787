"""The names that a torch pickle may use, and the records that they make. Nothing of torch is imported."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from zootool.architecture import DTYPE_BYTES
from zootool.collect.lazy_tensor import check_layout
from zootool.collect.limits import LoadLimits
from zootool.collect.numpy_records import NUMPY_CALLS, NUMPY_NAMES, ArrayRecord, DtypeRecord
from zootool.collect.pickle_names import Name, add_items
from zootool.errors import FormatError, UntrustedError, printable


class NeedsTorch(FormatError):
    """A file that is fit to be read, but by torch alone."""


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """What a pickle says about a storage: its key in the file, its dtype and how many elements it holds."""

    key: str
    dtype: str
    count: int

    @property
    def num_bytes(self) -> int:
        """How many bytes the file must have for it."""
        return self.count * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, eq=False)
class TensorRecord:
    """What a pickle says about a tensor, checked against its storage's record."""

    storage: StorageRecord
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(slots=True, eq=False)
class Stub:
    """An object of a class that was allowed to stand in a file, but is not made: its name, arguments and state.

    The class itself, where a file stores that rather than an object, has None for its arguments.
    """

    class_name: str
    arguments: tuple[Any, ...] | None
    state: Any = field(default=None)


class TorchNames:
    """What the names in one torch pickle stand for; `storages` is filled with those that it refers to."""

    def __init__(self, stubs: frozenset[str], limits: LoadLimits) -> None:
        self.storages: dict[str, StorageRecord] = {}
        self._stubs = stubs
        self._limits = limits

    def check(self, name: Name) -> None:
        """Raise UntrustedError for a name that isn't on the list, before anything is done with it."""
        key = (name.module, name.name)
        if key in self._calls or key in NUMPY_NAMES or f"{name.module}.{name.name}" in self._stubs:
            return
        if key in _CLASSES or (name.module in _STORAGE_MODULES and name.name in _STORAGES):
            return
        if name.module == "torch" and name.name in DTYPE_BYTES:
            return
        _refuse(name)

    def call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """The record or plain value that a call stands for."""
        if f"{name.module}.{name.name}" in self._stubs:
            return Stub(f"{name.module}.{name.name}", arguments)
        key = (name.module, name.name)
        if key in self._calls:
            return self._calls[key](self, *arguments)
        if key in NUMPY_CALLS:
            return NUMPY_CALLS[key](*arguments)
        raise UntrustedError(f"calls {name}, which is nothing to call", hint="don't use this file")

    def set_state(self, target: Any, state: Any) -> None:
        """Take in the state of a stub or array. What torch notes beside a dictionary or a tensor is passed over."""
        if type(target) is Stub or type(target) is ArrayRecord or type(target) is DtypeRecord:
            target.state = state
        elif type(target) not in (dict, TensorRecord) or type(state) not in (dict, tuple):
            raise UntrustedError(f"sets the state of a {type(target).__name__}", hint="don't use this file")

    def persistent(self, identity: Any) -> StorageRecord:
        """The record of a storage, which lies outside of the pickle."""
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            raise UntrustedError("refers to something outside of it that is no storage", hint="don't use this file")
        kind, key, location, count = identity[1:5]
        if len(identity) == 6 and identity[5] is not None:
            raise NeedsTorch("holds a view of a storage, which the oldest files have")
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
        return record

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRecord:
        if type(storage) is not StorageRecord:
            raise FormatError("holds a tensor without a storage")
        try:
            check_layout(storage.dtype, shape, strides, offset, storage.num_bytes, self._limits)
        except FormatError as error:
            raise FormatError(f"holds a tensor that {error.message}") from None
        return TensorRecord(storage, shape, strides, offset)

    def _parameter(self, data: Any, *_: Any) -> TensorRecord:
        if type(data) is not TensorRecord:
            raise FormatError("holds a parameter without a tensor")
        return data

    def _from_type(self, function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
        """A tensor or parameter that somebody hung attributes on, which are passed over."""
        if type(function) is not Name or type(arguments) is not tuple or not function.name.startswith("_rebuild_"):
            raise UntrustedError("rebuilds a tensor by something else than a listed function")
        if type(kind) is not Name or (kind.module, kind.name) not in _TENSOR_CLASSES:
            raise FormatError(f"holds a tensor of the class {printable(kind, 80)}")
        return _only_tensor(self.call(function, arguments))

    def _ordered(self, *arguments: Any) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for pairs in arguments:
            add_items(made, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
        return made

    def _default(self, factory: Any = None, *arguments: Any) -> dict[Any, Any]:
        return self._ordered(*arguments)

    def _set(self, items: Any = ()) -> set[Any]:
        if type(items) not in (list, tuple) or not all(type(item) in (str, int) for item in items):
            raise FormatError("holds a set of no plain values")
        return set(items)

    def _size(self, sizes: Any = ()) -> tuple[Any, ...]:
        return tuple(sizes)

    def _device(self, *parts: Any) -> str:
        return printable(":".join(str(part) for part in parts), 40)

    _calls: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
        ("torch", "Size"): _size,
        ("torch", "device"): _device,
        ("collections", "OrderedDict"): _ordered,
        ("collections", "defaultdict"): _default,
        ("builtins", "set"): _set,
        ("__builtin__", "set"): _set,
    }


_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
_STORAGE_MODULES = ("torch", "torch.cuda")
_TENSOR_CLASSES = (("torch", "Tensor"), ("torch.nn.parameter", "Parameter"))
# Classes that are stored as such, in defaultdict's arguments for one. Nobody can call them here.
_CLASSES = {
    *_TENSOR_CLASSES,
    *((module, name) for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "long", "float")),
}

_REFUSED_KINDS = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_meta_tensor_no_storage": "a meta tensor, which has no values",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_tensor_v3": "a tensor of a dtype that stores don't know",
    "_get_layout": "a sparse tensor",
    "ComplexFloatStorage": "complex numbers",
    "ComplexDoubleStorage": "complex numbers",
    "QInt8Storage": "quantized numbers",
    "QUInt8Storage": "quantized numbers",
    "QInt32Storage": "quantized numbers",
    "QUInt4x2Storage": "quantized numbers",
    "QUInt2x4Storage": "quantized numbers",
}
_TORCH_ALONE = {
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
    ("torch._utils", "_rebuild_wrapper_subclass"),
    ("collections", "Counter"),
    ("builtins", "bytearray"),
}


def _refuse(name: Name) -> None:
    if name.module.partition(".")[0] == "torch" and name.name in _REFUSED_KINDS:
        raise FormatError(
            f"holds {_REFUSED_KINDS[name.name]}", hint="save dense tensors of float, integer or bool, and try again"
        )
    if (name.module, name.name) in _TORCH_ALONE:
        raise NeedsTorch(f"uses {name}, which torch alone can read")
    raise UntrustedError(
        f"asks for {name}, which weights never need",
        hint="don't use this file; if the class only holds settings, the reader can name it as a stub",
    )


def _only_tensor(value: Any) -> TensorRecord:
    if type(value) is not TensorRecord:
        raise FormatError("holds a parameter without a tensor")
    return value
