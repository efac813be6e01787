"""The CUDA backend: a Triton kernel that keeps one network per program on chip for its whole training.

Weights, gradients and both moments of Adam stay in registers from the first step to the last; pixels come in by blocks
from the cache. Two hidden layers of at most 64 neurons; widths and channels are padded with zeros, which stay zero.
Products are of full float32 precision. Triton's interpreter runs the kernel without a GPU (TRITON_INTERPRET=1).
"""

from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import pad

from zootool.build.siren.settings import FitSettings

_MIN_SIDE = 16  # the smallest side of a product in Triton
_PIXEL_BLOCK = 64
_NUM_WARPS = 4


def fit_on_cuda(
    initial: Float32[np.ndarray, "networks parameters"],
    targets: Float32[np.ndarray, "networks pixels channels"],
    settings: FitSettings,
    *,
    device: str = "cuda",
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Float32[np.ndarray, "networks parameters"], Float32[np.ndarray, " networks"]]:
    """The trained parameters and the mean squared errors at them; `advance` is called at the end."""
    width = max(_MIN_SIDE, triton.next_power_of_2(max(settings.hidden)))
    channels = max(_MIN_SIDE, triton.next_power_of_2(settings.num_channels))
    layers = [torch.tensor(piece, device=device) for piece in settings.split(initial)]
    padded = _padded(layers, width, channels)
    losses = torch.empty(len(initial), device=device)
    step_sizes, roots = _corrections(settings, device)
    half_turns = settings.omega_0 / pi
    high = float(np.float32(half_turns))
    launch: Any = _fit_network[(len(initial),)]
    launch(
        tuple(padded),
        torch.tensor(targets, device=device),
        torch.tensor(settings.coordinates(), device=device),
        step_sizes,
        roots,
        losses,
        settings.steps,
        settings.num_pixels,
        settings.num_channels,
        2 / (settings.num_pixels * settings.num_channels),
        settings.omega_0,
        high,
        half_turns - high,
        (1 - settings.beta1, settings.beta2, 1 - settings.beta2, settings.eps),
        WIDTH=width,
        CHANNELS=channels,
        BLOCK=_PIXEL_BLOCK,
        num_warps=_NUM_WARPS,
        enable_fp_fusion=True,
    )
    fitted = [piece[tuple(map(slice, layer.shape))] for piece, layer in zip(padded, layers, strict=True)]
    advance(len(initial))
    return torch.cat([piece.flatten(1) for piece in fitted], dim=1).cpu().numpy(), losses.cpu().numpy()


def _padded(layers: list[Tensor], width: int, channels: int) -> list[Tensor]:
    sides = ((width, 2), (width,), (width, width), (width,), (channels, width), (channels,))
    result = []
    for layer, shape in zip(layers, sides, strict=True):
        margins = [m for size, side in zip(layer.shape[:0:-1], shape[::-1], strict=True) for m in (0, side - size)]
        result.append(pad(layer, margins).contiguous())
    return result


def _corrections(settings: FitSettings, device: str) -> tuple[Tensor, Tensor]:
    """Adam's step size and the root of its second bias correction for every step, in torch's own double precision."""
    steps = torch.arange(1, settings.steps + 1, dtype=torch.float64)
    step_sizes = settings.lr / (1 - settings.beta1**steps)
    roots = (1 - settings.beta2**steps).sqrt()
    return step_sizes.float().to(device), roots.float().to(device)


@triton.jit
def _sine_cosine(z, high, low):
    """As `products.sine_cosine`: half turns, the whole ones taken off, then two polynomials."""
    turns = tl.floor(tl.fma(z, high, 0.5))
    rest = tl.fma(z, low, tl.fma(z, high, -turns))
    square = rest * rest
    sine = tl.fma(square, 0.07722013, -0.59804517)
    sine = tl.fma(square, sine, 2.5500314)
    sine = tl.fma(square, sine, -5.167707)
    sine = tl.fma(square, sine, 3.1415925) * rest
    cosine = tl.fma(square, 0.22008064, -1.3320938)
    cosine = tl.fma(square, cosine, 4.0584512)
    cosine = tl.fma(square, cosine, -4.9347954)
    cosine = tl.fma(square, cosine, 1.0)
    sign = 1.0 - 2.0 * (turns.to(tl.int32) & 1).to(tl.float32)
    return sine * sign, cosine * sign


@triton.jit
def _forward(network, x, y, high, low):
    w1x, w1y, b1, w2, b2, w3, b3 = network
    z = x[:, None] * w1x[None, :] + y[:, None] * w1y[None, :] + b1[None, :]
    s1, c1 = _sine_cosine(z, high, low)
    z = tl.dot(s1, tl.trans(w2), input_precision="ieee") + b2[None, :]
    s2, c2 = _sine_cosine(z, high, low)
    output = tl.dot(s2, tl.trans(w3), input_precision="ieee") + b3[None, :]
    return s1, c1, s2, c2, output


@triton.jit
def _add_gradient(gradient, network, x, y, error, s1, c1, s2, c2, omega_0):
    """The gradient plus a block's part, from the output's errors times their share in the loss."""
    w1x, w1y, b1, w2, b2, w3, b3 = gradient
    w3 += tl.dot(tl.trans(error), s2, input_precision="ieee")
    b3 += tl.sum(error, axis=0)
    delta = tl.dot(error, network[5], input_precision="ieee") * c2 * omega_0
    w2 += tl.dot(tl.trans(delta), s1, input_precision="ieee")
    b2 += tl.sum(delta, axis=0)
    delta = tl.dot(delta, network[3], input_precision="ieee") * c1 * omega_0
    w1x += tl.sum(delta * x[:, None], axis=0)
    w1y += tl.sum(delta * y[:, None], axis=0)
    b1 += tl.sum(delta, axis=0)
    return w1x, w1y, b1, w2, b2, w3, b3


