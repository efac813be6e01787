"""The kernel's two entries, compiled at their first call on a machine and kept on disk for the next processes."""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import njit

from zootool.build.classifier.kernel import evaluate, train_epoch

_HERE = Path(__file__).parent
_FILES = ("activations.py", "geometry.py", "kernel.py", "random.py", "streams.py", "updates.py")
_SIREN_FILES = ("adam.py", "lanes.py", "products.py", "scratch.py", "tiles.py")


@cache
def compiled_training() -> Callable[..., None]:
    """`kernel.train_epoch`."""
    source_digest = _source_digest()

    def train_one_epoch(
        parameters: Any, state: Any, optimiser: Any, geometry: Any, scratch: Any, data: Any, batches: Any
    ) -> None:
        # Numba knows kept code by this function and its closure; the digest stands for the files that it calls.
        _ = source_digest
        train_epoch(parameters, state, optimiser, geometry, scratch, data, batches)

    return _compiled(train_one_epoch)


@cache
def compiled_evaluation() -> Callable[..., tuple[float, float]]:
    """`kernel.evaluate`."""
    source_digest = _source_digest()

    def evaluate_one(parameters: Any, geometry: Any, scratch: Any, data: Any, order: Any) -> Any:
        _ = source_digest
        return evaluate(parameters, geometry, scratch, data, order)

    return _compiled(evaluate_one)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return njit(nogil=True, error_model="numpy")(function)


def _source_digest() -> str:
    paths = [_HERE / name for name in _FILES] + [_HERE.parent / "siren" / name for name in _SIREN_FILES]
    return sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
