"""SVHN's cropped digits: the published MATLAB files, and a prefix kept as an .npz."""

import io
import math
import zipfile

import numpy as np

from zootool.errors import FormatError, printable
from zootool.images.images import Labels, Pixels, Reader

_SHAPE = (32, 32, 3)
_DIGIT_ZERO = 10  # the publisher numbers the classes 1..10, and 10 is the digit 0


def read_svhn_mat(content: bytes, shown: str, max_images: int) -> tuple[Pixels, Labels]:
    """Pixels and labels 0..9 of a published .mat: X (32, 32, 3, N) uint8, y (N, 1) of 1..10. Raises FormatError."""
    from scipy.io import loadmat, whosmat

    try:
        # The axes are read first: a small compressed file could unpack to anything.
        axes = {name: shape for name, shape, _ in whosmat(io.BytesIO(content))}
        x, y = axes.get("X"), axes.get("y")
        if x is None or y is None or x[:3] != _SHAPE or len(x) != 4 or y != (x[3], 1):
            raise FormatError(f"{shown}: X must be (32, 32, 3, N) and y (N, 1), got {x} and {y}")
        if not 0 < x[3] <= max_images:
            raise FormatError(f"{shown} holds {x[3]} images, at most {max_images} were published")
        variables = loadmat(io.BytesIO(content), variable_names=["X", "y"])
    except FormatError:
        raise
    # scipy raises nearly anything on a damaged file; whatever it is, the file is what's wrong.
    except Exception as error:
        raise FormatError(f"{shown} is not a readable .mat: {printable(error)}", hint="get the file again") from error
    pixels, labels = variables["X"], variables["y"]
    if pixels.dtype != np.uint8 or labels.dtype.kind not in "ui":
        raise FormatError(f"{shown}: X must be uint8 and y integers, got {pixels.dtype} and {labels.dtype}")
    classes = labels.reshape(-1).astype(np.int64)
    if classes.min() < 1 or classes.max() > _DIGIT_ZERO:
        raise FormatError(f"{shown}: y must be 1..{_DIGIT_ZERO}, got {classes.min()}..{classes.max()}")
    return np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), classes % _DIGIT_ZERO


def read_svhn_head(content: bytes, shown: str, max_images: int) -> tuple[Pixels, Labels]:
    """Pixels and labels 0..9 of a prefix: `train_images` (N, 32, 32, 3) and `train_labels` (N,). Raises FormatError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            unpacked = sum(entry.file_size for entry in packed.infolist())
        if unpacked > 2 * max_images * math.prod(_SHAPE):
            raise FormatError(f"{shown} unpacks to {unpacked} bytes, too many for {max_images} images")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            pixels, labels = arrays["train_images"], arrays["train_labels"]
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(
            f"{shown} is not an .npz of train_images and train_labels: {printable(error)}", hint="get the file again"
        ) from error
    are_images = pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[1:] == _SHAPE
    if not are_images or labels.dtype.kind not in "ui" or labels.shape != pixels.shape[:1]:
        raise FormatError(
            f"{shown}: train_images must be uint8 (N, 32, 32, 3) and train_labels integers (N,), "
            f"got {pixels.dtype} {pixels.shape} and {labels.dtype} {labels.shape}"
        )
    return pixels, labels.astype(np.int64)


READERS: dict[str, Reader] = {
    "svhn-mat": lambda part: read_svhn_mat(part.images, part.shown, part.max_images),
    "svhn-npz": lambda part: read_svhn_head(part.images, part.shown, part.max_images),
}
