"""Engines hand out jobs and collect what became of them; what lies in the folder is the truth."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Protocol, runtime_checkable

from zootool.engines.job import Advance, Job, OutcomeT
from zootool.errors import UsageError, did_you_mean


@runtime_checkable
class Engine(Protocol):
    """Runs jobs in any order, on any machine that sees the folder; calls `advance(n)` when n more steps are done."""

    def __call__(self, jobs: Iterable[Job[OutcomeT]], advance: Advance) -> Iterator[OutcomeT]: ...


ENGINES = ("local", "ray")


def run_here(jobs: Iterable[Job[OutcomeT]], advance: Advance) -> Iterator[OutcomeT]:
    """Run jobs one after the other in this process, each with all the threads that it names."""
    for job in jobs:
        yield job.run(advance)


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
        from zootool.engines.on_ray import RayEngine

        return RayEngine(address, workers, gpu_fraction)
    if name != "local":
        raise UsageError(f"unknown engine {name!r}", hint=did_you_mean(name, ENGINES))
    if address is not None:
        raise UsageError("--address is for --engine ray", hint="leave it out")
    if workers is None or workers == 1:
        return run_here
    from zootool.engines.processes import ProcessEngine

    return ProcessEngine(workers)


def run_on_threads(work: Callable[[int], int], count: int, threads: int, advance: Advance) -> None:
    """Call `work` with 0 to `count` - 1 in threads, for what gives the GIL back; it returns the steps that are done.

    Threads of Python stand where a parallel loop inside compiled code could: they let progress and Ctrl-C through, and
    get along with other callers in the process and with forks.
    """
    with ThreadPoolExecutor(max(1, threads)) as pool:
        running = {pool.submit(work, index) for index in range(count)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                advance(sum(future.result() for future in done))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
