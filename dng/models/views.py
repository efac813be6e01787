"""The six views of an image that INR2JLS reconstructs (paper, section 8.1; order from method, section 4)."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

NUM_VIEWS = 6
VIEW_NAMES = ("identity", "horizontal flip", "vertical flip", "90 degrees ccw", "90 degrees cw", "180 degrees")


def six_views(
    images: Shaped[Tensor, "batch channels height width"],
) -> Shaped[Tensor, "batch views channels height width"]:
    """The views of square images, in the order of `VIEW_NAMES`. Raises ValueError where images aren't square."""
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"rotations need square images, got {images.shape[-2]} x {images.shape[-1]}")
    rows, columns = -2, -1
    return torch.stack(
        [
            images,
            images.flip(columns),
            images.flip(rows),
            images.rot90(1, (rows, columns)),
            images.rot90(-1, (rows, columns)),
            images.rot90(2, (rows, columns)),
        ],
        dim=1,
    )


def to_unit_range(
    pixels: Shaped[Tensor, "batch height width channels"],
) -> Float[Tensor, "batch channels height width"]:
    """uint8 pixels, channels last, as floats in [-1, 1], channels first: the scale of the SIRENs' targets."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
