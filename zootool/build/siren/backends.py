"""Which backend fits a network: the fused kernel of the device where it can, batched torch for everything else."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float32

from zootool.build.siren.settings import FitSettings
from zootool.errors import MissingError, UsageError

MAX_FUSED_HIDDEN = 4
FUSED_WIDTH_STEP = 8
TRITON_HIDDEN = 2
MAX_TRITON_WIDTH = 64


Backend = Callable[..., tuple[Float32[np.ndarray, "networks parameters"], Float32[np.ndarray, " networks"]]]
"""Fits networks: (initial, targets, settings, *, advance) as `fit_on_cpu` takes them, and what it gives."""


def choose_backend(settings: FitSettings, device: str = "cpu", threads: int = 1) -> tuple[str, Backend]:
    """The name and the backend for `device` ("cpu", "cuda", "cuda:1"): raises UsageError and MissingError."""
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}", hint="choose cpu, cuda or cuda:N")
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            hint = "leave --device out to use the CPU"
            raise MissingError(f"there is no CUDA device for --device {device}", hint=hint)
        is_small = len(settings.hidden) == TRITON_HIDDEN and max(settings.hidden) <= MAX_TRITON_WIDTH
        if is_small and find_spec("triton") is not None:
            from zootool.build.siren.cuda import fit_on_cuda

            return "Triton kernel", partial(fit_on_cuda, device=device)
    elif len(settings.hidden) <= MAX_FUSED_HIDDEN and not any(width % FUSED_WIDTH_STEP for width in settings.hidden):
        from zootool.build.siren.cpu import fit_on_cpu

        return "CPU kernel", partial(fit_on_cpu, threads=threads)
    from zootool.build.siren.reference import fit_by_batches

    return "batched torch", partial(fit_by_batches, device=device)
