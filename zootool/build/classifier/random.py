"""Philox words inside compiled code, the same that `zootool.build.philox` gives, and the dropout drawn from them."""

import numpy as np
from jaxtyping import UInt64

from zootool.build.classifier.streams import DROPOUT
from zootool.build.siren.lanes import jit
from zootool.build.siren.products import ZERO, Numbers

_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEP_0, _STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@jit
def philox_words(seed: int, counter: UInt64[np.ndarray, " 4"]) -> None:
    """Replace a counter by its four words."""
    key0, key1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _SHIFT
    c0, c1, c2, c3 = counter[0], counter[1], counter[2], counter[3]
    for _ in range(10):
        product0, product1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1 = (product1 >> _SHIFT) ^ c1 ^ key0, product1 & _LOW
        c2, c3 = (product0 >> _SHIFT) ^ c3 ^ key1, product0 & _LOW
        key0, key1 = (key0 + _STEP_0) & _LOW, (key1 + _STEP_1) & _LOW
    counter[0], counter[1], counter[2], counter[3] = c0, c1, c2, c3


@jit
def keep_mask(mask: Numbers, dropout: float, seed: int, run: int, epoch: int, block: int) -> None:
    """Zeros where a number is dropped, else 1 / (1 - dropout), for the images from place `block` of an epoch's order.

    Word i of the stream (run, epoch, DROPOUT + 256 block) decides about number i.
    """
    kept = np.float32(1 / (1 - dropout))
    threshold = np.uint64(dropout * 2.0**32)
    counter = np.zeros(4, np.uint64)
    for i in range(0, len(mask), 4):
        counter[0], counter[1] = np.uint64(i // 4), np.uint64(run)
        counter[2], counter[3] = np.uint64(epoch), np.uint64(DROPOUT + 256 * block)
        philox_words(seed, counter)
        for j in range(4):
            mask[i + j] = ZERO if counter[j] < threshold else kept
