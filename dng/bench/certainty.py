"""What a score on few networks is worth: how many it takes to be quoted, and the interval that it leaves open."""

from collections import Counter
from collections.abc import Collection

from scipy.stats import binomtest

MIN_TESTED = 10
"""Fewer test networks (or runs) give no number that anybody should quote."""


def too_few(count: int, what: str, is_open: bool = False) -> str:
    """Why a score on `count` test networks isn't quoted, or nothing; `is_open`: its interval leaves nearly all open."""
    return f"{count} {what}: too few" if count < MIN_TESTED or is_open else ""


def largest_share(labels: Collection[int]) -> float:
    """The share of the most frequent class: the accuracy of naming that one every time."""
    return max(Counter(labels).values()) / len(labels)


def accuracy_interval(accuracy: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy measured on `count` networks: what other test networks could give."""
    found = binomtest(round(accuracy * count), count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
