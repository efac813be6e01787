"""The edits that networks are to learn, as operations on images of uint8 pixels (Zhou et al. 2023; baselines' names).

Published targets come from OpenCV, whose results these are to the last bit: pixels outside an image count for nothing
in maxima and minima, a window of 2 x 2 has its anchor at its last pixel, and `sharpen` mirrors images at their border
pixels. Channels are edited one by one, but for `contrast`. OpenCV itself (the edits alone would need its 50 MB) isn't
asked for.

Contrast-limited adaptive histogram equalisation spreads out levels by the histograms of tiles around them:

- Where a side isn't a multiple of the tiles, both sides are extended at their ends by reflection (without the last
  pixel) to a further multiple: a side that was one already by a whole pixel per tile.
- A tile's histogram is cut at clip * pixels / 256, rounded down and at least 1. What was cut off is dealt out: evenly
  over all levels, and the rest by one to levels at equal steps from level 0 on.
- A tile's table is its cumulative histogram, scaled to 255 and rounded to the nearest.
- Between the centres of tiles their tables' values are interpolated linearly along both sides; outside the outermost
  centres the nearest table holds. In float32, and in OpenCV's order.

The CIE colour space L*a*b* has 8 bits per number: lightness, green to red, blue to yellow. L is 0..255 for 0..100, a
and b are shifted by 128; sRGB primaries and gamma, white point D65. OpenCV computes it in integers of few bits, and so
does this: CLAHE makes two levels or more of a difference of one. Checked on all 256^3 colours, both ways, against
OpenCV 4.14 and 5.0.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float, Int64, UInt8
from scipy import ndimage

from zootool.errors import UsageError

Pixels = UInt8[np.ndarray, "images height width channels"]
Levels = UInt8[np.ndarray, "images height width"]
Bytes = UInt8[np.ndarray, "*shape 3"]
Edit = Callable[[Pixels], Pixels]

CONTRAST_TILES, CONTRAST_CLIP = 3, 1.0
LEVELS = 256
_SHARPEN = np.full((1, 3, 3, 1), -0.25)
_SHARPEN[0, 1, 1, 0] = 3.0
_COLOURED = ("contrast",)

_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_FROM_XYZ = np.array(
    [[3.240479, -1.53715, -0.498535], [-0.969256, 1.875991, 0.041556], [0.055648, -0.204043, 1.057311]]
)
_WHITE = np.array([0.950456, 1.0, 1.088754])
_MATRIX_BITS = 12

# The cube root has a straight line near zero, and so has its inverse near the root of that place.
_LINEAR_BELOW, _LINEAR_SLOPE, _LINEAR_OFFSET = 216 / 24389, 841 / 108, 16 / 116

# There: light is 0..2040, and roots have 15 bits.
_LIGHT, _ROOT_BITS = 8 * 255, 15
_L_SLOPE, _L_OFFSET = 296, -1336934  # 116 * 2.55, and -16 * 2.55 roots.

# Back: light and roots have 14 bits, light for the screen 12.
_BACK_BITS, _SCREEN_BITS = 14, 12
_LAST_LINEAR_L, _LAST_LINEAR_ROOT, _LINEAR_ZERO = 20, 3390, 290


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
    """Lightness equalised tile by tile, in the space L*a*b*.

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


