"""The mean squared error of decoded latents, with its gradients, a few images at a time."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Images of all views that are decoded at a time.
_CHUNK_IMAGES = 64


def decoder_error(
    decoder: nn.Module,
    latents: Float[Tensor, "images latent _height _width"],
    targets: Float[Tensor, "images channels height width"],
) -> Float[Tensor, ""]:
    """mean((decoder(latents) - targets)^2).

    Where gradients are wanted they are computed together with the error, so that the decoder's activations exist for
    a few images only; backward merely scales them. `decoder` treats images independently of one another.
    """
    parameters = tuple(decoder.parameters())
    if not torch.is_grad_enabled() or not all(parameter.requires_grad for parameter in parameters):
        return (decoder(latents) - targets).square().mean()
    return _DecoderError.apply(decoder, latents, targets, *parameters)


class _DecoderError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decoder: nn.Module, latents: Tensor, targets: Tensor, *parameters: Tensor) -> Tensor:
        grad_latents = torch.empty_like(latents)
        grads = [torch.zeros_like(parameter) for parameter in parameters]
        total = torch.zeros((), dtype=targets.dtype, device=targets.device)
        for start in range(0, len(latents), _CHUNK_IMAGES):
            rows = slice(start, start + _CHUNK_IMAGES)
            with torch.enable_grad():
                part = latents[rows].detach().requires_grad_()
                error = (decoder(part) - targets[rows]).square().sum() / targets.numel()
                found = torch.autograd.grad(error, (part, *parameters))
            total += error.detach()
            grad_latents[rows] = found[0]
            for grad, piece in zip(grads, found[1:], strict=True):
                grad += piece
        ctx.save_for_backward(grad_latents, *grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # type: ignore[bad-override]
        grad_latents, *grads = ctx.saved_tensors
        scale = grad_outputs[0]
        return None, scale * grad_latents, None, *(scale * grad for grad in grads)
