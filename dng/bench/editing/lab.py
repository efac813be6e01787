"""The CIE colour space L*a*b* in 8 bits per number: lightness, green to red, blue to yellow.

As OpenCV scales it: L is 0..255 for 0..100, a and b are shifted by 128; sRGB primaries and gamma, white point D65.
Computed in float64 and rounded once, where OpenCV has tables of integers: a number may differ by one.
"""

import numpy as np
from jaxtyping import Float, UInt8

_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.950456, 1.0, 1.088754])
_LINEAR_SLOPE, _LINEAR_OFFSET = 7.787, 16 / 116
_LINEAR_BELOW = 0.008856

Bytes = UInt8[np.ndarray, "*shape 3"]
Numbers = Float[np.ndarray, "*shape 3"]


def to_lab(rgb: Bytes) -> Bytes:
    """Red, green and blue as L, a and b."""
    x, y, z = np.moveaxis(_compressed(_linear(rgb / 255) @ _TO_XYZ.T / _WHITE), -1, 0)
    lightness, a, b = 116 * y - 16, 500 * (x - y), 200 * (y - z)
    return _to_bytes(np.stack([lightness * 255 / 100, a + 128, b + 128], axis=-1))


def from_lab(lab: Bytes) -> Bytes:
    """L, a and b as red, green and blue; colours that screens don't have are clipped."""
    lightness, a, b = np.moveaxis(lab.astype(np.float64), -1, 0)
    y = (lightness * 100 / 255 + 16) / 116
    xyz = _expanded(np.stack([y + (a - 128) / 500, y, y - (b - 128) / 200], axis=-1)) * _WHITE
    return _to_bytes(255 * _encoded((xyz @ np.linalg.inv(_TO_XYZ).T).clip(0, 1)))


def _linear(encoded: Numbers) -> Numbers:
    """Light from sRGB's numbers."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _encoded(linear: Numbers) -> Numbers:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _compressed(light: Numbers) -> Numbers:
    """The cube root, with a straight line near zero."""
    return np.where(light > _LINEAR_BELOW, np.cbrt(light), _LINEAR_SLOPE * light + _LINEAR_OFFSET)


def _expanded(root: Numbers) -> Numbers:
    return np.where(root > np.cbrt(_LINEAR_BELOW), root**3, (root - _LINEAR_OFFSET) / _LINEAR_SLOPE)


def _to_bytes(values: Numbers) -> Bytes:
    return np.rint(values).clip(0, 255).astype(np.uint8)
