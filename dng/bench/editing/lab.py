"""The CIE colour space L*a*b* in 8 bits per number: lightness, green to red, blue to yellow.

L is 0..255 for 0..100, a and b are shifted by 128; sRGB primaries and gamma, white point D65. Published targets come
from OpenCV, which computes in integers of few bits, and to the last bit so does this: CLAHE makes two levels or more of
a difference of one. Checked on all 256^3 colours, both ways, against OpenCV 4.14 and 5.0.
"""

from functools import cache

import numpy as np
from jaxtyping import Float, Int64, UInt8

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

Bytes = UInt8[np.ndarray, "*shape 3"]


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
