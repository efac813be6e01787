"""Stored tensors as torch tensors."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from zootool.architecture import Architecture


def as_torch(architecture: Architecture, tensors: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """A state_dict of fresh tensors in the checkpoint's dtypes, in slot order; tied entries share their storage."""
    state: dict[str, Tensor] = {}
    for slot in architecture.slots:
        if slot.alias_of is not None and slot.alias_of in state:
            state[slot.key] = state[slot.alias_of]
        else:
            tensor = torch.from_numpy(np.array(tensors[slot.key], order="C"))
            state[slot.key] = tensor.view(getattr(torch, slot.dtype))
    return state
