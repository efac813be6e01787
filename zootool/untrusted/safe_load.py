"""Checkpoints from elsewhere, read without running anything that they bring.

What a file is, its content says; its name is not asked. Torch files (zip and legacy) and safetensors are read by
parsers of our own, which know a short list of names and build plain values. Nothing ever falls back to an unsafe load,
and there is no option that asks for one. Small files take a quarter of the time of `torch.load(weights_only=True)`.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from zootool.errors import FormatError, printable
from zootool.untrusted.byte_source import ByteSource, errors_name, open_source
from zootool.untrusted.lazy_tensor import LazyTensor, LoadLimits, join_path
from zootool.untrusted.safetensors import read_safetensors_lazily
from zootool.untrusted.torch_files import read_torch_legacy, read_torch_zip

Source = Path | bytes | bytearray | memoryview | IO[bytes] | ByteSource
Form = Literal["torch zip", "torch legacy", "safetensors"]

_WANTED = "wanted: a torch file or safetensors"
_UNPACK = "unpack it and give what is in it"
_EXPORT = "save the weights as safetensors from the program that wrote it"
_FETCH = "get the file itself: this is what a server answered instead"

# How other files begin, longer beginnings before those that they begin with.
_OTHERS = (
    (rb"\x1f\x8b", "gzip-compressed", _UNPACK),
    (rb"BZh", "bzip2-compressed", _UNPACK),
    (rb"\xfd7zXZ", "xz-compressed", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "zstd-compressed", _UNPACK),
    (rb"\x04\x22\x4d\x18", "lz4-compressed", _UNPACK),
    (rb"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (rb"Rar!", "a RAR archive", _UNPACK),
    (rb"PK\x05\x06", "an empty zip file", "get the file again"),
    (rb"\x93NUMPY", "a numpy array", "convert a table of weights with --format small-cnn-zoo, or save a state_dict"),
    (rb"\x89HDF", "an HDF5 file (Keras)", _EXPORT),
    (rb"GGUF", "a GGUF file", _EXPORT),
    (rb"ggml", "a GGML file", _EXPORT),
    (rb"\x08\x01\x12", "a TensorFlow graph", _EXPORT),
    (rb"version https://git-lfs", "a pointer of Git LFS to a file that wasn't fetched",
     "run `git lfs pull` in its folder"),
    (rb"\s*<", "a web page", _FETCH),
    (rb"{", "JSON", _FETCH),
    (rb"\x89PNG", "a picture", _WANTED),
    (rb"%PDF", "a PDF file", _WANTED),
    (rb".{257}ustar", "a tar archive", "unpack it; a checkpoint of torch 0.1 has to be saved again by torch"),
    (rb".{4}TFL3", "a TensorFlow Lite model", _EXPORT),
    (rb"\x08.[\x12\x1a\x22\x3a]", "an ONNX model", _EXPORT),
    # A map whose first key is a text.
    (rb"[\x81-\x8f][\xa1-\xbf\xd9]|[\xde\xdf](..|.{4})[\xa1-\xbf]", "msgpack (Flax)", _EXPORT),
)  # fmt: skip


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
        for path, tensor in _walk_tensors(self.value):
            if path in tensors:
                raise FormatError(f"{self.shown} holds two tensors at {printable(path, 80)}")
            tensors[path] = tensor
        return tensors


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
        with errors_name(opened.shown):
            form = _recognize(opened)
            if form == "safetensors":
                tensors, metadata = read_safetensors_lazily(opened, limits)
                return Loaded(tensors, form, opened.shown, metadata)
            read = read_torch_zip if form == "torch zip" else read_torch_legacy
            return Loaded(read(opened, limits), form, opened.shown)
    # What a file can do to any parser: too deep, too large, out of range, no text.
    except (RecursionError, MemoryError, ArithmeticError, LookupError, ValueError, struct.error) as error:
        raise FormatError(
            f"{opened.shown} can't be read: it is damaged, or deeper or larger than a checkpoint "
            f"({type(error).__name__})",
            hint="get the file again, or save the state_dict alone",
        ) from error


def _recognize(source: ByteSource) -> Form:
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
    raise _refused_kind(head, source.size)


def _walk_tensors(value: Any, path: str = "") -> Iterator[tuple[str, LazyTensor]]:
    """Every tensor in a loaded value with its path, stubs left out."""
    if isinstance(value, LazyTensor):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk_tensors(item, join_path(path, key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _walk_tensors(item, join_path(path, i))


def _refused_kind(head: bytes, size: int) -> FormatError:
    """The error for a file of `size` bytes that begins with `head` (512 bytes, or all) and is no checkpoint."""
    if size == 0:
        return FormatError("is empty, in no format that zootool knows", hint="get the file again: it was not written")
    if not any(head):
        return FormatError("begins with zeros, in no format that zootool knows", hint="get the file again")
    if head[8:9] == b"{" and head[9:10] in b'"} \n':
        length = int.from_bytes(head[:8], "little")
        return FormatError(f"claims a header of {length} bytes, but has {size}", hint="it is cut off: get it again")
    for beginning, kind, hint in _OTHERS:
        if re.match(beginning, head, re.DOTALL):
            return FormatError(f"is {kind}, not a checkpoint", hint=hint)
    return FormatError("is in no format that zootool knows", hint=_WANTED)
