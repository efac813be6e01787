"""PNG and JPEG files to square uint8 pixels, by Pillow, with nothing read that is too large to be meant."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from zootool.errors import FormatError, MissingError, UntrustedError, printable

_FORMATS = ("PNG", "JPEG")
_MAX_PIXELS = 1 << 26
_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


def measure(path: Path) -> tuple[int, bool]:
    """The shorter side in pixels and whether the file can hold colour, from its header alone.

    Raises as `read_picture`.
    """
    with _opened(path) as picture:
        return min(picture.size), picture.mode not in _GREY_MODES


def read_picture(path: Path, size: int, num_channels: int) -> UInt8[np.ndarray, "size size channels"]:
    """The square in the middle of the upright picture, scaled to `size` by a Lanczos filter; 1 or 3 channels.

    Raises FormatError for a file that is not a readable PNG or JPEG of 8 bits per channel, UntrustedError for one
    that unpacks to more than 67 million pixels, MissingError for one that is not there.
    """
    with _opened(path) as picture:
        # Transparency is dropped rather than blended: the colour of a background would be an invention.
        upright = ImageOps.exif_transpose(picture).convert("RGB" if num_channels == 3 else "L")
        side = min(upright.size)
        left, top = (upright.width - side) // 2, (upright.height - side) // 2
        square = upright.crop((left, top, left + side, top + side))
        scaled = square if side == size else square.resize((size, size), Image.Resampling.LANCZOS)
        return np.array(scaled).reshape(size, size, num_channels)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                _check(picture, path)
                yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except FileNotFoundError as error:
        raise MissingError(f"there is no image {path}", hint="correct the path in labels.csv") from error
    # Pillow's decoders raise these for a damaged file, SyntaxError included.
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's word, none about the picture
        raise FormatError(
            f"{path} is not a readable PNG or JPEG: {printable(error)}", hint="repair the image or take it out"
        ) from error


def _check(picture: Image.Image, path: Path) -> None:
    if picture.width * picture.height > _MAX_PIXELS:
        raise _too_large(path)
    if picture.mode not in _GREY_MODES | _COLOUR_MODES:
        raise FormatError(
            f"{path} has pixels of the kind {picture.mode}, images must have 8 bits per channel",
            hint="convert it to 8 bits",
        )


def _too_large(path: Path) -> UntrustedError:
    return UntrustedError(f"{path} unpacks to more than {_MAX_PIXELS} pixels", hint="shrink it or take it out")
