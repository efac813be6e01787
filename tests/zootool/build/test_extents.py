import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zootool.build.extents import (
    Extent,
    RunsExtent,
    extent_of,
    first_smaller_key,
    parse_limit,
    parse_share,
    units_of_images,
    units_of_runs,
)
from zootool.errors import UsageError

SPLIT = np.array(["train"] * 6 + ["validation"] * 2 + [""] + ["test"] * 3)


def networks(units: list) -> list[tuple[int, int]]:
    return [(int(p), int(c)) for unit in units for p, c in zip(unit.networks, unit.parts, strict=True)]


def test_limits_count_images_from_the_front_or_per_split() -> None:
    assert extent_of(SPLIT, None, 2) == Extent(train=6, validation=2, test=3, unsplit=1, copies=2)
    assert extent_of(SPLIT, 7, 0) == Extent(train=6, validation=1, test=0, unsplit=0, copies=0)
    assert extent_of(SPLIT, (2, 9, 1), 0) == Extent(train=2, validation=2, test=1, unsplit=0, copies=0)


def test_only_training_images_have_copies() -> None:
    units = units_of_images([extent_of(SPLIT, (2, 1, 0), 2)], SPLIT, unit_size=4)
    assert networks(units) == [(0, 0), (1, 0), (6, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert [len(unit) for unit in units] == [4, 3]


def test_the_full_cifar_recipe_has_510_000_networks() -> None:
    split = np.array(["train"] * 45_000 + ["validation"] * 5_000 + ["test"] * 10_000)
    extent = extent_of(split, None, 10)
    assert extent.num_networks == 510_000
    assert sum(map(len, units_of_images([extent], split, 256))) == 510_000


grown = st.lists(st.tuples(*[st.integers(0, 7)] * 3, st.integers(0, 3)), min_size=1, max_size=4)


@given(grown, st.integers(1, 5))
def test_extensions_keep_every_earlier_unit_and_add_what_is_missing(steps: list, unit_size: int) -> None:
    sizes = np.maximum.accumulate(np.array(steps), axis=0)
    extents = [extent_of(SPLIT, (int(a), int(b), int(c)), int(copies)) for a, b, c, copies in sizes]
    units = units_of_images(extents, SPLIT, unit_size)
    earlier = units_of_images(extents[:-1], SPLIT, unit_size)
    assert networks(units[: len(earlier)]) == networks(earlier)
    assert [unit.number for unit in units] == list(range(len(units)))
    found = networks(units)
    assert len(found) == len(set(found)) == extents[-1].num_networks
    assert sorted(found) == sorted(networks(units_of_images(extents[-1:], SPLIT, unit_size)))


def test_a_smaller_request_is_named() -> None:
    small, large = extent_of(SPLIT, (2, 1, 1), 0), extent_of(SPLIT, (3, 1, 1), 1)
    assert first_smaller_key(small, large) is None
    assert first_smaller_key(large, small) == "train"


def test_limits_are_one_number_or_three() -> None:
    assert parse_limit("64") == 64
    assert parse_limit("3,2,1") == (3, 2, 1)
    assert parse_limit(None) is None
    for text in ("-1", "3,2", "x", "", "1,2,-3"):
        with pytest.raises(UsageError, match="--limit"):
            parse_limit(text)


def test_shares_count_from_zero() -> None:
    assert parse_share("0/4") == (0, 4)
    assert parse_share(None) is None
    for text in ("4/4", "1", "-1/4", "1/0", "a/b"):
        with pytest.raises(UsageError, match="--unit"):
            parse_share(text)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 9))
def test_more_runs_keep_every_earlier_unit_and_its_splits(steps: list[int], unit_size: int) -> None:
    extents = [RunsExtent(runs=int(runs)) for runs in np.cumsum(steps)]
    units = units_of_runs(extents, (0.7, 0.15, 0.15), unit_size)
    earlier = units_of_runs(extents[:-1], (0.7, 0.15, 0.15), unit_size)
    for old, new in zip(earlier, units, strict=False):
        assert np.array_equal(old.networks, new.networks)
        assert np.array_equal(old.parts, new.parts)
    assert np.concatenate([unit.networks for unit in units]).tolist() == list(range(sum(steps)))
    assert max(map(len, units)) <= unit_size
    assert [unit.number for unit in units] == list(range(len(units)))


def test_runs_are_cut_by_the_ratios_in_order() -> None:
    split = np.concatenate([unit.parts for unit in units_of_runs([RunsExtent(runs=1000)], (0.8, 0.1, 0.1), 64)])
    assert split.tolist() == ["train"] * 800 + ["validation"] * 100 + ["test"] * 100
    assert first_smaller_key(RunsExtent(runs=5), RunsExtent(runs=4)) == "runs"
