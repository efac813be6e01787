"""Contenders run in turn: what slows the machine down slows all of them, so that ratios hold where rates don't."""

import statistics
import time
from collections.abc import Callable, Mapping

ROUNDS = 5

Run = Callable[[], float]
"""Does some work and returns its amount: networks, or megabytes."""


def compare(title: str, unit: str, contenders: Mapping[str, Run], reference: str) -> dict[str, list[float]]:
    """Run all in turn, `ROUNDS` times; print median rates and the median ratio to the reference; return the rates."""
    rounds = [{name: rate(run) for name, run in contenders.items()} for _ in range(ROUNDS)]
    rates = {name: [each[name] for each in rounds] for name in contenders}
    print(f"\n| {title} | {unit} | times {reference} |\n| --- | --- | --- |")
    for name, own in rates.items():
        print(f"| {name} | {statistics.median(own):,.0f} | {median_ratio(own, rates[reference]):.3g} |")
    return rates


def amounting_to(amount: float, run: Callable[[], object]) -> Run:
    """`run`, whose work has this amount."""

    def counted() -> float:
        run()
        return amount

    return counted


def rate(run: Run) -> float:
    """Amount per second."""
    started = time.perf_counter()
    amount = run()
    return amount / (time.perf_counter() - started)


def median_ratio(rates: list[float], reference: list[float]) -> float:
    """The median over the rounds of how many times faster than the reference."""
    return statistics.median(own / other for own, other in zip(rates, reference, strict=True))
