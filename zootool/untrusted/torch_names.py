"""The names that a torch pickle may use, and the records that they make. Nothing of torch is imported."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, UntrustedError, printable
from zootool.untrusted.inert_names import is_harmless, is_inert, is_member
from zootool.untrusted.lazy_tensor import check_layout
from zootool.untrusted.limits import LoadLimits
from zootool.untrusted.numpy_records import NUMPY_CALLS, NUMPY_NAMES, ArrayRecord, DtypeRecord
from zootool.untrusted.pickle_names import Name, Stub, add_items, check_key


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
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


class TorchNames:
    """What the names in one torch pickle stand for; `storages` is filled with those that it refers to."""

    def __init__(self, limits: LoadLimits) -> None:
        self.storages: dict[str, StorageRecord] = {}
        self._limits = limits

    def check(self, name: Name) -> None:
        """Raise UntrustedError for a name that may not stand in such a file, before anything is done with it."""
        key = (name.module, name.name)
        if key in self._calls or key in NUMPY_NAMES or key in _CLASSES:
            return
        if (name.module in _STORAGE_MODULES and name.name in _STORAGES) or key == _GETATTR:
            return
        if name.module == "torch" and _DTYPE.fullmatch(name.name):
            return
        _check_unknown(name)

    def call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """The record or plain value that a call stands for."""
        key = (name.module, name.name)
        if key in self._calls:
            return self._calls[key](self, *arguments)
        if key in NUMPY_CALLS:
            return NUMPY_CALLS[key](*arguments)
        if key == _GETATTR:
            return _attribute(arguments)
        if is_harmless(name) or is_member(name, arguments):
            return Stub(f"{name.module}.{name.name}", arguments)
        if is_inert(name):
            raise UntrustedError(f"calls {name}, which may do anything", hint=_ASK)
        raise UntrustedError(f"calls {name}, which is nothing to call", hint="don't use this file")

    def make(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """A record of an object of a class that settings are of; listed classes are made as by a call."""
        key = (name.module, name.name)
        if key in self._calls or key in NUMPY_CALLS or not is_inert(name):
            return self.call(name, arguments)
        return Stub(f"{name.module}.{name.name}", arguments)

    def content_of(self, target: Any, kind: type) -> Any:
        """The items of a stub whose class is a dict's or a list's. Raises TypeError for anything else."""
        if type(target) is Stub and target.content is None:
            target.content = kind()
        if type(target) is not Stub or type(target.content) is not kind:
            raise TypeError
        return target.content

    def set_state(self, target: Any, state: Any) -> None:
        """Take in the state of a stub or array. What torch notes beside a dictionary or a tensor is passed over."""
        if type(target) is Stub or type(target) is ArrayRecord or type(target) is DtypeRecord:
            target.state = state
        elif type(target) not in (dict, TensorRecord) or type(state) not in (dict, tuple):
            raise UntrustedError(f"sets the state of a {type(target).__name__}", hint="don't use this file")

    def persistent(self, identity: Any) -> StorageRecord | Name:
        """The record of a storage, which lies outside of the pickle; of a class with its source, the class alone."""
        if type(identity) is tuple and len(identity) == 4 and identity[0] == "module" and type(identity[1]) is Name:
            return identity[1]
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
        try:
            check_layout(dtype, shape, strides, offset, storage.num_bytes, self._limits)
        except FormatError as error:
            raise FormatError(f"holds a tensor that {error.message}") from None
        return TensorRecord(storage, dtype, shape, strides, offset)

    def _parameter(self, data: Any, *_: Any) -> TensorRecord:
        if type(data) is not TensorRecord:
            raise FormatError("holds a parameter without a tensor")
        return data

    def _from_type(self, function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
        """A tensor or parameter that somebody hung attributes on, which are passed over."""
        if type(function) is not Name or type(arguments) is not tuple or function.module != "torch._utils":
            raise UntrustedError("rebuilds a tensor by something else than a listed function", hint=_ASK)
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
        if type(kind) is not Name or not is_inert(kind):
            raise UntrustedError(f"makes an object of {printable(kind, 80)}", hint=_ASK)
        return Stub(f"{kind.module}.{kind.name}", arguments)

    _calls: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _tensor_with_dtype,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
        ("torch", "Size"): _size,
        ("torch", "device"): _device,
        ("torch.torch_version", "TorchVersion"): _text,
        ("torch.serialization", "_get_layout"): _text,
        ("copyreg", "_reconstructor"): _object,
        ("copy_reg", "_reconstructor"): _object,
        ("collections", "OrderedDict"): _ordered,
        ("collections", "defaultdict"): _default,
        ("builtins", "set"): _set,
        ("__builtin__", "set"): _set,
        ("builtins", "frozenset"): _set,
        ("__builtin__", "frozenset"): _set,
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
_GETATTR = ("builtins", "getattr")
_ASK = "ask its author for the state_dict alone, saved by torch.save(model.state_dict(), 'weights.pth')"
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
    "DTensor": "a sharded tensor (FSDP, DTensor)",
    "ShardedTensor": "a sharded tensor (FSDP)",
    "_init_from_local_shards": "a sharded tensor (FSDP)",
    "ScriptObject": "packed parameters, which are quantized",
    "ComplexHalfStorage": "complex numbers of 16 bits",
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
}


def _check_unknown(name: Name) -> None:
    if name.module.partition(".")[0] == "torch" and name.name in _REFUSED_KINDS:
        raise FormatError(
            f"holds {_REFUSED_KINDS[name.name]}", hint="save dense tensors of float, integer or bool, and try again"
        )
    if (name.module, name.name) in _TORCH_ALONE:
        raise NeedsTorch(f"uses {name}, which torch alone can read")
    if not is_inert(name):
        raise UntrustedError(
            f"asks for {name}, which weights never need",
            hint=f"don't use this file; if you know where it is from, {_ASK}",
        )


def _attribute(arguments: tuple[Any, ...]) -> Stub:
    """How some versions of Python write the members of an enumeration."""
    if len(arguments) == 2:
        owner, name = arguments
        if type(owner) is Name and is_inert(owner) and type(name) is str and _MEMBER.fullmatch(name):
            return Stub(f"{owner.module}.{owner.name}", (name,))
    raise UntrustedError("asks for builtins.getattr, which weights never need", hint="don't use this file")


def _only_tensor(value: Any) -> TensorRecord:
    if type(value) is not TensorRecord:
        raise FormatError("holds a parameter without a tensor")
    return value
