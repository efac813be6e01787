"""The pickle of a torch file: parsed once per distinct content, then filled with each file's own storages.

The checkpoints of a zoo have byte-identical pickles where their architectures are equal: only storages differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, printable
from zootool.untrusted.lazy_tensor import LazyTensor, Storage
from zootool.untrusted.limits import LoadLimits
from zootool.untrusted.names import check_tensor_name, join_path
from zootool.untrusted.numpy_records import ArrayRecord, DtypeRecord, to_array
from zootool.untrusted.pickle_machine import PickleMachine
from zootool.untrusted.pickle_names import Name, Stub
from zootool.untrusted.torch_names import StorageRecord, TensorRecord, TorchNames

# What hostile pickles of this size expand to, this many times, stays below 100 MB.
_MAX_REMEMBERED_BYTES = 1 << 15
_MAX_REMEMBERED = 32


@dataclass(frozen=True)
class Template:
    """A checked pickle without its storages.

    `value` holds a place, an index of `tensors`, for each tensor; `names` are where those stand first.
    """

    value: Any
    tensors: tuple[TensorRecord, ...]
    names: tuple[str, ...]
    storages: dict[str, StorageRecord]


@dataclass(frozen=True, slots=True)
class _Place:
    index: int


def parse_template(content: bytes, limits: LoadLimits) -> Template:
    """The template of a pickle that fills `content`. Raises UntrustedError and FormatError."""
    if len(content) > _MAX_REMEMBERED_BYTES:
        return _parse_whole(content, limits)
    return _parse_remembered(content, limits)


def parse_template_at(content: bytes, position: int, limits: LoadLimits) -> tuple[Template, int]:
    """The template of the pickle that begins at `position`, and the position behind it."""
    names = TorchNames(limits)
    machine = PickleMachine(content, names, limits, position)
    survey = _Survey(limits)
    value = survey.check(machine.run(), "", 0)
    return Template(value, tuple(survey.tensors), tuple(survey.names), names.storages), machine.position


def fill(template: Template, storages: Mapping[str, Storage]) -> Any:
    """The template's value with a LazyTensor in each place, over the storages of one file."""
    tensors = [
        LazyTensor(name, record.dtype, record.shape, record.strides, record.offset, storages[record.storage.key])
        for name, record in zip(template.names, template.tensors, strict=True)
    ]
    return _copy(template.value, tensors, {})


def check_expansion(template: Template, file_bytes: int, limits: LoadLimits) -> None:
    """Raise FormatError where all tensors together would hold far more than the file does."""
    sizes = {id(record): _num_bytes(record) for record in template.tensors}
    if sum(sizes.values()) > limits.max_expansion * file_bytes:
        raise FormatError(f"has {file_bytes} bytes, but describes tensors of {sum(sizes.values())} bytes")


def _parse_whole(content: bytes, limits: LoadLimits) -> Template:
    template, end = parse_template_at(content, 0, limits)
    if end != len(content):
        raise FormatError(f"holds a pickle with {len(content) - end} more bytes behind it")
    return template


_parse_remembered = lru_cache(maxsize=_MAX_REMEMBERED)(_parse_whole)


def _num_bytes(record: TensorRecord) -> int:
    return prod(record.shape) * DTYPE_BYTES[record.dtype]


class _Survey:
    """Goes through what a pickle made: bounds it, names its tensors, turns records into plain values and places."""

    def __init__(self, limits: LoadLimits) -> None:
        self.tensors: list[TensorRecord] = []
        self.names: list[str] = []
        self._places: dict[int, _Place] = {}
        self._stubs: dict[int, Stub] = {}
        self._left = limits.max_objects
        self._limits = limits

    def check(self, value: Any, path: str, depth: int) -> Any:
        """`value` as it goes into a template. A value that holds itself ends at the greatest depth."""
        self._count(1)
        if depth > self._limits.max_depth:
            raise FormatError(f"is nested more than {self._limits.max_depth} deep")
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is TensorRecord:
            return self._place(value, path)
        if kind is dict:
            return {key: self.check(item, join_path(path, key), depth + 1) for key, item in value.items()}
        if kind is list or kind is tuple:
            return kind(self.check(item, join_path(path, i), depth + 1) for i, item in enumerate(value))
        return self._check_record(value, path, depth)

    def _count(self, num_objects: int) -> None:
        self._left -= num_objects
        if self._left < 0:
            raise FormatError(f"holds more than {self._limits.max_objects} objects", hint="save the state_dict alone")

    def _check_record(self, value: Any, path: str, depth: int) -> Any:
        if type(value) is ArrayRecord:
            return to_array(value)
        if type(value) is Stub:
            return self._check_stub(value, path, depth)
        if type(value) is Name:
            return f"{value.module}.{value.name}" if value.module == "torch" else Stub(str(value), None)
        if type(value) is DtypeRecord:
            return Stub("numpy.dtype", (printable(value.name, 40),))
        if type(value) is set or type(value) is frozenset:
            # It is copied for each file.
            self._count(len(value))
            return value
        raise FormatError(f"holds a {_SHOWN.get(type(value), 'value')} where tensors and plain values are wanted")

    def _check_stub(self, stub: Stub, path: str, depth: int) -> Stub:
        # Settings refer to those that they are part of: each stub is gone through once.
        if id(stub) not in self._stubs:
            made = self._stubs[id(stub)] = Stub(stub.class_name, None)
            made.arguments = self.check(stub.arguments, path, depth + 1)
            made.state = self.check(stub.state, path, depth + 1)
            made.content = self.check(stub.content, path, depth + 1)
        return self._stubs[id(stub)]

    def _place(self, record: TensorRecord, path: str) -> _Place:
        if id(record) not in self._places:
            if len(self.tensors) == self._limits.max_tensors:
                raise FormatError(f"holds more than {self._limits.max_tensors} tensors")
            check_tensor_name(path, self._limits)
            self._places[id(record)] = _Place(len(self.tensors))
            self.tensors.append(record)
            self.names.append(path)
        return self._places[id(record)]


def _copy(value: Any, tensors: list[LazyTensor], stubs: dict[int, Stub]) -> Any:
    kind = type(value)
    if kind is _Place:
        return tensors[value.index]
    if kind is dict:
        return {key: _copy(item, tensors, stubs) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind([_copy(item, tensors, stubs) for item in value])
    if kind is set:
        return set(value)
    if kind is Stub:
        if id(value) not in stubs:
            made = stubs[id(value)] = Stub(value.class_name, None)
            made.arguments = _copy(value.arguments, tensors, stubs)
            made.state = _copy(value.state, tensors, stubs)
            made.content = _copy(value.content, tensors, stubs)
        return stubs[id(value)]
    return value


_PLAIN = (str, int, float, bool, bytes, type(None))
_SHOWN = {StorageRecord: "bare storage"}
