"""Engines hand out units and collect what became of them; the receipts in the folder are the truth."""

from collections.abc import Callable, Iterable, Iterator

from zootool.build.work import UnitJob, UnitOutcome, build_unit
from zootool.errors import UsageError, did_you_mean

Advance = Callable[[int], None]
Engine = Callable[[Iterable[UnitJob], Advance], Iterator[UnitOutcome]]
"""Builds jobs in any order, on any machine that sees the folder; calls `advance(n)` when n more networks are done."""

ENGINES = ("local", "ray")


def build_here(jobs: Iterable[UnitJob], advance: Advance) -> Iterator[UnitOutcome]:
    """Build units one after the other in this process, each with all the threads that its job names."""
    for job in jobs:
        yield build_unit(job, advance)


def choose_engine(
    name: str = "local", *, workers: int | None = None, address: str | None = None, gpu_fraction: float = 1.0
) -> Engine:
    """The engine called `name`: "local" with `workers` processes, or "ray" at `address`.

    One local worker, the default, is this process, whose threads keep all processors busy. Raises UsageError, and
    MissingError where Ray is not installed.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1, got {workers}", hint="leave it out for the default")
    if name == "ray":
        from zootool.build.on_ray import RayEngine

        return RayEngine(address, workers, gpu_fraction)
    if name != "local":
        raise UsageError(f"unknown engine {name!r}", hint=did_you_mean(name, ENGINES))
    if address is not None:
        raise UsageError("--address is for --engine ray", hint="leave it out")
    if workers is None or workers == 1:
        return build_here
    from zootool.build.processes import ProcessEngine

    return ProcessEngine(workers)
