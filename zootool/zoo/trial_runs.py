"""Running every architecture of a store once, on random weights: what shapes alone don't tell shows there.

Which inputs a network takes isn't recorded, so several are tried: coordinates, tokens, feature maps of many sizes. They
are tried without numbers (on torch's meta device), where size costs nothing; with numbers the first that fits is then
computed, where that is small.
"""

from collections.abc import Iterator
from math import isqrt, prod

import numpy as np
import torch
from torch import Tensor, nn

from zootool.architecture import Architecture
from zootool.errors import FormatError
from zootool.nets.network import Network
from zootool.progress import Reporter
from zootool.store.reader import Store
from zootool.store.verify import Verification

_MAX_RUNS = 1000
_MAX_PRODUCTS = 10**8
_SIDES = (29, 37, 67, 97, 131, 227, 293, 389, 521)
"""Primes, since a side that equals a number of channels by chance could be taken for one."""

_FLATTENED_SIDES = (*range(1, 65), 96, 128, 224, 256, 299)


def run_architectures(store: Store, result: Verification, seed: int, report: Reporter) -> None:
    """Run up to 1,000 of a store's architectures, and add those that can't be run to `result`."""
    signatures = sorted(store.architectures)
    if len(signatures) > _MAX_RUNS:
        chosen = np.random.default_rng(seed).choice(len(signatures), _MAX_RUNS, replace=False)
        result.skipped.append(f"running: {_MAX_RUNS} of {len(signatures)} architectures were chosen at random")
        signatures = [signatures[number] for number in sorted(chosen.tolist())]
    shapes = [source.shape for source in store.info.sources if source.shape]
    sizes_alone = 0
    for done, signature in enumerate(signatures):
        report("running architectures", done, len(signatures))
        architecture = store.architectures[signature]
        try:
            with torch.device("meta"):
                module = Network(architecture).float().eval()
        except FormatError as error:
            # What can be stored without loss needn't be a module.
            result.skipped.append(f"running {signature}: {error.message}")
            continue
        try:
            found = _fitting(module, architecture, shapes)
            if found is not None and _products(architecture, found) <= _MAX_PRODUCTS:
                _run(module, found)
            else:
                sizes_alone += found is not None
        except FormatError as error:
            result.problems.append(f"architecture {signature} can't be run: {error.message}")
            continue
        if found is None:
            result.skipped.append(f"running {signature}: the image size that its flatten needs isn't known")
    report("running architectures", len(signatures), len(signatures))
    several = "1 architecture" if len(signatures) == 1 else f"{len(signatures)} architectures"
    result.checked.append(f"{several} run on random weights")
    if sizes_alone:
        result.skipped.append(f"running: {sizes_alone} large architectures were run on shapes alone")


def _fitting(module: nn.Module, architecture: Architecture, shapes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape of an input that the module takes; None where that can't be known. Raises FormatError."""
    first: FormatError | None = None
    for shape in _inputs(architecture, shapes):
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


def _inputs(architecture: Architecture, shapes: list[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
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


def _products(architecture: Architecture, shape: tuple[int, ...]) -> int:
    """A bound on the multiplications that a run takes: every edge at every position of the padded input."""
    border = sum(2 * timestamp.padding for timestamp in architecture.timestamps)
    positions = prod(size + border for size in shape[2:]) if len(shape) == 4 else prod(shape[1:-1])
    return shape[0] * max(positions, 1) * architecture.num_edges


def _run(module: nn.Module, shape: tuple[int, ...]) -> None:
    """Compute an output. Raises FormatError where that fails."""
    generator = torch.Generator().manual_seed(0)
    module.to_empty(device="cpu")
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.copy_(_random(tensor, generator))
    with torch.no_grad():
        module(torch.rand(shape, generator=generator))


def _random(tensor: Tensor, generator: torch.Generator) -> Tensor:
    # Variances among them must be positive.
    return torch.rand(tensor.shape, generator=generator).to(tensor.dtype) * 0.1
