"""Files that are taken for checkpoints and aren't: what they are, by their first bytes, and the way out."""

from zootool.errors import FormatError

_WANTED = "wanted: a torch file or safetensors"
_UNPACK = "unpack it and give what is in it"
_EXPORT = "save the weights as safetensors from the program that wrote it"
_FETCH = "get the file itself: this is what a server answered instead"

# Longer beginnings stand before those that they begin with.
_BEGINNINGS = (
    (b"\x1f\x8b", "gzip-compressed", _UNPACK),
    (b"BZh", "bzip2-compressed", _UNPACK),
    (b"\xfd7zXZ", "xz-compressed", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", _UNPACK),
    (b"\x04\x22\x4d\x18", "lz4-compressed", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"PK\x05\x06", "an empty zip file", "get the file again"),
    (b"\x93NUMPY", "a numpy array", "convert a table of weights with --format small-cnn-zoo, or save a state_dict"),
    (b"\x89HDF", "an HDF5 file (Keras)", _EXPORT),
    (b"GGUF", "a GGUF file", _EXPORT),
    (b"ggml", "a GGML file", _EXPORT),
    (b"\x08\x01\x12", "a TensorFlow graph", _EXPORT),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS to a file that wasn't fetched",
        "run `git lfs pull` in its folder",
    ),
    (b"<", "a web page", _FETCH),
    (b"{", "JSON", _FETCH),
    (b"\x89PNG", "a picture", _WANTED),
    (b"%PDF", "a PDF file", _WANTED),
)


def refused_kind(head: bytes, size: int) -> FormatError:
    """The error for a file of `size` bytes that begins with `head` (512 bytes, or all) and is no checkpoint."""
    if size == 0:
        return FormatError("is empty, in no format that zootool knows", hint="get the file again: it was not written")
    if not any(head):
        return FormatError("begins with zeros, in no format that zootool knows", hint="get the file again")
    if head[8:9] == b"{" and head[9:10] in b'"} \n':
        length = int.from_bytes(head[:8], "little")
        return FormatError(f"claims a header of {length} bytes, but has {size}", hint="it is cut off: get it again")
    for beginning, kind, hint in _BEGINNINGS:
        if head.lstrip().startswith(beginning) if beginning == b"<" else head.startswith(beginning):
            return FormatError(f"is {kind}, not a checkpoint", hint=hint)
    if head[257:262] == b"ustar":
        return FormatError(
            "is a tar archive", hint="unpack it; a checkpoint of torch 0.1 has to be saved again by torch"
        )
    if head[4:8] == b"TFL3":
        return FormatError("is a TensorFlow Lite model", hint=_EXPORT)
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a"):
        return FormatError("is an ONNX model, not a checkpoint", hint=_EXPORT)
    if _looks_like_msgpack(head):
        return FormatError("is msgpack (Flax), not a checkpoint", hint=_EXPORT)
    return FormatError("is in no format that zootool knows", hint=_WANTED)


def _looks_like_msgpack(head: bytes) -> bool:
    """Whether it begins with a map whose first key is a text, as what Flax writes does."""
    if 0x81 <= head[:1][0] <= 0x8F if head else False:
        return 0xA1 <= head[1:2].ljust(1)[0] <= 0xBF or head[1:2] == b"\xd9"
    return head[:1] in (b"\xde", b"\xdf") and (b"\xa1" <= head[3:4] <= b"\xbf" or b"\xa1" <= head[5:6] <= b"\xbf")
