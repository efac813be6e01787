"""The reference backend: many SIRENs at once by batched torch products and one Adam over the stacked parameters.

It serves every width, depth and device, and is what the fused kernels are tested against. A network's loss is the mean
over its own pixels and channels and the batch's loss is their sum, so that each gradient is that of a single fit.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from zootool.build.siren.settings import FitSettings

BATCH = 64


def fit_by_batches(
    initial: Float32[np.ndarray, "networks parameters"],
    targets: Float32[np.ndarray, "networks pixels channels"],
    settings: FitSettings,
    *,
    device: str = "cpu",
    batch: int = BATCH,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Float32[np.ndarray, "networks parameters"], Float32[np.ndarray, " networks"]]:
    """The trained parameters and the mean squared errors at them; `advance(n)` is called after each batch of n."""
    fitted, losses = np.empty_like(initial), np.empty(len(initial), np.float32)
    for start in range(0, len(initial), batch):
        part = slice(start, start + batch)
        fitted[part], losses[part] = _fit_batch(initial[part], targets[part], settings, torch.device(device))
        advance(len(losses[part]))
    return fitted, losses


def _fit_batch(
    initial: np.ndarray, targets: np.ndarray, settings: FitSettings, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    layers = [torch.tensor(piece, device=device, requires_grad=True) for piece in settings.split(initial)]
    wanted = torch.from_numpy(np.ascontiguousarray(targets)).to(device)
    coordinates = torch.from_numpy(settings.coordinates()).to(device).expand(len(targets), -1, -1)
    betas = (settings.beta1, settings.beta2)
    optimiser = torch.optim.Adam(layers, lr=settings.lr, betas=betas, eps=settings.eps)
    for _ in range(settings.steps):
        optimiser.zero_grad()
        batch_errors(layers, coordinates, wanted, settings.omega_0).sum().backward()
        optimiser.step()
    with torch.no_grad():
        losses = batch_errors(layers, coordinates, wanted, settings.omega_0)
        flat = torch.cat([layer.flatten(1) for layer in layers], dim=1)
    return flat.cpu().numpy(), losses.cpu().numpy()


def batch_errors(
    layers: list[Tensor],
    coordinates: Float[Tensor, "networks pixels 2"],
    targets: Float[Tensor, "networks pixels channels"],
    omega_0: float,
) -> Float[Tensor, " networks"]:
    """Each network's mean squared error; `layers` are weights and biases in turn, stacked over the networks."""
    x = coordinates
    for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
        x = torch.sin(omega_0 * torch.baddbmm(bias[:, None], x, weight.mT))
    output = torch.baddbmm(layers[-1][:, None], x, layers[-2].mT)
    return (output - targets).square().mean(dim=(1, 2))
