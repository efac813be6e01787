"""Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

A network's numbers are a function of its seed, image and copy, whatever is drawn before it, beside it or elsewhere.
"""

import numpy as np
from jaxtyping import Float32, UInt32

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_LOW = np.uint64(_WORD)
_SHIFT = np.uint64(32)
_HALF_RANGE = np.float32(2**23)

MAX_SEED = 2**63 - 1


def philox(seed: int, counters: UInt32[np.ndarray, "... 4"]) -> UInt32[np.ndarray, "... 4"]:
    """Four random words for each counter; the low half of `seed` is the first key word, the high half the second."""
    c0, c1, c2, c3 = (counters[..., i].astype(np.uint64) for i in range(4))
    key = [seed & _WORD, seed >> 32 & _WORD]
    for _ in range(_ROUNDS):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1 = (product1 >> _SHIFT) ^ c1 ^ np.uint64(key[0]), product1 & _LOW
        c2, c3 = (product0 >> _SHIFT) ^ c3 ^ np.uint64(key[1]), product0 & _LOW
        key = [(k + step) & _WORD for k, step in zip(key, _KEY_STEPS, strict=True)]
    return np.stack((c0, c1, c2, c3), axis=-1).astype(np.uint32)


def random_words(
    seed: int, streams: UInt32[np.ndarray, "streams 3"], num_words: int
) -> UInt32[np.ndarray, "streams words"]:
    """`num_words` words for each stream: the blocks of the counters (0, *stream), (1, *stream), ..."""
    num_blocks = -(-num_words // 4)
    counters = np.empty((len(streams), num_blocks, 4), np.uint32)
    counters[..., 0] = np.arange(num_blocks, dtype=np.uint32)
    counters[..., 1:] = streams[:, None, :]
    return philox(seed, counters).reshape(len(streams), -1)[:, :num_words]


def stream_words(seed: int, stream: tuple[int, int, int], num_words: int) -> UInt32[np.ndarray, " words"]:
    """`num_words` words of a single stream."""
    return random_words(seed, np.array([stream], np.uint32), num_words)[0]


def uniform(words: UInt32[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Numbers of [-1, 1), all multiples of 2**-23, from the 24 high bits of each word: exact in float32."""
    return ((words >> np.uint32(8)).astype(np.float32) - _HALF_RANGE) / _HALF_RANGE


def derived_seed(seed: int, attempt: int) -> int:
    """The seed that a network is fitted with again when `seed` led it out of the finite numbers."""
    words = philox(seed, np.array([attempt, _WORD, _WORD, _WORD - 1], np.uint32))
    return (int(words[1]) << 32 | int(words[0])) & MAX_SEED
