"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn: real images without a download."""

from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

_LARGEST_VALUE = 16


def read_digits() -> tuple[UInt8[np.ndarray, "images 8 8 1"], Int64[np.ndarray, " images"]]:
    """Pixels and labels. The set's 0..16 become 0..255 by round(value * 255 / 16), halves to even."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()  # declared as a union of a tuple and a bunch
    pixels = np.rint(digits.images * 255 / _LARGEST_VALUE).astype(np.uint8)
    return pixels[..., None], digits.target.astype(np.int64)
