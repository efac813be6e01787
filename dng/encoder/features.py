"""Random Fourier features of scalars: what turns a weight or a bias into a vector (method, section 2).

The features of one scalar are 2 F numbers, but on the range that trained weights take they span a space of far fewer
dimensions. Where only a linear map of the features is needed, `FourierFeatures.project` and `basis` compute it from a
few dozen Chebyshev polynomials instead, without a change that float32 (or float64) would notice.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import jv
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_TOLERANCE = {torch.float32: 1e-8, torch.float64: 1e-14}


class WhileUnchanged:
    """One value and the tensors that it was computed from.

    Without gradients, products of weights are the same for every batch and need not be made for each one. Where a
    gradient is to flow, and for tensors whose changes torch doesn't count, the value is computed each time.
    """

    def __init__(self) -> None:
        self._tensors: tuple[Tensor, ...] = ()
        self._state: tuple[object, ...] = ()
        self._value: Any = None

    def get(self, tensors: tuple[Tensor, ...], compute: Callable[[], Tensor], *settings: object) -> Tensor:
        """`compute()`, or its result from before if neither `tensors` nor `settings` have changed since."""
        has_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        if has_gradient or any(tensor.is_inference() for tensor in tensors):
            return compute()
        state = (*settings, *((tensor._version, tensor.data_ptr(), tensor.dtype) for tensor in tensors))
        same = len(tensors) == len(self._tensors) and all(a is b for a, b in zip(tensors, self._tensors, strict=True))
        if not same or state != self._state:
            # Kept for later training too, which can't use what was made in inference mode.
            with torch.inference_mode(False), torch.no_grad():
                self._value = compute()
            # The tensors are held too: an address can't come to mean another one meanwhile.
            self._tensors, self._state = tensors, state
        return self._value

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles of a model start without.
        return WhileUnchanged, ()


class FourierFeatures(nn.Module):
    """g(x) = [sin(2 pi x f), cos(2 pi x f)] of a scalar x, with F fixed frequencies f ~ N(0, sigma^2).

    The frequencies are a buffer: drawn once, saved with the model, never trained. They come from torch's current
    generator; `dng.training.seed.seeded` makes them repeatable. `expansion_range` is the largest |x| for which the
    polynomial path is taken; 0 turns it off.
    """

    frequencies: Tensor

    def __init__(self, num_frequencies: int, sigma: float, expansion_range: float = 1.0) -> None:
        super().__init__()
        if num_frequencies < 1 or sigma <= 0:
            raise ValueError(f"need at least one frequency and a positive sigma, got {num_frequencies} and {sigma}")
        if not 0 <= expansion_range < math.inf:
            raise ValueError(f"expansion_range must be 0 (off) or a positive number, got {expansion_range}")
        self.expansion_range = expansion_range
        self.register_buffer("frequencies", sigma * torch.randn(num_frequencies))
        self._expansion = WhileUnchanged()

    @property
    def out_dim(self) -> int:
        """2 F."""
        return 2 * self.frequencies.shape[0]

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape features"]:
        # A cosine is a sine a quarter turn ahead: one pass over one tensor, and nothing to concatenate.
        turns = torch.cat([self.frequencies, self.frequencies]) * (2 * math.pi)
        ahead = torch.zeros_like(turns)
        ahead[len(self.frequencies) :] = math.pi / 2
        angles = torch.addcmul(ahead, x[..., None], turns)
        return torch.sin(angles) if angles.requires_grad else angles.sin_()

    def project(
        self, x: Float[Tensor, "*shape"], linear: nn.Linear, kept: WhileUnchanged | None = None
    ) -> Float[Tensor, "*shape out"]:
        """`linear(self(x))`, by the polynomials where `x` is inside their range. `kept` is as in `expanded_weight`."""
        if not self.can_expand(x):
            return linear(self(x))
        weight = self.expanded_weight(linear, kept)
        return (self.basis(x).flatten(1).T @ weight.T).view(*x.shape, -1)

    def can_expand(self, x: Tensor) -> bool:
        """Whether every value of `x` is inside the range of the polynomials."""
        # NaN compares false, so a network that isn't finite takes the exact path and stays visible.
        return self.expansion_range > 0 and bool((x.detach().abs() <= self.expansion_range).all())

    def basis(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "degrees ..."]:
        """The Chebyshev polynomials T_0..T_{K-1} of x / expansion_range."""
        return Chebyshev.apply(x / self.expansion_range, self._coefficients(x.dtype).shape[1])

    def expanded_weight(
        self, linear: nn.Linear, kept: WhileUnchanged | None = None, num_scalars: int = 1, then: Tensor | None = None
    ) -> Float[Tensor, "out degrees"]:
        """The weights that take the polynomials to `linear(g(x))`; the bias goes with the constant one.

        For a `linear` of the features of several scalars, side by side, the polynomials of each stand side by side.
        With a matrix `then`, the weights of then @ linear(g(x)). `kept` is where they stay while no gradient flows.
        """
        coefficients = self._coefficients(linear.weight.dtype)

        def compute() -> Tensor:
            by_scalar = linear.weight.unflatten(1, (num_scalars, self.out_dim))
            weight = (by_scalar @ coefficients).flatten(1)
            weight = torch.cat([weight[:, :1] + linear.bias[:, None], weight[:, 1:]], dim=1)
            return weight if then is None else then @ weight

        made_of = (coefficients, linear.weight, linear.bias)
        return (kept or WhileUnchanged()).get(made_of if then is None else (*made_of, then), compute)

    def _coefficients(self, dtype: torch.dtype) -> Float[Tensor, "features degrees"]:
        def expand() -> Tensor:
            values = tuple(self.frequencies.detach().double().cpu().tolist())
            coefficients = _expand(values, self.expansion_range, _TOLERANCE[dtype])
            return torch.from_numpy(coefficients).to(self.frequencies.device, dtype)

        return self._expansion.get((self.frequencies,), expand, self.expansion_range, dtype)


class Chebyshev(torch.autograd.Function):
    """T_0(x) .. T_{count-1}(x) for |x| <= 1, stacked in front: (count, *x.shape).

    The three-term recurrence in place is faster and, in float32, 50 times more exact than doubling the degree by
    T_{m+n} = 2 T_m T_n - T_{m-n}; autograd can't follow it, so the derivative is written out: dT_k/dx = k U_{k-1}.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int) -> Tensor:
        """The polynomials of the first kind."""
        ctx.save_for_backward(x)
        ctx.count = count
        return _recurrence(x, count, first=x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:  # type: ignore[bad-override]
        """The sum over k of grad_k k U_{k-1}(x)."""
        (x,), (grad,) = ctx.saved_tensors, grad_outputs
        second_kind = _recurrence(x, ctx.count - 1, first=2 * x)
        degrees = torch.arange(1, ctx.count, dtype=x.dtype, device=x.device)
        return torch.einsum("k...,k...,k->...", grad[1:], second_kind, degrees), None


def _recurrence(x: Tensor, count: int, first: Tensor) -> Tensor:
    """p_0 = 1, p_1 = `first`, p_{k+1} = 2 x p_k - p_{k-1}."""
    values = x.new_empty(count, *x.shape)
    values[0] = 1
    if count > 1:
        values[1] = first
    twice = 2 * x
    for k in range(2, count):
        torch.mul(twice, values[k - 1], out=values[k]).sub_(values[k - 2])
    return values


@lru_cache(maxsize=16)
def _expand(frequencies: tuple[float, ...], limit: float, tolerance: float) -> np.ndarray:
    """Chebyshev coefficients (2 F, K) of the features on [-limit, limit], exact up to `tolerance`.

    cos(z x) = J_0(z) + 2 sum_k (-1)^k J_2k(z) T_2k(x) and sin(z x) = 2 sum_k (-1)^k J_2k+1(z) T_2k+1(x)
    (Jacobi and Anger), with z = 2 pi f limit. The Bessel functions fall faster than geometrically once the degree
    is above z.
    """
    z = 2 * math.pi * limit * np.array(frequencies)
    degrees = np.arange(_num_degrees(float(np.abs(z).max()), tolerance))
    bessel = 2 * jv(degrees[None], z[:, None])
    bessel[:, 0] /= 2
    signs = np.where(degrees // 2 % 2 == 0, 1.0, -1.0)
    is_odd = degrees % 2 == 1
    return np.concatenate([bessel * signs * is_odd, bessel * signs * ~is_odd])


def _num_degrees(largest_z: float, tolerance: float) -> int:
    """The smallest number of degrees whose left-out tail 2 sum |J_k(z)| is below `tolerance`."""
    candidates = np.arange(2, int(largest_z) + 200)
    tails = 2 * np.abs(jv(candidates, largest_z))[::-1].cumsum()[::-1]
    return int(candidates[np.argmax(tails < tolerance)])