def equalise(levels: Levels, tiles: int, clip: float) -> Levels:
    """Each image's levels by the tables of `tiles` x `tiles` tiles, their histograms cut at `clip`."""
    height, width = levels.shape[1:]
    extended = _extended(levels, tiles)
    tile_height, tile_width = (side // tiles for side in extended.shape[1:])
    tables = _tables(extended, tiles, clip)
    top, bottom, down = _neighbours(height, tile_height, tiles)
    left, right, across = _neighbours(width, tile_width, tiles)
    image = np.arange(len(levels))[:, None, None]

    def looked_up(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return tables[image, rows[:, None], columns, levels]

    upper = looked_up(top, left) * (1 - across) + looked_up(top, right) * across
    lower = looked_up(bottom, left) * (1 - across) + looked_up(bottom, right) * across
    mixed = upper * (1 - down[:, None]) + lower * down[:, None]
    return np.rint(mixed).clip(0, LEVELS - 1).astype(np.uint8)


def to_lab(rgb: Bytes) -> Bytes:
    """Red, green and blue as L, a and b."""
    matrix = np.rint((_TO_XYZ / _WHITE[:, None]) * 2**_MATRIX_BITS).astype(np.int64)
    xyz = _shifted(_light()[rgb] @ matrix.T, _MATRIX_BITS)
    x, y, z = np.moveaxis(_roots()[xyz], -1, 0)
    middle = 128 << _ROOT_BITS
    scaled = np.stack([_L_SLOPE * y + _L_OFFSET, 500 * (x - y) + middle, 200 * (y - z) + middle], axis=-1)
    return _shifted(scaled, _ROOT_BITS).clip(0, 255).astype(np.uint8)


def from_lab(lab: Bytes) -> Bytes:
    """L, a and b as red, green and blue; colours that screens don't have are clipped."""
    lightness, a, b = np.moveaxis(lab.astype(np.int64), -1, 0)
    light, root = _lightness()[:, lightness]
    # (a - 128) / 500 and (b - 128) / 200 as OpenCV approximates them.
    to_x = ((5 * 53687 * a + 2**7) >> 13) - 4194
    to_z = ((41943 * b + 2**4) >> 9) - 10484
    xyz = np.stack([_cubed(root + to_x), light, _cubed(root - to_z)], axis=-1)
    matrix = np.rint(_FROM_XYZ * _WHITE * 2**_MATRIX_BITS).astype(np.int64)
    places = _shifted(xyz @ matrix.T, _MATRIX_BITS + _BACK_BITS - _SCREEN_BITS)
    return _screen()[places.clip(0, 2**_SCREEN_BITS - 1)]


def _extended(levels: Levels, tiles: int) -> UInt8[np.ndarray, "images tall wide"]:
    sides = levels.shape[1:]
    if not any(side % tiles for side in sides):
        return levels
    return np.pad(levels, ((0, 0), *((0, tiles - side % tiles) for side in sides)), mode="reflect")


def _tables(levels: Levels, tiles: int, clip: float) -> UInt8[np.ndarray, "images tiles tiles 256"]:
    """Per tile, what becomes of each level."""
    num_images, height, width = levels.shape
    cells = levels.reshape(num_images, tiles, height // tiles, tiles, width // tiles).swapaxes(2, 3)
    cells = cells.reshape(num_images * tiles**2, -1)
    num_pixels = cells.shape[1]
    firsts = LEVELS * np.arange(len(cells))[:, None]
    counts = np.bincount((firsts + cells).ravel(), minlength=LEVELS * len(cells)).reshape(-1, LEVELS)
    counts = _limited(counts, max(int(clip * num_pixels / LEVELS), 1))
    scaled = counts.cumsum(axis=1).astype(np.float32) * np.float32((LEVELS - 1) / num_pixels)
    return np.rint(scaled).clip(0, LEVELS - 1).astype(np.uint8).reshape(num_images, tiles, tiles, LEVELS)


def _limited(counts: Int64[np.ndarray, "cells 256"], limit: int) -> Int64[np.ndarray, "cells 256"]:
    """Histograms of the same sums with at most `limit` per level, before what was cut off is dealt out."""
    excess = (counts - limit).clip(0).sum(axis=1, keepdims=True)
    everywhere, rest = np.divmod(excess, LEVELS)
    turn, is_between = np.divmod(np.arange(LEVELS), LEVELS // np.maximum(rest, 1))
    return np.minimum(counts, limit) + everywhere + ((is_between == 0) & (turn < rest))


def _neighbours(
    side: int, tile: int, tiles: int
) -> tuple[Int64[np.ndarray, " side"], Int64[np.ndarray, " side"], Float[np.ndarray, " side"]]:
    """The tiles with the nearest centres before and behind every pixel, and how far it is from one to the other."""
    # Not divided by the tile: what is interpolated may lie so close to a half that this decides.
    places = np.arange(side, dtype=np.float32) * np.float32(1 / tile) - np.float32(0.5)
    before = np.floor(places)
    first = before.astype(np.int64)
    return first.clip(0), (first + 1).clip(max=tiles - 1), places - before


@cache
def _light() -> Int64[np.ndarray, "256"]:
    """Light from sRGB's numbers."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.rint(_LIGHT * linear).astype(np.int64)


@cache
def _roots() -> Int64[np.ndarray, " light"]:
    """Cube roots of light."""
    light = np.arange(_LIGHT + 1) / _LIGHT
    roots = np.where(light < _LINEAR_BELOW, _LINEAR_SLOPE * light + _LINEAR_OFFSET, np.cbrt(light))
    # In float32 two of them come to lie halfway between integers, and are rounded to even ones.
    roots = roots.astype(np.float32)
    return np.rint(2**_ROOT_BITS * roots).astype(np.int64)


@cache
def _lightness() -> Int64[np.ndarray, "2 256"]:
    """The light of every L, and its cube root."""
    lightness = np.arange(256)
    root = (lightness * 100 / 255 + 16) / 116
    is_linear = lightness <= _LAST_LINEAR_L
    light = np.where(is_linear, (root - _LINEAR_OFFSET) / _LINEAR_SLOPE, root**3)
    return np.rint(2**_BACK_BITS * np.stack([light, root])).astype(np.int64)


@cache
def _screen() -> UInt8[np.ndarray, " light"]:
    """sRGB's numbers of light."""
    light: Float[np.ndarray, " light"] = np.arange(2**_SCREEN_BITS) / 2**_SCREEN_BITS
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


def _cubed(roots: Int64[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
    """Light of cube roots, cut off towards zero."""
    linear = np.sign(roots) * (np.abs(roots) * 108 // 841) - _LINEAR_ZERO
    return np.where(roots <= _LAST_LINEAR_ROOT, linear, (roots**2 >> _BACK_BITS) * roots >> _BACK_BITS)


def _shifted(values: Int64[np.ndarray, "*shape"], bits: int) -> Int64[np.ndarray, "*shape"]:
    """Divided by 2^bits; halves are rounded up."""
    return (values + (1 << (bits - 1))) >> bits
