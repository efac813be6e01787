import pytest
import torch
from torch import nn

from dng.bench.costs import peak_tensor_bytes
from dng.models import inr2jls as module
from dng.models.inr2jls import decoder_error
from dng.training.seed import seeded


def problem(images: int = 7) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    with seeded(0):
        decoder = nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.ReLU(True), nn.ConvTranspose2d(4, 1, 4, 2, 1))
        return decoder.double(), torch.randn(images, 3, 2, 2).double(), torch.randn(images, 1, 8, 8).double()


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_error_and_gradients_are_those_of_the_plain_formula(monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(module, "_CHUNK_IMAGES", chunk)
    decoder, latents, targets = problem()
    results = []
    for error_of in (decoder_error, lambda d, x, y: (d(x) - y).square().mean()):
        decoder.zero_grad(set_to_none=True)
        x = latents.clone().requires_grad_()
        error = error_of(decoder, x * 2, targets)
        (3 * error).backward()
        results.append([error.detach(), x.grad, *(p.grad for p in decoder.parameters())])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_gradients_against_finite_differences() -> None:
    decoder, latents, targets = problem(2)
    assert torch.autograd.gradcheck(lambda x: decoder_error(decoder, x, targets), (latents.requires_grad_(),))


def test_no_gradients_are_computed_where_none_are_wanted() -> None:
    decoder, latents, targets = problem()
    with torch.no_grad():
        error = decoder_error(decoder, latents, targets)
    assert not error.requires_grad
    torch.testing.assert_close(error, (decoder(latents) - targets).square().mean())


def test_a_frozen_decoder_still_passes_gradients_on() -> None:
    decoder, latents, targets = problem()
    decoder.requires_grad_(False)
    decoder_error(decoder, latents.requires_grad_(), targets).backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_the_activations_of_all_images_never_exist_together() -> None:
    decoder, _, _ = problem()
    decoder = decoder.float()
    latents, targets = torch.randn(1024, 3, 8, 8, requires_grad=True), torch.randn(1024, 1, 32, 32)
    inside = 1024 * 4 * 16 * 16 * 4

    def peak(error_of) -> int:
        return peak_tensor_bytes(lambda: error_of(decoder, latents, targets).backward())

    plain = peak(lambda d, x, y: (d(x) - y).square().mean())
    assert peak(decoder_error) < plain - inside
