from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zootool.loader.order import OrderConfig, Population, epoch_order, num_batches

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def population(sizes: list[int], block: int = 7) -> Population:
    bounds = np.cumsum([0, *sizes])
    buckets = tuple(np.arange(a, b) for a, b in pairwise(bounds))
    return Population(buckets, np.arange(bounds[-1]) // block)


@given(
    SIZES, st.integers(1, 9), st.integers(1, 4), st.booleans(), st.booleans(), st.none() | st.integers(1, 30),
    st.integers(0, 5),
)  # fmt: skip
def test_ranks_share_every_network_once(
    sizes: list[int], batch_size: int, world_size: int, shuffle: bool, drop_last: bool, window: int | None, epoch: int
) -> None:
    everything = population(sizes)
    seen: list[int] = []
    for rank in range(world_size):
        config = OrderConfig(batch_size, shuffle, 3, rank, world_size, drop_last, window)
        order = epoch_order(everything, config, epoch)
        assert len(order) == num_batches(everything, config)
        for index in range(len(order)):
            batch = order.batch(index)
            assert 1 <= len(batch) <= batch_size
            assert len(batch) == batch_size or not drop_last
            assert sum(bool(np.isin(batch, bucket).any()) for bucket in everything.buckets) == 1
        windows = [order.window(n) for n in np.unique(order.windows)]
        assert np.array_equal(np.concatenate([order.positions[:0], *windows]), order.positions)
        seen += order.positions.tolist()
        if drop_last:
            assert len(order) == sum(size // world_size // batch_size for size in sizes)
    assert len(seen) == len(set(seen))
    if not drop_last:
        assert sorted(seen) == list(range(sum(sizes)))


@given(SIZES, st.integers(0, 2**64 - 1), st.none() | st.integers(1, 30))
def test_seed_and_epoch_settle_the_order(sizes: list[int], seed: int, window: int | None) -> None:
    config = OrderConfig(4, True, seed, window=window)
    first, second = (epoch_order(population(sizes), config, 2) for _ in range(2))
    assert np.array_equal(first.positions, second.positions)
    assert np.array_equal(first.bounds, second.bounds)


def test_epochs_and_seeds_differ() -> None:
    everything = population([100])
    orders = [
        epoch_order(everything, OrderConfig(10, True, seed), epoch).positions.tolist()
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({tuple(order) for order in orders}) == 3


def test_without_shuffle_the_order_is_the_stores() -> None:
    assert epoch_order(population([30]), OrderConfig(8), 0).positions.tolist() == list(range(30))


def test_windows_mix_within_and_read_blocks_together() -> None:
    order = epoch_order(population([700], block=10), OrderConfig(10, True, window=100), 0)
    assert len(np.unique(order.windows)) == 7
    for number in range(7):
        window = order.window(number)
        assert len(np.unique(window // 10)) == 10
        assert not np.array_equal(window, np.sort(window))


def test_weights_draw_with_replacement_in_proportion() -> None:
    odds = np.zeros(1000)
    odds[:10] = 3.0
    odds[10:20] = 1.0
    everything = Population((np.arange(500), np.arange(500, 1000)), None, odds)
    drawn = epoch_order(everything, OrderConfig(16, True), 0).positions
    assert len(drawn) == 1000
    assert drawn.max() < 20
    assert 650 < (drawn < 10).sum() < 850


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"batch_size": 0}, "batch_size"), ({"rank": 2, "world_size": 2}, "rank"), ({"window": 0}, "window")],
)
def test_impossible_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(OrderConfig(4), **arguments)
