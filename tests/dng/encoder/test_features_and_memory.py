import math

import pytest
import torch

from dng.encoder.features import FourierFeatures
from dng.encoder.layer import GRUUpdate
from dng.training.seed import seeded


def test_fourier_features_are_sines_then_cosines() -> None:
    features = FourierFeatures(2, sigma=1.0)
    features.frequencies.copy_(torch.tensor([1.0, 0.5]))
    expected = [math.sin(math.pi / 2), math.sin(math.pi / 4), math.cos(math.pi / 2), math.cos(math.pi / 4)]
    torch.testing.assert_close(features(torch.tensor(0.25)), torch.tensor(expected))


def test_sigma_scales_the_frequencies() -> None:
    with seeded(1):
        narrow = FourierFeatures(4096, sigma=1.0)
    with seeded(1):
        wide = FourierFeatures(4096, sigma=3.0)
    torch.testing.assert_close(wide.frequencies, 3 * narrow.frequencies)
    assert abs(narrow.frequencies.std().item() - 1) < 0.05


def test_frequencies_are_saved_and_not_trained() -> None:
    features = FourierFeatures(4, sigma=1.0)
    assert list(features.state_dict()) == ["frequencies"]
    assert list(features.parameters()) == []


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="positive sigma"):
        FourierFeatures(4, sigma=0.0)


def test_the_message_is_the_grus_hidden_state() -> None:
    update = GRUUpdate(2)
    with torch.no_grad():
        for parameter in update.parameters():
            parameter.zero_()
        # A large update gate z: s = (1 - z) n + z m must then be the message.
        update.cell.bias_hh[2:4] = 50.0
    messages = torch.tensor([[[1.0, -2.0]]])
    torch.testing.assert_close(update(torch.full((1, 1, 2), 9.0), messages), messages)
