import numpy as np
import pytest

from zootool.build.philox import MAX_SEED, derived_seed, philox, random_words, uniform

# The known answers that come with the authors' own implementation.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_known_answers(counter: tuple, key: tuple, words: tuple) -> None:
    found = philox(key[0] | key[1] << 32, np.array(counter, np.uint32))
    assert found.tolist() == list(words)


def test_a_stream_does_not_depend_on_its_neighbours_or_on_how_much_is_drawn() -> None:
    streams = np.array([[1, 2, 3], [4, 5, 6]], np.uint32)
    both = random_words(7, streams, 10)
    assert np.array_equal(both[1:, :5], random_words(7, streams[1:], 5))
    assert not np.array_equal(both[0], both[1])


def test_uniform_numbers_fill_the_interval_evenly() -> None:
    words = random_words(0, np.zeros((1, 3), np.uint32), 100_000)[0]
    numbers = uniform(words)
    assert numbers.dtype == np.float32
    assert numbers.min() >= -1
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=10, range=(-1, 1))[0]
    assert np.abs(counts - 10_000).max() < 500
    ends = uniform(np.array([0, 0xFFFFFFFF], np.uint32))
    assert ends.tolist() == [-1.0, 1 - 2**-23]


def test_derived_seeds_are_seeds_of_their_own() -> None:
    derived = {derived_seed(seed, attempt) for seed in (0, 1, MAX_SEED) for attempt in (1, 2)}
    assert len(derived) == 6
    assert all(0 <= seed <= MAX_SEED for seed in derived)
