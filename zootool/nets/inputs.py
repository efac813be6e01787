"""Which inputs a network takes. It is recorded nowhere: several are tried on the meta device, where size is free."""

from collections.abc import Iterator, Sequence
from math import isqrt, prod

import torch
from torch import nn

from zootool.architecture import Architecture
from zootool.errors import FormatError

_SIDES = (29, 37, 67, 97, 131, 227, 293, 389, 521)
"""Primes, since a side that equals a number of channels by chance could be taken for one."""

_FLATTENED_SIDES = (*range(1, 65), 96, 128, 224, 256, 299)


def fitting_input(
    module: nn.Module, architecture: Architecture, image_shapes: Sequence[tuple[int, ...]] = ()
) -> tuple[int, ...] | None:
    """The shape of an input that the module, which is on the meta device, takes; None where that can't be known.

    `image_shapes` (height, width, ...) are tried first. Raises FormatError where no input fits.
    """
    first: FormatError | None = None
    for shape in _inputs(architecture, image_shapes):
        try:
            with torch.no_grad():
                module(torch.zeros(shape, device="meta"))
            return shape
        except FormatError as error:
            first = first or error
    if _is_image(architecture) and _flattens(architecture):
        return None
    assert first is not None
    raise first


def _inputs(architecture: Architecture, shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Shapes of inputs that a network may take, the likely ones first."""
    inputs, tokens, kind = architecture.num_inputs, architecture.tokens, architecture.timestamps[0].kind
    positions = sum(prod(slot.shape) for slot in architecture.slots if slot.role == "position" and not slot.rounded)
    length = positions // architecture.timestamps[0].num_nodes - (tokens is not None and tokens.class_token)
    if tokens is not None and tokens.patch_size is not None:
        size = tokens.patch_size
        for side in (isqrt(max(length, 1)), *range(1, 17)):
            yield 2, inputs // size**2, side * size, side * size
    elif _is_image(architecture):
        stride = architecture.timestamps[0].stride
        yield from ((2, inputs, *shape[:2]) for shape in shapes)
        sides = _FLATTENED_SIDES if _flattens(architecture) else _SIDES
        if positions:
            sides = (isqrt(max(length, 1)) * stride, *sides)
        yield from ((2, inputs, side, side) for side in sides)
        yield from ((2, inputs, 1, side) for side in sides)
    elif kind == "flatten_linear":
        yield 2, inputs, architecture.timestamps[0].edges_per_pair
    else:
        yield 2, inputs
        yield 2, max(length, 1), inputs
        yield 2, 4, inputs


def _is_image(architecture: Architecture) -> bool:
    patches = architecture.tokens is not None and architecture.tokens.patch_size is not None
    return architecture.timestamps[0].kind == "conv" and not patches


def _flattens(architecture: Architecture) -> bool:
    return any(timestamp.kind == "flatten_linear" for timestamp in architecture.timestamps[1:])
