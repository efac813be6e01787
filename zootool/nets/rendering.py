"""Images that networks of coordinates compute, and which of their two coordinates runs along an image's rows.

A zoo names its grid in words. In "ij" the first input is a pixel's row, in "xy", numpy's default for `meshgrid`, its
column: rendered the wrong way round, an image comes out transposed.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from torch import nn

Indexing = Literal["ij", "xy"]

GRIDS: dict[Indexing, str] = {"ij": "linspace(-1, 1), ij", "xy": "linspace(-1, 1), xy"}
"""The grids that can be rendered, in the words of zoo.json."""


def indexing_of(grid: str | None) -> Indexing | None:
    """How a zoo's grid counts its coordinates; None for one that is of no known words."""
    return next((indexing for indexing, words in GRIDS.items() if words == grid), None)


def render(
    module: "nn.Module", height: int, width: int, indexing: Indexing = "ij"
) -> Float[np.ndarray, "height width channels"]:
    """The image, upright, that a network of coordinates computes on linspace(-1, 1)."""
    import torch

    axes = [torch.linspace(-1, 1, size) for size in (height, width)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    # In the network's own precision; numpy has no bfloat16.
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), grid.dtype)
    with torch.no_grad():
        rendered = module((grid if indexing == "ij" else grid.flip(-1)).to(dtype))
    return rendered.float().numpy()


def psnr(rendered: np.ndarray, pixels: np.ndarray, target: tuple[float, float]) -> float:
    """Peak signal-to-noise ratio in decibels of an image against uint8 pixels, whose 0..255 stand for `target`."""
    span = target[1] - target[0]
    wanted = pixels / 255 * span + target[0]
    return float(decibels(np.mean((rendered.astype(np.float64) - wanted) ** 2), span))


def decibels(mse: np.ndarray | np.floating, span: float) -> np.ndarray:
    """Peak signal-to-noise ratio 10 log10(span^2 / MSE), float64; infinite for an MSE of zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(span**2 / np.asarray(mse, np.float64))
