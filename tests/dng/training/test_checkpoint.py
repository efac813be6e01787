from pathlib import Path

import pytest
import torch
from torch import nn

from dng.training.checkpoint import put_weights
from zootool.errors import FormatError


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"weight": torch.ones(3, 2)}, "lacks bias"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(3), "scale": torch.ones(1)}, "has scale, which the model"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(3)}, r"has weight of shape \(2, 3\), the model's is \(3, 2\)"),
    ],
)
def test_weights_of_another_model_are_named(weights: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        put_weights(nn.Linear(2, 3), weights, Path("model.safetensors"))


def test_weights_that_fit_are_taken() -> None:
    model = nn.Linear(2, 3)
    put_weights(model, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, Path("model.safetensors"))
    assert torch.equal(model(torch.ones(1, 2)), torch.full((1, 3), 2.0))
