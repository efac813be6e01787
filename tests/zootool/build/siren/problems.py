"""Small fitting problems, and the plain way to solve one: a module, an optimiser and a loop."""

import numpy as np
import torch

from tests.zootool.nets.modules import Siren
from zootool.build.siren.reference import batch_errors
from zootool.build.siren.settings import FitSettings, initial_weights


def problem(settings: FitSettings, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Initial parameters (networks, parameters) and random targets (networks, pixels, channels)."""
    initial = initial_weights(settings, 0, np.arange(count), np.zeros(count, np.int64))
    shape = (count, settings.num_pixels, settings.num_channels)
    return initial, np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def fit_plainly(initial: np.ndarray, targets: np.ndarray, settings: FitSettings) -> tuple[np.ndarray, float]:
    """One network, (parameters,) and (pixels, channels), by torch's own module and Adam."""
    network = Siren(2, settings.hidden, settings.num_channels, settings.omega_0)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), settings.split(initial[None]), strict=True):
            parameter.copy_(torch.from_numpy(value[0]))
    betas = (settings.beta1, settings.beta2)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.lr, betas=betas, eps=settings.eps)
    coordinates, wanted = torch.from_numpy(settings.coordinates()), torch.from_numpy(targets)
    for _ in range(settings.steps):
        optimiser.zero_grad()
        (network(coordinates) - wanted).square().mean().backward()
        optimiser.step()
    loss = (network(coordinates) - wanted).square().mean().item()
    return torch.cat([p.detach().flatten() for p in network.parameters()]).numpy(), loss


def fit_in_float64(initial: np.ndarray, targets: np.ndarray, settings: FitSettings) -> np.ndarray:
    """All networks in double precision, (networks, parameters): what float32 backends are approximations of."""
    layers = [torch.tensor(piece, dtype=torch.float64, requires_grad=True) for piece in settings.split(initial)]
    wanted = torch.tensor(targets, dtype=torch.float64)
    coordinates = torch.tensor(settings.coordinates(), dtype=torch.float64).expand(len(targets), -1, -1)
    betas = (settings.beta1, settings.beta2)
    optimiser = torch.optim.Adam(layers, lr=settings.lr, betas=betas, eps=settings.eps)
    for _ in range(settings.steps):
        optimiser.zero_grad()
        batch_errors(layers, coordinates, wanted, settings.omega_0).sum().backward()
        optimiser.step()
    return torch.cat([layer.detach().flatten(1) for layer in layers], dim=1).numpy()


def sensitivity(initial: np.ndarray, targets: np.ndarray, settings: FitSettings, draws: int = 4) -> np.ndarray:
    """How far each network's fit moves, at most, when its initial weights are moved by half a float32's last place."""
    exact = fit_in_float64(initial, targets, settings)
    worst = np.zeros(len(initial))
    for draw in range(draws):
        signs = np.random.default_rng(draw).choice([-1.0, 1.0], initial.shape)
        moved = fit_in_float64(initial.astype(np.float64) * (1 + signs * 2.0**-24), targets, settings)
        worst = np.maximum(worst, np.abs(moved - exact).max(axis=1))
    return worst