@triton.jit
def _load_pixels(coordinates, targets, start, num_pixels, num_channels, BLOCK: tl.constexpr, CHANNELS: tl.constexpr):
    """A block's rows, columns and targets, and which of its (pixel, channel) places are real."""
    pixels = start + tl.arange(0, BLOCK)
    channels = tl.arange(0, CHANNELS)
    inside = pixels < num_pixels
    x = tl.load(coordinates + 2 * pixels, mask=inside, other=0.0)
    y = tl.load(coordinates + 2 * pixels + 1, mask=inside, other=0.0)
    real = inside[:, None] & (channels < num_channels)[None, :]
    wanted = tl.load(targets + pixels[:, None] * num_channels + channels[None, :], mask=real, other=0.0)
    return x, y, wanted, real


@triton.jit
def _places(layers, number, WIDTH: tl.constexpr, CHANNELS: tl.constexpr):
    """Where the parts of a network lie: the first weight by its two columns, then the others in order."""
    w1, b1, w2, b2, w3, b3 = layers
    neuron, channel = tl.arange(0, WIDTH), tl.arange(0, CHANNELS)
    row = number * WIDTH + neuron
    w2_row = number * WIDTH * WIDTH + neuron[:, None] * WIDTH
    w3_row = number * CHANNELS * WIDTH + channel[:, None] * WIDTH
    columns = neuron[None, :]
    return (
        w1 + 2 * row,
        w1 + 2 * row + 1,
        b1 + row,
        w2 + w2_row + columns,
        b2 + row,
        w3 + w3_row + columns,
        b3 + number * CHANNELS + channel,
    )


@triton.jit
def _load_all(places):
    a, b, c, d, e, f, g = places
    return tl.load(a), tl.load(b), tl.load(c), tl.load(d), tl.load(e), tl.load(f), tl.load(g)


@triton.jit
def _zeros_like(network):
    a, b, c, d, e, f, g = network
    return a * 0.0, b * 0.0, c * 0.0, d * 0.0, e * 0.0, f * 0.0, g * 0.0


@triton.jit
def _adam(parameter, gradient, mean, square, step_size, root, rates):
    """One step in the order of torch's operations; `rates` are 1 - beta1, beta2, 1 - beta2 and eps."""
    new_mean, old_square, new_square, eps = rates
    mean = tl.fma(gradient - mean, new_mean, mean)
    square = tl.fma(gradient * gradient, new_square, square * old_square)
    return parameter - step_size * (mean / (tl.sqrt(square) / root + eps)), mean, square


@triton.jit
def _adam_all(network, gradient, mean, square, step_size, root, rates):
    a, am, av = _adam(network[0], gradient[0], mean[0], square[0], step_size, root, rates)
    b, bm, bv = _adam(network[1], gradient[1], mean[1], square[1], step_size, root, rates)
    c, cm, cv = _adam(network[2], gradient[2], mean[2], square[2], step_size, root, rates)
    d, dm, dv = _adam(network[3], gradient[3], mean[3], square[3], step_size, root, rates)
    e, em, ev = _adam(network[4], gradient[4], mean[4], square[4], step_size, root, rates)
    f, fm, fv = _adam(network[5], gradient[5], mean[5], square[5], step_size, root, rates)
    g, gm, gv = _adam(network[6], gradient[6], mean[6], square[6], step_size, root, rates)
    return (a, b, c, d, e, f, g), (am, bm, cm, dm, em, fm, gm), (av, bv, cv, dv, ev, fv, gv)


@triton.jit
def _store_all(places, network):
    tl.store(places[0], network[0])
    tl.store(places[1], network[1])
    tl.store(places[2], network[2])
    tl.store(places[3], network[3])
    tl.store(places[4], network[4])
    tl.store(places[5], network[5])
    tl.store(places[6], network[6])


@triton.jit
def _fit_network(
    layers,
    targets,
    coordinates,
    step_sizes,
    roots,
    losses,
    steps,
    num_pixels,
    num_channels,
    share,
    omega_0,
    high,
    low,
    rates,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    number = tl.program_id(0).to(tl.int64)  # offsets of many networks' parameters pass 2**31
    targets += number * num_pixels * num_channels
    places = _places(layers, number, WIDTH, CHANNELS)
    network = _load_all(places)
    mean, square = _zeros_like(network), _zeros_like(network)
    for step in range(steps):
        gradient = _zeros_like(network)
        for start in range(0, num_pixels, BLOCK):
            x, y, wanted, real = _load_pixels(coordinates, targets, start, num_pixels, num_channels, BLOCK, CHANNELS)
            s1, c1, s2, c2, output = _forward(network, x, y, high, low)
            error = tl.where(real, (output - wanted) * share, 0.0)
            gradient = _add_gradient(gradient, network, x, y, error, s1, c1, s2, c2, omega_0)
        step_size, root = tl.load(step_sizes + step), tl.load(roots + step)
        network, mean, square = _adam_all(network, gradient, mean, square, step_size, root, rates)
    loss = 0.0
    for start in range(0, num_pixels, BLOCK):
        x, y, wanted, real = _load_pixels(coordinates, targets, start, num_pixels, num_channels, BLOCK, CHANNELS)
        _, _, _, _, output = _forward(network, x, y, high, low)
        difference = tl.where(real, output - wanted, 0.0)
        loss += tl.sum(difference * difference) * (share / 2)
    tl.store(losses + number, loss)
    _store_all(places, network)
