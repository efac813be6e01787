"""State_dicts of many files as stacked arrays, each checked against the one architecture that they are to have."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from zootool.architecture import DTYPE_BYTES, Architecture
from zootool.errors import FormatError, printable
from zootool.untrusted.byte_source import check_memory
from zootool.untrusted.lazy_tensor import NUMPY_DTYPES, LazyTensor
from zootool.untrusted.safe_load import Loaded, Source, load_checkpoint
from zootool.untrusted.state_dicts import StateDict, find_state_dict

Tensors = Mapping[str, LazyTensor]


def state_dict_of(source: Source) -> Tensors:
    """The tensors of the state_dict in a file, by key."""
    return found_in(load_checkpoint(source)).tensors


def found_in(loaded: Loaded, weights: str | None = None) -> StateDict:
    """The state_dict in a loaded file, or in what `weights` leads to; errors name the file."""
    return find_state_dict(loaded.value, weights=weights, shown=loaded.shown)


def stack_networks(
    architecture: Architecture,
    sources: Sequence[Any],
    read: Callable[[Any], Tensors] = state_dict_of,
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """key -> (networks, *shape) for every key of the architecture; `read` gives the tensors of one source,
    which may be anything that it knows: the sources are opened one after another.

    `names` are how errors name the sources, by default what they are. Raises FormatError for a source whose keys,
    shapes or dtypes are others.
    """
    wanted = {slot.key: (slot.shape, slot.dtype) for slot in architecture.slots}
    total = len(sources) * sum(prod(shape) * DTYPE_BYTES[dtype] for shape, dtype in wanted.values())
    # Stacked, and then laid out for the store.
    check_memory(2 * total, printable(names[0] if names else sources[0], 200))
    stacked = {key: np.empty((len(sources), *shape), NUMPY_DTYPES[dtype]) for key, (shape, dtype) in wanted.items()}
    for place, source in enumerate(sources):
        tensors = read(source)
        for key, (shape, dtype) in wanted.items():
            tensor = tensors.get(key)
            if tensor is None or tensor.shape != shape or tensor.dtype != dtype:
                raise _misfit(names[place] if names else source, key, tensor, f"{dtype} {shape}")
            stacked[key][place] = tensor.read()
        if len(tensors) != len(wanted):
            odd = next(key for key in tensors if key not in wanted)
            raise _misfit(names[place] if names else source, odd, tensors[odd], "no such tensor")
    return stacked


def _misfit(source: object, key: str, found: LazyTensor | None, wanted: str) -> FormatError:
    got = "it lacks" if found is None else f"{found.dtype} {found.shape} is"
    return FormatError(
        f"{printable(source, 200)}: {got} {printable(key, 80)!r}, the architecture says {wanted}",
        hint="convert networks of other shapes as a source of their own",
    )
