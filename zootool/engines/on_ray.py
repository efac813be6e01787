"""Jobs as Ray tasks, on any node that sees the folder. Needs the extra `ray`."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from zootool.engines.job import Advance, Job, OutcomeT
from zootool.errors import MissingError

MAX_RETRIES = 5


class RayEngine:
    """An engine of one task per job: one CPU each, and on a GPU `gpu_fraction` of one.

    `address` is an existing cluster's; without one Ray is started here, unless the caller has. `num_workers` bounds
    the tasks that are handed out at a time, by default twice the cluster's CPUs. A task is tried again when its worker
    or node dies.
    """

    def __init__(self, address: str | None = None, num_workers: int | None = None, gpu_fraction: float = 1.0) -> None:
        if find_spec("ray") is None:
            raise MissingError("Ray is not installed", hint="pip install 'zootool[ray]', or --engine local")
        self.address = address
        self.num_workers = num_workers
        self.gpu_fraction = gpu_fraction

    def __call__(self, jobs: Iterable[Job[OutcomeT]], advance: Advance) -> Iterator[OutcomeT]:
        """Run `jobs`. Raises what a job raises, and MissingError where the cluster can't be reached."""
        ray = import_module("ray")
        self._connect(ray)
        source = iter(jobs)
        limit = self.num_workers or max(1, 2 * int(ray.cluster_resources().get("CPU", 1)))
        running: dict[Any, Job[OutcomeT]] = {}
        while True:
            while len(running) < limit and (job := next(source, None)) is not None:
                num_gpus = 0.0 if job.device == "cpu" else self.gpu_fraction
                submit = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=MAX_RETRIES)(_run).remote
                running[submit(replace(job, folder=job.folder.resolve(), threads=1))] = job
            if not running:
                return
            (done, *_), _ = ray.wait(list(running))
            job = running.pop(done)
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                hint = "look at the cluster's logs, then run the same command again"
                raise MissingError(f"{job.label} lost its worker {MAX_RETRIES + 1} times", hint=hint) from error
            advance(len(job) if outcome.state != "claimed" else 0)
            yield outcome

    def _connect(self, ray: Any) -> None:
        if ray.is_initialized():
            return
        try:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError) as error:
            hint = "check --address, or leave it out to start Ray here"
            raise MissingError(f"no Ray cluster at {self.address}: {error}", hint=hint) from error


def _run(job: Job[OutcomeT]) -> OutcomeT:
    return job.run(lambda count: None)
