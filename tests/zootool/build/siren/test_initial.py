import numpy as np
import pytest

from zootool.build.siren.settings import FitSettings, initial_weights, shared_weights

SETTINGS = FitSettings((4, 4), 3)
FIRST_NUMBERS = ["-0x1.9d81800000000p-4", "0x1.85a7140000000p-2"]


def test_a_network_starts_the_same_in_any_company() -> None:
    index, copy = np.array([5, 9, 5]), np.array([0, 0, 1])
    together = initial_weights(SETTINGS, 3, index, copy)
    assert np.array_equal(together[1:2], initial_weights(SETTINGS, 3, index[1:2], copy[1:2]))
    assert len({row.tobytes() for row in together}) == 3
    assert not np.array_equal(together[0], initial_weights(SETTINGS, 4, index[:1], copy[:1])[0])


def test_every_layer_fills_its_bounds() -> None:
    weights = initial_weights(SETTINGS, 0, np.arange(200), np.zeros(200, np.int64))
    bounds = [1 / 2, 2**-0.5, (6 / 32) ** 0.5 / 30, 32**-0.5, (6 / 32) ** 0.5 / 30, 32**-0.5]
    for piece, bound in zip(SETTINGS.split(weights), bounds, strict=True):
        assert np.abs(piece).max() == pytest.approx(bound, rel=0.02)
        assert np.abs(piece).max() <= np.float32(bound)
        assert abs(piece.mean()) < bound / 15


def test_the_bytes_of_an_initialisation_stay_what_they_are() -> None:
    # Published zoos are made from these numbers: a change here would make them irreproducible.
    start = initial_weights(SETTINGS, 0, np.array([0]), np.array([0]))[0]
    assert [float(number).hex() for number in start[:2]] == FIRST_NUMBERS


def test_shared_weights_come_from_the_seed_alone() -> None:
    shared = shared_weights(SETTINGS, 0, 3)
    assert (shared == shared[0]).all()
    assert not np.array_equal(shared[0], shared_weights(SETTINGS, 1, 1)[0])
