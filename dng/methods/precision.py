"""Where half precision would lose what matters."""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Inside, torch computes in the precision of the tensors, whatever autocast there is outside.

    For phases of sines: those of several turns have too few digits left in half precision.
    """
    # The meta device, on which nothing is computed, has no autocast to turn off.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
