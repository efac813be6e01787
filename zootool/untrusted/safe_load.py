"""Checkpoints from elsewhere, read without running anything that they bring.

What a file is, its content says; its name is not asked. Torch files (zip and legacy) and safetensors are read by
parsers of our own, which know a short list of names and build plain values. `torch.load(weights_only=True)` is used
for the few files that these can't read (views of storages in the oldest ones, a Counter among the settings), in a
process of its own with limits. Nothing ever falls back to an unsafe load, and there is no option that asks for one.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from zootool.errors import BadDataError, FormatError, printable
from zootool.untrusted.byte_source import ByteSource, open_source
from zootool.untrusted.lazy_tensor import LazyTensor
from zootool.untrusted.limits import LoadLimits
from zootool.untrusted.lookalikes import refused_kind
from zootool.untrusted.names import join_path
from zootool.untrusted.pickle_names import Stub
from zootool.untrusted.safetensors import read_safetensors_lazily
from zootool.untrusted.torch_legacy import read_torch_legacy
from zootool.untrusted.torch_names import NeedsTorch
from zootool.untrusted.torch_zip import read_torch_zip
from zootool.untrusted.worker import read_by_torch

Source = Path | bytes | bytearray | memoryview | IO[bytes] | ByteSource
Form = Literal["torch zip", "torch legacy", "safetensors"]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint: its plain value with a LazyTensor for each tensor, its format, and how errors name it.

    `metadata` are the texts that a safetensors file holds beside its tensors.
    """

    value: Any
    form: Form
    shown: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, LazyTensor]:
        """Every tensor by its path, such as `model/fc.weight`; tied ones stand under each of their paths.

        Raises FormatError where two have one path, since a key has a slash in it.
        """
        tensors: dict[str, LazyTensor] = {}
        for path, tensor in walk_tensors(self.value):
            if path in tensors:
                raise FormatError(f"{self.shown} holds two tensors at {printable(path, 80)}")
            tensors[path] = tensor
        return tensors

    @property
    def aliases(self) -> dict[str, str]:
        """Paths of tensors that are the same elements as an earlier one -> the path of that one."""
        first: dict[tuple[object, ...], str] = {}
        pairs = ((path, first.setdefault(tensor.identity, path)) for path, tensor in self.tensors.items())
        return {path: earlier for path, earlier in pairs if path != earlier}


def load_checkpoint(source: Source, *, limits: LoadLimits | None = None) -> Loaded:
    """Read a checkpoint's structure; the tensors' values are read when they are asked for.

    `source` is a path, the bytes themselves, an open file or a member of an archive. Objects of other classes among
    the settings become inert `Stub`s.

    Raises FormatError for what is no checkpoint or damaged, UntrustedError for one that asks for anything beyond
    weights and settings, IntegrityError for bytes that don't match their checksum, MissingError for no file.
    """
    limits = limits or LoadLimits()
    opened = open_source(source, limits.max_file_bytes)
    try:
        form = recognize(opened)
        if form == "safetensors":
            tensors, metadata = read_safetensors_lazily(opened, limits)
            return Loaded(tensors, form, opened.shown, metadata)
        return Loaded(_read(opened, form, limits), form, opened.shown)
    except BadDataError as error:
        if error.message.startswith(opened.shown):
            raise
        raise type(error)(
            f"{opened.shown} {_for_file(error.message, opened)}", hint=_for_file(error.hint, opened)
        ) from error
    # What a file can do to any parser: too deep, too large, out of range, no text.
    except (RecursionError, MemoryError, ArithmeticError, LookupError, ValueError, struct.error) as error:
        raise FormatError(
            f"{opened.shown} can't be read: it is damaged, or deeper or larger than a checkpoint "
            f"({type(error).__name__})",
            hint="get the file again, or save the state_dict alone",
        ) from error


def recognize(source: ByteSource) -> Form:
    """Which format the content is in. Raises FormatError, which names what it looks like instead and the way out."""
    head = bytes(source.read(0, min(source.size, 512)))
    # First, since the length of a safetensors header may begin with any byte, that of a pickle or a zip file among
    # them. No pickle and no zip file has a brace at that place behind a length of less than the file's.
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= source.size - 8:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "torch zip"
    if head.startswith(b"\x80"):
        return "torch legacy"
    raise refused_kind(head, source.size)


def _for_file(hint: str | None, source: ByteSource) -> str | None:
    """A hint with the file's name in its commands."""
    return hint and hint.replace("'{file}'", repr(source.shown))


def walk_tensors(value: Any, path: str = "") -> Iterator[tuple[str, LazyTensor]]:
    """Every tensor in a loaded value with its path, stubs left out."""
    if isinstance(value, LazyTensor):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from walk_tensors(item, join_path(path, key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from walk_tensors(item, join_path(path, i))


def _read(source: ByteSource, form: Form, limits: LoadLimits) -> Any:
    try:
        return (read_torch_zip if form == "torch zip" else read_torch_legacy)(source, limits)
    except NeedsTorch:
        return read_by_torch(source, limits)


__all__ = [
    "Form",
    "LazyTensor",
    "LoadLimits",
    "Loaded",
    "Source",
    "Stub",
    "load_checkpoint",
    "recognize",
    "walk_tensors",
]
