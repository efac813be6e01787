import pytest

from dng.bench.certainty import MIN_TESTED, accuracy_interval, largest_share, too_few
from dng.bench.published_numbers import ALL, LAST, SCORED


def test_intervals_are_wilsons() -> None:
    # Wilson (1927) for 9 of 10 and for 0 of 10, by hand.
    assert accuracy_interval(0.9, 10) == pytest.approx((0.59585, 0.98212), abs=1e-5)
    assert accuracy_interval(0.0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)


def test_scores_on_few_networks_are_not_quoted() -> None:
    assert too_few(MIN_TESTED - 1, "test runs") == "9 test runs: too few"
    assert too_few(MIN_TESTED, "test runs") == ""
    assert too_few(100, "test runs", is_open=True) == "100 test runs: too few"


def test_the_most_frequent_class_has_its_share() -> None:
    assert largest_share([3, 3, 3, 1]) == 0.75


def test_published_taus_are_over_what_their_protocols_keep() -> None:
    # The Small CNN Zoo's protocol keeps step 86, each run's last; the Wild Park's scores every checkpoint.
    assert SCORED == {"cifar10": LAST, "svhn": LAST, "cnn-wild-park": ALL, "simple-vit-zoo": ALL}
