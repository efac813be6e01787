"""The precisions in which methods are tested, with what may differ in each."""

import pytest
import torch

IN_BOTH_PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
