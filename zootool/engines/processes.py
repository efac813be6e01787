"""Jobs in worker processes of this machine, each with a pipe of its own to this one.

A worker that dies takes only its job's time with it: the job goes to a new worker. When this process dies, by
whatever signal, its workers end at once, so that no claim outlives it.
"""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import Thread
from typing import Any

from zootool.engines.job import Advance, Job, OutcomeT
from zootool.errors import MissingError

MAX_DEATHS = 3


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job[Any] | None = None
    advanced: int = 0


class ProcessEngine:
    """An engine of `num_workers` processes that share out each job's threads."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers

    def __call__(self, jobs: Iterable[Job[OutcomeT]], advance: Advance) -> Iterator[OutcomeT]:
        """Run `jobs`. Raises what a job raises, and MissingError for one whose workers keep dying."""
        source = iter(jobs)
        again: deque[Job[OutcomeT]] = deque()
        deaths: dict[int, int] = {}
        workers: list[_Worker] = []
        try:
            while True:
                self._hand_out(source, again, workers)
                if not workers:
                    return
                ready = connection.wait([worker.pipe for worker in workers])
                for worker in [worker for worker in workers if worker.pipe in ready]:
                    outcome = _receive(worker, advance)
                    if worker.pipe.closed:
                        workers.remove(worker)
                        again.append(_lost(worker, deaths))
                        advance(-worker.advanced)
                    elif outcome is not None:
                        worker.job, worker.advanced = None, 0
                        yield outcome
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()
                worker.pipe.close()

    def _hand_out(self, source: Iterator[Job[Any]], again: deque[Job[Any]], workers: list[_Worker]) -> None:
        """Give every idle worker a job, start workers while there are jobs, and let idle ones go at the end."""
        idle = [worker for worker in workers if worker.job is None]
        while idle or len(workers) < self.num_workers:
            job = again.popleft() if again else next(source, None)
            if job is None:
                break
            if not idle:
                idle.append(_start())
                workers.append(idle[-1])
            worker = idle.pop()
            worker.job = replace(job, threads=max(1, job.threads // self.num_workers))
            with suppress(BrokenPipeError):  # a worker that died while idle shows when it is waited for
                worker.pipe.send(worker.job)
        for worker in idle:
            workers.remove(worker)
            worker.pipe.close()
            worker.process.join()


def _start() -> _Worker:
    # A forked child would inherit locks that other threads hold.
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _receive(worker: _Worker, advance: Advance) -> Any:
    """A worker's outcome, if that is what it says; closes the pipe of a dead one."""
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError):
        worker.pipe.close()
        worker.process.join()
        return None
    if isinstance(message, BaseException):
        raise message
    if isinstance(message, int):
        worker.advanced += message
        advance(message)
        return None
    return message


def _lost(worker: _Worker, deaths: dict[int, int]) -> Job[Any]:
    job = worker.job
    assert job is not None
    deaths[job.number] = deaths.get(job.number, 0) + 1
    if deaths[job.number] >= MAX_DEATHS:
        raise MissingError(
            f"{job.label} lost its worker {MAX_DEATHS} times (exit code {worker.process.exitcode})",
            hint="the machine may lack memory: try fewer --workers, or smaller units (--set unit_size=N)",
        )
    return job


def _work(pipe: Connection) -> None:
    # Ctrl-C reaches the whole group: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(job.run(pipe.send))
        except Exception as error:
            pipe.send(error)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
