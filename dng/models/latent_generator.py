"""The latent generator of INR2JLS: latent maps from memories and learned spatial vectors (paper, section 6)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dng.encoder.features import WhileUnchanged

# Hidden numbers that exist at a time: about a core's share of the cache.
_CHUNK_NUMBERS = 1 << 20


class LatentGenerator(nn.Module):
    """F^n = MLP([theta^n, s]) for N learnable spatial vectors theta^n of the memories' width d.

    `shape` (views, h_s, w_s) is how the N vectors lie. The MLP has one hidden layer of `hidden_dim`.
    """

    def __init__(
        self, memory_dim: int, spatial_dim: int, shape: tuple[int, int, int], hidden_dim: int, latent_dim: int
    ) -> None:
        super().__init__()
        self.shape = shape
        self.spatial = nn.Parameter(torch.randn(shape[0] * shape[1] * shape[2], spatial_dim))
        self.hidden = nn.Linear(spatial_dim + memory_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, latent_dim)
        self._from_spatial = WhileUnchanged()

    def forward(self, memory: Float[Tensor, "batch memory"]) -> Float[Tensor, "batch views latent height width"]:
        # The first layer of [theta^n, s] is a part that depends on n plus a part that depends on the network:
        # computed apart, the matrix product over all pairs (n, network) is never needed.
        spatial_weight, memory_weight = self.hidden.weight.split([self.spatial.shape[1], memory.shape[1]], dim=1)
        from_spatial = self._from_spatial.get(
            (self.spatial, self.hidden.weight, self.hidden.bias),
            lambda: self.spatial @ spatial_weight.T + self.hidden.bias,
        )
        latents = PairwiseMLP.apply(from_spatial, memory @ memory_weight.T, self.out.weight, self.out.bias)
        return latents.unflatten(1, self.shape).movedim(-1, 2)


class PairwiseMLP(torch.autograd.Function):
    """W relu(x_n + y_b) + c for every pair of a position n and a network b, (networks, positions, out).

    `from_position` is x (positions, hidden), `from_network` y (networks, hidden). The hidden layer of all pairs would
    be the model's largest tensor; it exists a few networks at a time, in forward and, since it is but a sum, again in
    backward.
    """

    @staticmethod
    def forward(ctx: Any, from_position: Tensor, from_network: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The outputs; saves its arguments alone."""
        ctx.save_for_backward(from_position, from_network, weight)
        parts = [
            nn.functional.linear(_hidden(from_position, from_network[rows]), weight, bias)
            for rows in _chunks(from_position, from_network)
        ]
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # type: ignore[bad-override]
        """Gradients of all four arguments."""
        from_position, from_network, weight = ctx.saved_tensors
        grad = grad_outputs[0].to(weight.dtype)
        grad_position, grad_network = torch.zeros_like(from_position), torch.empty_like(from_network)
        grad_weight = torch.zeros_like(weight)
        for rows in _chunks(from_position, from_network):
            hidden = _hidden(from_position, from_network[rows]).to(weight.dtype)
            grad_weight.addmm_(grad[rows].flatten(0, 1).T, hidden.flatten(0, 1))
            grad_hidden = (grad[rows] @ weight).masked_fill_(hidden <= 0, 0)
            grad_position += grad_hidden.sum(dim=0)
            grad_network[rows] = grad_hidden.sum(dim=1)
        return grad_position, grad_network, grad_weight, grad.sum(dim=(0, 1))


def _hidden(
    from_position: Float[Tensor, "positions hidden"], from_network: Float[Tensor, "networks hidden"]
) -> Float[Tensor, "networks positions hidden"]:
    return torch.relu_(from_position + from_network[:, None])


def _chunks(from_position: Tensor, from_network: Tensor) -> list[slice]:
    size = max(1, _CHUNK_NUMBERS // from_position.numel())
    return [slice(start, start + size) for start in range(0, len(from_network), size)]
