"""CIFAR in its two published formats: binary records, and batches pickled by Python 2."""

import numpy as np

from zootool.errors import FormatError, printable
from zootool.images.images import Labels, Pixels, Reader
from zootool.untrusted.numpy_arrays import load_plain_pickle

_PIXEL_BYTES = 32 * 32 * 3


def read_cifar_records(content: bytes, shown: str, num_label_bytes: int) -> tuple[Pixels, Labels]:
    """Pixels and labels of binary records: label bytes, of which the last counts, then the three colour planes.

    CIFAR-10 has one label byte; CIFAR-100 two, the coarse and the fine class. Raises FormatError for a file that
    isn't whole records.
    """
    record_bytes = num_label_bytes + _PIXEL_BYTES
    num_images, rest = divmod(len(content), record_bytes)
    if rest or not num_images:
        raise FormatError(
            f"{shown} has {len(content)} bytes, which is {num_images} records of {record_bytes} bytes and {rest} over",
            hint="the file is truncated: get it again",
        )
    records = np.frombuffer(content, np.uint8).reshape(num_images, record_bytes)
    return _from_planes(records[:, num_label_bytes:]), records[:, num_label_bytes - 1].astype(np.int64)


def read_cifar_pickle(content: bytes, shown: str, label_key: bytes) -> tuple[Pixels, Labels]:
    """Pixels and labels of a pickled batch: a dict with b"data" (N, 3072) uint8 and a list of labels.

    Raises UntrustedError for a pickle that asks for more than arrays and plain values, FormatError for another
    content.
    """
    batch = load_plain_pickle(content, shown)
    if not isinstance(batch, dict) or b"data" not in batch or label_key not in batch:
        raise FormatError(f"{shown} is not a CIFAR batch: it needs the keys b'data' and {label_key!r}")
    data, labels = batch[b"data"], batch[label_key]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_PIXEL_BYTES,):
        got = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else printable(type(data).__name__)
        raise FormatError(f"{shown}: b'data' must be uint8 (N, {_PIXEL_BYTES}), got {got}")
    if not isinstance(labels, list) or any(type(label) is not int or not 0 <= label < 256 for label in labels):
        raise FormatError(f"{shown}: {label_key!r} must be a list of labels 0..255")
    if len(labels) != len(data):
        raise FormatError(f"{shown} has {len(data)} images and {len(labels)} labels")
    return _from_planes(data), np.array(labels, np.int64)


def _from_planes(planes: np.ndarray) -> Pixels:
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


READERS: dict[str, Reader] = {
    "cifar10-binary": lambda part: read_cifar_records(part.images, part.shown, num_label_bytes=1),
    "cifar100-binary": lambda part: read_cifar_records(part.images, part.shown, num_label_bytes=2),
    "cifar10-pickle": lambda part: read_cifar_pickle(part.images, part.shown, b"labels"),
    "cifar100-pickle": lambda part: read_cifar_pickle(part.images, part.shown, b"fine_labels"),
}
