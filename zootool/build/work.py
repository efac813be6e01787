"""The unit of work: everything that a process on any machine needs to build one unit, and what it says afterwards.

`UnitJob` is the one interface of all kinds of networks: claims, receipts and restarts know nothing else.
"""

import platform
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zootool.build.units import Receipt, Unit, UnitGroup, write_unit
from zootool.engines.claims import Claims
from zootool.engines.job import Advance, Job, Outcome

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class UnitOutcome(Outcome):
    """What became of a unit, in networks."""

    num_networks: int = 0
    num_refitted: int = 0
    num_diverged: int = 0


@dataclass(frozen=True, eq=False)
class BuiltUnit:
    """A unit's content: tensors and table as in `zootool.build.units`, and what the receipt says about them.

    `made_by` names the program and the device, `packages` those whose versions matter to the bytes.
    """

    tensors: Mapping[str, np.ndarray]
    table: "pa.Table"
    made_by: str
    packages: tuple[str, ...]
    num_refitted: int = 0
    num_diverged: int = 0
    groups: tuple[UnitGroup, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class UnitJob(Job[UnitOutcome]):
    """One unit to build. Each kind of network has its own job."""

    @abstractmethod
    def __len__(self) -> int:
        """Networks to be trained; one with several checkpoints counts once."""

    @abstractmethod
    def build(self, advance: Advance) -> BuiltUnit:
        """Train the networks; `advance(n)` is called when n more are done."""

    def run(self, advance: Advance = lambda count: None) -> UnitOutcome:
        """Build a unit and write its files, unless another process has the unit or has finished it."""
        with Claims(self.folder) as claims, claims.unit(self.number) as held:
            if not held:
                return UnitOutcome(self.number, "claimed")
            if Unit(self.folder, self.number).is_sound():
                advance(len(self))
                return UnitOutcome(self.number, "found", len(self))
            receipt = _build(self, advance)
        return UnitOutcome(self.number, "built", len(self), receipt.num_refitted, receipt.num_diverged)


def _build(job: UnitJob, advance: Advance) -> Receipt:
    started = time.monotonic()
    built = job.build(advance)
    details = {
        "num_networks": len(job),
        "num_refitted": built.num_refitted,
        "num_diverged": built.num_diverged,
        "seconds": round(time.monotonic() - started, 3),
        "threads": job.threads,
        "device": built.made_by,
        "versions": {name: version(name) for name in built.packages},
        "groups": built.groups,
    }
    return write_unit(job.folder, job.number, built.tensors, built.table, details)


def device_name(device: str) -> str:
    """The processor's name, or the GPU's."""
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
