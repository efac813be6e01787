"""The edits that networks are to learn, as operations on images of uint8 pixels (Zhou et al. 2023; baselines' names).

Published targets come from OpenCV: pixels outside an image count for nothing in maxima and minima, a window of 2 x 2
has its anchor at its last pixel, and `sharpen` mirrors images at their border pixels. Channels are edited one by one,
but for `contrast`.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from dng.bench.editing.clahe import equalise
from dng.bench.editing.lab import from_lab, to_lab
from zootool.errors import UsageError

Pixels = UInt8[np.ndarray, "images height width channels"]
Edit = Callable[[Pixels], Pixels]

CONTRAST_TILES, CONTRAST_CLIP = 3, 1.0
_SHARPEN = np.full((1, 3, 3, 1), -0.25)
_SHARPEN[0, 1, 1, 0] = 3.0
_COLOURED = ("contrast",)


def dilate(images: Pixels) -> Pixels:
    """The maximum of 3 x 3 pixels: brighter lines become thicker."""
    return ndimage.maximum_filter(images, size=(1, 3, 3, 1), mode="constant", cval=0)


def erode(images: Pixels) -> Pixels:
    """The minimum of a pixel and those above, left, and above left of it."""
    return ndimage.minimum_filter(images, size=(1, 2, 2, 1), mode="constant", cval=255)


def gradient(images: Pixels) -> Pixels:
    """The maximum less the minimum of a pixel and those above, left, and above left of it: outlines."""
    return ndimage.maximum_filter(images, size=(1, 2, 2, 1), mode="constant", cval=0) - erode(images)


def sharpen(images: Pixels) -> Pixels:
    """Three times the pixel less a quarter of each of its eight neighbours; halves are rounded to even."""
    values = ndimage.convolve(images.astype(np.float64), _SHARPEN, mode="mirror")
    return np.rint(values).clip(0, 255).astype(np.uint8)


def contrast(images: Pixels) -> Pixels:
    """Lightness equalised by `dng.bench.editing.clahe`, in the space L*a*b*.

    Red is taken for blue and blue for red, there and back, as in the published targets.
    """
    lab = to_lab(images[..., ::-1])
    lab[..., 0] = equalise(lab[..., 0], CONTRAST_TILES, CONTRAST_CLIP)
    # A copy, since torch takes no array that is read backwards.
    return from_lab(lab)[..., ::-1].copy()


EDITS: dict[str, Edit] = {
    "dilate": dilate,
    "erode": erode,
    "gradient": gradient,
    "contrast": contrast,
    "sharpen": sharpen,
}


def check_channels(name: str, channels: int) -> None:
    """Raise UsageError unless the edit `name` is one of images of so many channels."""
    if name in _COLOURED and channels != 3:
        others = ", ".join(other for other in EDITS if other not in _COLOURED)
        raise UsageError(f"{name} edits coloured images, these have {channels} channels", hint=f"choose from {others}")
