"""Several processes that train one model together, as `torchrun` starts them.

Every rank holds the whole model and sees its part of each batch; gradients are averaged over the batch's items, so
that the ranks take the steps that one process would take with the whole batch. torch's DistributedDataParallel
averages over ranks instead, which differs where a batch can't be split evenly.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zootool.errors import BadDataError, UsageError


@dataclass(frozen=True)
class Shard:
    """One rank's part of a batch. `share` is its fraction of the batch's items; at 0 there is nothing in it."""

    batch: Any
    share: float


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world_size` that train together."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes, validates and speaks."""
        return self.rank == 0

    @property
    def seed_keys(self) -> tuple[int | str, ...]:
        """What the ranks' dropout seeds differ by; the first rank draws what a single process does."""
        return () if self.is_first else ("rank", self.rank)

    def wait(self) -> None:
        """Return when all ranks have come here."""
        if self.world_size > 1:
            dist.barrier()

    def check_same(self, name: str, value: int, device: torch.device) -> None:
        """Raise BadDataError on every rank unless all have the same `value`."""
        if self.world_size == 1:
            return
        bounds = torch.tensor([value, -value], device=device)
        dist.all_reduce(bounds, dist.ReduceOp.MAX)
        largest, smallest = bounds[0].item(), -bounds[1].item()
        if largest != smallest:
            raise BadDataError(
                f"the ranks begin at different values of {name}: {smallest} to {largest}",
                hint="put the run's folder where all of them see the same files",
            )

    def average(self, parameters: Sequence[nn.Parameter], loss: Tensor, share: float) -> Tensor:
        """Put the whole batch's gradients in place of this rank's, and return the whole batch's mean loss."""
        if self.world_size == 1:
            return loss
        has_gradient = [p.grad is not None for p in parameters]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        present = torch.tensor(has_gradient, dtype=loss.dtype, device=loss.device)
        parts = [share * loss.reshape(1), *(share * gradient.flatten() for gradient in gradients), present]
        flat = torch.cat(parts)
        dist.all_reduce(flat)
        mean_loss, *averaged, num_present = flat.split([1, *(p.numel() for p in parameters), len(parameters)])
        # A parameter that no rank used keeps no gradient, since optimisers skip those. Looking costs a GPU a wait.
        used = [True] * len(parameters) if all(has_gradient) else (num_present > 0).tolist()
        for parameter, gradient, is_used in zip(parameters, averaged, used, strict=True):
            parameter.grad = gradient.view_as(parameter) if is_used else None
        return mean_loss.squeeze(0)


ALONE = Ranks()
"""A process that trains by itself."""


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """The ranks that torchrun's environment names, connected inside the block: by NCCL on GPUs, else by gloo."""
    place = Ranks(_from_environment("RANK", 0), _from_environment("WORLD_SIZE", 1))
    if place.world_size == 1:
        yield ALONE
        return
    is_cuda = device.type == "cuda"
    dist.init_process_group("nccl" if is_cuda else "gloo", device_id=device if is_cuda else None)
    try:
        yield place
        # All leave together: gloo's threads may abort a process whose peer has gone while they still listen to it.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def local_device(name: str) -> torch.device:
    """The device called `name`; where torchrun started several processes, "cuda" is the GPU of this one.

    Raises UsageError for names of no device and for GPUs that aren't there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}", hint="give cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"nothing here computes on {name!r}", hint="give cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    index = _from_environment("LOCAL_RANK", 0) if device.index is None else device.index
    count = torch.cuda.device_count()
    if index >= count:
        raise UsageError(f"{name} asks for GPU {index}, this machine has {count}", hint="give --device cpu")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise UsageError(f"the environment's {name} is {text!r}, no whole number", hint="start it with torchrun")
    return int(text)
