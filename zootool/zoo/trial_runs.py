"""Running every architecture of a store once, on random weights: what shapes alone don't tell shows there.

Layers are run without numbers (on torch's meta device), where size costs nothing; with numbers where that is small.
"""

from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from zootool.architecture import Architecture
from zootool.errors import FormatError
from zootool.nets.network import Network, fitting_input
from zootool.progress import Reporter
from zootool.store.reader import Store
from zootool.store.verify import Verification

_MAX_RUNS = 1000
_MAX_PRODUCTS = 10**8


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
            found = fitting_input(module, architecture, shapes)
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
