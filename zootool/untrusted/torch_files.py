"""Torch's files: a pickle, which is parsed once per distinct content, and the storages that it refers to.

The checkpoints of a zoo have byte-identical pickles where their architectures are equal: only storages differ. What
such a pickle made is kept as a template, which is filled with each file's own storages.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, IntegrityError, printable
from zootool.untrusted.byte_source import ByteSource
from zootool.untrusted.lazy_tensor import LazyTensor, LoadLimits, Storage, check_tensor_name, join_path
from zootool.untrusted.numpy_arrays import ArrayRecord, DtypeRecord, to_array
from zootool.untrusted.state_dicts import no_weights
from zootool.untrusted.torch_names import StorageRecord, TensorRecord, TorchUnpickler
from zootool.untrusted.unpickler import Name, Stub
from zootool.untrusted.zip_files import Member, read_directory, stored_at

# What hostile pickles of this size expand to, this many times, stays below 100 MB.
_MAX_REMEMBERED_BYTES = 1 << 15
_MAX_REMEMBERED = 32

_MAX_NOTE_BYTES = 64
_UNPACK = "unpack it and give the checkpoint in it"
_EXPORTED = "run torch.save(dict(torch.export.load('{file}').state_dict), 'weights.pth') and convert weights.pth"
# What else is kept in zip files, by a member that only that has.
_OTHER_ZIPS = (
    (
        "constants.pkl",
        "a TorchScript archive, which holds code",
        "where it is trusted, run torch.save(torch.jit.load('{file}').state_dict(), 'weights.pth') and convert that",
    ),
    ("serialized_exported_program.json", "a program that torch.export saved", _EXPORTED),
    ("archive_format", "a program that torch.export saved (.pt2)", _EXPORTED),
    (".data/extern_modules", "a torch.package, which holds code", "save the state_dict instead"),
    ("model.weights.h5", "a Keras model", "save its weights as safetensors from Keras"),
    ("[Content_Types].xml", "an Office document", "wanted: a torch file or safetensors"),
)  # fmt: skip

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT = struct.Struct("<q")


def read_torch_zip(source: ByteSource, limits: LoadLimits) -> Any:
    """The value of a file that torch.save wrote. Raises FormatError, IntegrityError and UntrustedError."""
    members = read_directory(source, limits.max_records)
    root = _root(members)
    order = members.get(f"{root}/byteorder")
    if order is not None:
        found = _read_checked(source, order) if order.num_bytes < _MAX_NOTE_BYTES else b"?"
        if found != b"little":
            raise FormatError(
                f"was written in the byte order {printable(found.decode('latin1'), 20)!r}, little is read",
                hint="save it again on a little-endian machine",
            )
    pickled = members[f"{root}/data.pkl"]
    if pickled.num_bytes > limits.max_pickle_bytes:
        raise FormatError(f"holds a pickle of {pickled.num_bytes} bytes, at most {limits.max_pickle_bytes} are read")
    content = _read_checked(source, pickled)
    parse = _parse_remembered if len(content) <= _MAX_REMEMBERED_BYTES else _parse_whole
    template = parse(content, limits)
    storages = {key: _storage(source, members, root, record) for key, record in template.storages.items()}
    return _fill(template, storages, source.size, limits)


def read_torch_legacy(source: ByteSource, limits: LoadLimits) -> Any:
    """The value of a file that torch wrote before 1.6, or on request. Raises FormatError and UntrustedError."""
    content = bytes(source.read(0, min(source.size, limits.max_pickle_bytes)))
    magic, position = _parse(content, 0, limits)
    if isinstance(magic.value, Stub):
        raise no_weights(magic.value)
    if magic.value != _MAGIC:
        raise FormatError("is a pickle that torch didn't write", hint="save the state_dict by torch.save")
    protocol, position = _parse(content, position, limits)
    system, position = _parse(content, position, limits)
    if protocol.value != _PROTOCOL:
        raise FormatError(f"is of torch's protocol {printable(protocol.value, 20)}, {_PROTOCOL} is read")
    if not isinstance(system.value, dict) or system.value.get("little_endian") is not True:
        raise FormatError("was written in another byte order, little is read", hint="save it on another machine")
    template, position = _parse(content, position, limits)
    keys, position = _parse(content, position, limits)
    return _fill(template, _storages(source, position, keys.value, template.storages), source.size, limits)


def _root(members: Mapping[str, Member]) -> str:
    """The folder that everything is in, which is named after the file that was written first."""
    roots = {name.partition("/")[0] for name in members}
    root = next(iter(roots), "")
    for within, kind, hint in _OTHER_ZIPS:
        if within in members or f"{root}/{within}" in members:
            raise FormatError(f"is {kind}", hint=hint)
    if members and all(name.endswith(".npy") for name in members):
        raise FormatError("is a zip of numpy arrays (.npz)", hint="save them by torch.save as a dict of tensors")
    if len(roots) != 1:
        raise FormatError("is a zip file of other things: a checkpoint has one folder", hint=_UNPACK)
    if f"{root}/data.pkl" not in members:
        raise FormatError("is a zip file without data.pkl, so no checkpoint", hint=_UNPACK)
    return root


def _storage(source: ByteSource, members: Mapping[str, Member], root: str, record: StorageRecord) -> Storage:
    member = members.get(f"{root}/data/{record.key}")
    if member is None:
        raise FormatError(f"lacks the storage {record.key}", hint="get the file again")
    if member.num_bytes != record.num_bytes:
        raise FormatError(f"has {member.num_bytes} bytes for storage {record.key}, its pickle says {record.num_bytes}")
    return Storage(record.key, source, stored_at(source, member), member.num_bytes, member.crc)


def _read_checked(source: ByteSource, member: Member) -> bytes:
    content = source.read(stored_at(source, member), member.num_bytes)
    if zlib.crc32(content) != member.crc:
        raise IntegrityError(f"holds {printable(member.name, 80)}, which doesn't match its CRC", hint="get it again")
    return bytes(content)


def _storages(source: ByteSource, position: int, keys: Any, records: dict[str, StorageRecord]) -> dict[str, Storage]:
    if not isinstance(keys, list) or any(type(key) is not str for key in keys) or len(set(keys)) != len(keys):
        raise FormatError("holds no list of its storages", hint="get the file again")
    if set(keys) != set(records):
        raise FormatError(f"lists {len(keys)} storages, its tensors are in {len(records)}", hint="get the file again")
    storages = {}
    for key in keys:
        record = records[key]
        count = _COUNT.unpack(source.read(position, _COUNT.size))[0]
        if count != record.count:
            raise FormatError(f"has {count} elements for storage {key}, its pickle says {record.count}")
        start = position + _COUNT.size
        position = start + count * DTYPE_BYTES[record.dtype]
        if position > source.size:
            raise FormatError(f"is cut off in storage {key}", hint="get the file again")
        storages[key] = Storage(key, source, start, record.num_bytes)
    if position != source.size:
        raise FormatError(f"has {source.size - position} bytes behind its last storage", hint="get the file again")
    return storages


@dataclass(frozen=True)
class _Template:
    """What a pickle made, checked, with records in the place of tensors; `num_bytes` is what those hold together."""

    value: Any
    storages: dict[str, StorageRecord]
    num_bytes: int


def _parse(content: bytes, position: int, limits: LoadLimits) -> tuple[_Template, int]:
    """The template of the pickle that begins at `position`, and the position behind it."""
    unpickler = TorchUnpickler(content, limits, position)
    survey = _Survey(limits)
    value = survey.check(unpickler.load(), "", 0)
    return _Template(value, unpickler.storages, survey.num_bytes), unpickler.position


def _parse_whole(content: bytes, limits: LoadLimits) -> _Template:
    template, end = _parse(content, 0, limits)
    if end != len(content):
        raise FormatError(f"holds a pickle with {len(content) - end} more bytes behind it")
    return template


_parse_remembered = lru_cache(maxsize=_MAX_REMEMBERED)(_parse_whole)


class _Survey:
    """Goes through what a pickle made: bounds it, names its tensors, turns records into plain values."""

    def __init__(self, limits: LoadLimits) -> None:
        self.num_bytes = 0
        self._num_tensors = 0
        self._stubs: dict[int, Any] = {}
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
            return self._named(value, path)
        if kind is dict:
            return {key: self.check(item, join_path(path, key), depth + 1) for key, item in value.items()}
        if kind is list or kind is tuple:
            return kind(self.check(item, join_path(path, i), depth + 1) for i, item in enumerate(value))
        if kind is Stub:
            return _once(value, self._stubs, lambda part: self.check(part, path, depth + 1))
        if kind is set or kind is frozenset:
            # It is copied for each file.
            self._count(len(value))
            return value
        return _plain(value)

    def _count(self, num_objects: int) -> None:
        self._left -= num_objects
        if self._left < 0:
            raise FormatError(f"holds more than {self._limits.max_objects} objects", hint="save the state_dict alone")

    def _named(self, record: TensorRecord, path: str) -> TensorRecord:
        if record.name is None:
            if self._num_tensors == self._limits.max_tensors:
                raise FormatError(f"holds more than {self._limits.max_tensors} tensors")
            check_tensor_name(path, self._limits)
            record.name = path
            self._num_tensors += 1
            self.num_bytes += prod(record.shape) * DTYPE_BYTES[record.dtype]
        return record


def _plain(value: Any) -> Any:
    if type(value) is ArrayRecord:
        return to_array(value)
    if type(value) is Name:
        return f"{value.module}.{value.name}" if value.module == "torch" else Stub(str(value), None)
    if type(value) is DtypeRecord:
        return Stub("numpy.dtype", (printable(value.name, 40),))
    shown = "bare storage" if type(value) is StorageRecord else "value"
    raise FormatError(f"holds a {shown} where tensors and plain values are wanted")


def _fill(template: _Template, storages: Mapping[str, Storage], file_bytes: int, limits: LoadLimits) -> Any:
    """The template's value with a LazyTensor in each place, over the storages of one file.

    Raises FormatError where all tensors together would hold far more than the file does.
    """
    if template.num_bytes > limits.max_expansion * file_bytes:
        raise FormatError(f"has {file_bytes} bytes, but describes tensors of {template.num_bytes} bytes")
    return _copy(template.value, storages, {})


def _copy(value: Any, storages: Mapping[str, Storage], made: dict[int, Any]) -> Any:
    kind = type(value)
    if kind is TensorRecord:
        if id(value) not in made:
            made[id(value)] = LazyTensor(
                value.name, value.dtype, value.shape, value.strides, value.offset, storages[value.storage.key]
            )
        return made[id(value)]
    if kind is dict:
        return {key: _copy(item, storages, made) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind([_copy(item, storages, made) for item in value])
    if kind is set:
        return set(value)
    return _once(value, made, lambda part: _copy(part, storages, made)) if kind is Stub else value


def _once(stub: Stub, made: dict[int, Any], change: Callable[[Any], Any]) -> Stub:
    """A stub with its parts changed. Settings refer to those that they are part of: each is gone through once."""
    if id(stub) not in made:
        new = made[id(stub)] = Stub(stub.class_name, None)
        new.arguments, new.state, new.content = change(stub.arguments), change(stub.state), change(stub.content)
    return made[id(stub)]


_PLAIN = (str, int, float, bool, bytes, type(None))
