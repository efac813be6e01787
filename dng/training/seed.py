"""Repeatable randomness without a global seed."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(*keys: int | str) -> Iterator[None]:
    """Inside the block torch's generators are a function of `keys` alone; behind it they are as they were before.

    Layers draw their initial weights and dropout masks from the current generators, so both become repeatable, and a
    training step seeded by its number needs no generator state to be resumed.
    """
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(*keys))
        yield


def derived_seed(*keys: int | str) -> int:
    """A 63-bit seed from `keys`; different keys give unrelated seeds."""
    text = "/".join(map(str, keys))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
