"""Engines hand out units and collect what became of them; the receipts in the folder are the truth."""

from collections.abc import Callable, Iterable, Iterator

from zootool.build.work import UnitJob, UnitOutcome, build_unit

Advance = Callable[[int], None]
Engine = Callable[[Iterable[UnitJob], Advance], Iterator[UnitOutcome]]


def run_here(jobs: Iterable[UnitJob], advance: Advance) -> Iterator[UnitOutcome]:
    """Build units one after the other in this process, each with all its threads."""
    for job in jobs:
        yield build_unit(job, advance)
