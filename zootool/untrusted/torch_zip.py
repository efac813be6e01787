"""Torch's zip format: a pickle, and a stored member for each storage."""

import zlib
from collections.abc import Mapping
from typing import Any

from zootool.errors import FormatError, IntegrityError, printable
from zootool.untrusted.byte_source import ByteSource
from zootool.untrusted.lazy_tensor import Storage
from zootool.untrusted.limits import LoadLimits
from zootool.untrusted.torch_names import StorageRecord
from zootool.untrusted.torch_pickle import check_expansion, fill, parse_template
from zootool.untrusted.zip_directory import Member, open_stored, read_directory

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


def read_torch_zip(source: ByteSource, limits: LoadLimits) -> Any:
    """The value of a file that torch.save wrote. Raises FormatError, IntegrityError and UntrustedError."""
    members = read_directory(source, limits.max_records)
    root = _root(members)
    _check_notes(source, members, root)
    pickled = members[f"{root}/data.pkl"]
    if pickled.num_bytes > limits.max_pickle_bytes:
        raise FormatError(f"holds a pickle of {pickled.num_bytes} bytes, at most {limits.max_pickle_bytes} are read")
    template = parse_template(bytes(_read_checked(source, pickled)), limits)
    check_expansion(template, source.size, limits)
    storages = {key: _storage(source, members, root, record) for key, record in template.storages.items()}
    return fill(template, storages)


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


def _check_notes(source: ByteSource, members: Mapping[str, Member], root: str) -> None:
    order = members.get(f"{root}/byteorder")
    if order is not None:
        found = bytes(_read_checked(source, order)) if order.num_bytes < _MAX_NOTE_BYTES else b"?"
        if found != b"little":
            raise FormatError(
                f"was written in the byte order {printable(found.decode('latin1'), 20)!r}, little is read",
                hint="save it again on a little-endian machine",
            )


def _storage(source: ByteSource, members: Mapping[str, Member], root: str, record: StorageRecord) -> Storage:
    member = members.get(f"{root}/data/{record.key}")
    if member is None:
        raise FormatError(f"lacks the storage {record.key}", hint="get the file again")
    if member.num_bytes != record.num_bytes:
        raise FormatError(f"has {member.num_bytes} bytes for storage {record.key}, its pickle says {record.num_bytes}")
    window = open_stored(source, member)
    return Storage(record.key, window, 0, member.num_bytes, member.crc)


def _read_checked(source: ByteSource, member: Member) -> memoryview:
    content = open_stored(source, member).read(0, member.num_bytes)
    if zlib.crc32(content) != member.crc:
        raise IntegrityError(f"holds {printable(member.name, 80)}, which doesn't match its CRC", hint="get it again")
    return content
