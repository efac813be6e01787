"""Torch's older format: five pickles in a row, then the storages one after another, each behind its count."""

import struct
from typing import Any

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, printable
from zootool.untrusted.byte_source import ByteSource
from zootool.untrusted.find_weights import no_weights
from zootool.untrusted.lazy_tensor import Storage
from zootool.untrusted.limits import LoadLimits
from zootool.untrusted.pickle_names import Stub
from zootool.untrusted.torch_names import StorageRecord
from zootool.untrusted.torch_pickle import check_expansion, fill, parse_template_at

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT = struct.Struct("<q")


def read_torch_legacy(source: ByteSource, limits: LoadLimits) -> Any:
    """The value of a file that torch wrote before 1.6, or on request. Raises FormatError and UntrustedError."""
    content = bytes(source.read(0, min(source.size, limits.max_pickle_bytes)))
    magic, position = parse_template_at(content, 0, limits)
    if isinstance(magic.value, Stub):
        raise no_weights(magic.value)
    if magic.value != _MAGIC:
        raise FormatError("is a pickle that torch didn't write", hint="save the state_dict by torch.save")
    protocol, position = parse_template_at(content, position, limits)
    system, position = parse_template_at(content, position, limits)
    _check_system(protocol.value, system.value)
    template, position = parse_template_at(content, position, limits)
    keys, position = parse_template_at(content, position, limits)
    check_expansion(template, source.size, limits)
    return fill(template, _storages(source, position, keys.value, template.storages))


def _check_system(protocol: Any, system: Any) -> None:
    if protocol != _PROTOCOL:
        raise FormatError(f"is of torch's protocol {printable(protocol, 20)}, {_PROTOCOL} is read")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise FormatError("was written in another byte order, little is read", hint="save it on another machine")


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
