"""The polynomial path computes what the Fourier features are written to be."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from dng.encoder.config import EncoderConfig
from dng.encoder.dng_encoder import DNGEncoder
from dng.encoder.features import FourierFeatures
from dng.encoder.message import ScaledSum
from dng.testing import random_graph
from dng.training.seed import seeded
from tests.dng.graphs import small_cnn
from zootool.nets.siren import siren_architecture


@pytest.mark.parametrize("limit", [0.65, 1.0, 2.0])
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_the_expansion_is_exact_over_twenty_draws(limit: float, sigma: float) -> None:
    x = torch.linspace(-limit, limit, 501, dtype=torch.float64)
    for draw in range(20):
        with seeded(draw):
            features = FourierFeatures(128, sigma, limit).double()
            linear = nn.Linear(256, 3).double()
        exact = linear(features(x))
        assert features.can_expand(x)
        torch.testing.assert_close(features.project(x, linear), exact, rtol=0, atol=1e-10)
        in_float32 = features.float().project(x.float(), linear.float())
        # The frequencies are rounded to float32 with the module, so the exact values are those of the rounded ones.
        rounded = linear.double()(features.double()(x.float().double()))
        torch.testing.assert_close(in_float32.double(), rounded, rtol=0, atol=1e-5)


def test_the_coefficients_alone_are_exact_to_1e_8_in_float32s_degree() -> None:
    with seeded(0):
        features = FourierFeatures(128, 3.0, 0.65)
    x = torch.linspace(-0.65, 0.65, 1001, dtype=torch.float64)
    coefficients = features._coefficients(torch.float32).double()
    polynomials = torch.cos(torch.arange(coefficients.shape[1])[:, None] * torch.arccos((x / 0.65).clamp(-1, 1)))
    error = (coefficients.T[:, :, None] * polynomials[:, None]).sum(0).T - features.double()(x)
    # What the float32 coefficients round away is below 1e-7 per term; the truncation is far below that.
    assert error.abs().max() < 1e-6


def test_a_larger_range_or_frequency_takes_more_degrees() -> None:
    def degrees(sigma: float, limit: float, dtype: torch.dtype = torch.float32) -> int:
        with seeded(0):
            features = FourierFeatures(128, sigma, limit)
        return features._coefficients(dtype).shape[1]

    assert degrees(1.0, 0.65) < degrees(3.0, 0.65) < degrees(3.0, 1.0) < degrees(3.0, 1.0, torch.float64)


def test_new_frequencies_or_a_new_range_rebuild_the_expansion() -> None:
    features = FourierFeatures(8, 1.0, 1.0)
    linear = nn.Linear(16, 4)
    x = torch.linspace(-0.5, 0.5, 7)
    features.project(x, linear)
    features.frequencies.mul_(1.5)
    torch.testing.assert_close(features.project(x, linear), linear(features(x)), rtol=0, atol=1e-5)
    features.expansion_range = 0.5
    torch.testing.assert_close(features.project(x, linear), linear(features(x)), rtol=0, atol=1e-5)
    features.load_state_dict({"frequencies": torch.ones(8)})
    torch.testing.assert_close(features.project(x, linear), linear(features(x)), rtol=0, atol=1e-5)


def test_a_model_that_was_used_in_inference_mode_can_be_trained() -> None:
    with torch.inference_mode():
        made_there = FourierFeatures(8, 1.0)
        assert made_there.project(torch.zeros(2), nn.Linear(16, 4)).shape == (2, 4)
    features, linear = FourierFeatures(8, 1.0), nn.Linear(16, 4)
    with torch.inference_mode():
        features.project(torch.zeros(2), linear)
    features.project(torch.zeros(2), linear).sum().backward()
    assert linear.weight.grad is not None


def test_weights_outside_the_range_take_the_exact_path() -> None:
    features = FourierFeatures(8, 1.0, expansion_range=0.5)
    linear = nn.Linear(16, 4)
    assert not features.can_expand(torch.tensor([0.1, -0.6]))
    assert not features.can_expand(torch.tensor([0.1, float("nan")]))
    assert not FourierFeatures(8, 1.0, expansion_range=0.0).can_expand(torch.zeros(1))
    outside = torch.tensor([0.1, 3.0])
    assert torch.equal(features.project(outside, linear), linear(features(outside)))


@pytest.mark.parametrize("architecture", [siren_architecture(2, (32, 32), 1), small_cnn()], ids=["siren", "cnn"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_fast_and_naive_encoders_agree(architecture, dtype: torch.dtype, tolerance: float) -> None:
    config = EncoderConfig(dim=64)
    with seeded(0):
        fast = DNGEncoder(architecture, config).to(dtype)
    naive = DNGEncoder(architecture, replace(config, expansion_range=0.0)).to(dtype)
    naive.load_state_dict(fast.state_dict())
    graph = random_graph(architecture, batch=4, dtype=dtype)
    results = []
    for encoder in (fast, naive):
        out = encoder(graph)
        (out * torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)).sum().backward()
        results.append((out, {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}))
    (fast_out, fast_grads), (naive_out, naive_grads) = results
    torch.testing.assert_close(fast_out, naive_out, rtol=0, atol=tolerance)
    assert len(naive_grads) == len(list(naive.parameters()))
    for name, grad in naive_grads.items():
        assert (fast_grads[name] - grad).abs().max() <= 100 * tolerance * grad.abs().max(), name


def test_scaled_sum_matches_autograd_and_finite_differences() -> None:
    with seeded(0):
        basis = torch.randn(5, 2, 3, 4, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
        sent = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    plain = torch.einsum("kbij,dk,bjd->bid", basis, weight, sent)
    torch.testing.assert_close(ScaledSum.apply(basis, weight, sent), plain)
    assert torch.autograd.gradcheck(ScaledSum.apply, (basis, weight, sent))


def test_scaled_sum_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    with seeded(0):
        arguments = [torch.randn(5, 7, 3, 4), torch.randn(6, 5), torch.randn(7, 4, 6)]
    whole = ScaledSum.apply(*arguments)
    monkeypatch.setattr("dng.encoder.message._CHUNK_NUMBERS", 1)
    torch.testing.assert_close(ScaledSum.apply(*arguments), whole)


def test_gradients_reach_the_weights_of_the_encoded_networks() -> None:
    features = FourierFeatures(4, 1.0, 1.0).double()
    linear = nn.Linear(8, 2).double()
    x = torch.linspace(-0.9, 0.9, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: features.project(x, linear), (x,))
    assert math.isfinite(features.project(x, linear).sum().item())
