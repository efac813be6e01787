"""A device that isn't there: torch computes on the CPU, and refuses what it would refuse between a GPU and the CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("xpu", 0)
_TO_NUMPY = (Tensor.numpy, Tensor.__array__)
_SET_DATA = Tensor.data.__set__  # type: ignore[missing-attribute]
_SEES_BOTH = (_SET_DATA, torch._has_compatible_shallow_copy_type)
_BY_PLACE = (Tensor.__getitem__, Tensor.__setitem__)


class Elsewhere(TorchFunctionMode):
    """Inside, DEVICE seems to be there; `computed_there` and `computed_here` name what torch was asked for.

    Tensors lie there that were moved or made there, and what is computed from them. They have no numpy array, and meet
    none of the CPU's but single numbers, copies from the one to the other, and indices. Raises RuntimeError where they
    do, as torch does of devices. Holds in the thread that entered it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.computed_there: set[str] = set()
        self.computed_here: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return DEVICE if lies_there(args[0]) else func(*args)
        if func in _TO_NUMPY and lies_there(args[0]):
            raise TypeError("a tensor that lies elsewhere has no numpy array")
        if func == _SET_DATA:
            _mark(args[0], lies_there(args[1]))
        if func in _SEES_BOTH:
            return func(*args, **kwargs)
        if func in (Tensor.to, Tensor.cpu):
            return _moved(func, *args, **kwargs)
        device = kwargs.pop("device", None)
        is_there = _meets_there(func, args, kwargs) if device is None else torch.device(device) == DEVICE
        (self.computed_there if is_there else self.computed_here).add(_name(func))
        return _mark(func(*args, **kwargs), is_there)


def lies_there(value: object) -> bool:
    """Whether a tensor lies on DEVICE."""
    return getattr(value, "lies_elsewhere", False)


def _mark(value: Any, is_there: bool) -> Any:
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor):
            leaf.lies_elsewhere = is_there  # type: ignore[missing-attribute]
    return value


def _moved(function: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`tensor.to(...)` and `tensor.cpu()`; always a copy, so that moving leaves the tensor itself where it was."""
    place = "cpu" if function is Tensor.cpu else kwargs.get("device")
    dtype = kwargs.get("dtype")
    for argument in args:
        if isinstance(argument, torch.dtype):
            dtype = argument
        elif isinstance(argument, torch.device | str | Tensor):
            place = argument
    if isinstance(place, Tensor):
        is_there, dtype = lies_there(place), place.dtype
    else:
        is_there = lies_there(tensor) if place is None else torch.device(place) == DEVICE
    return _mark(tensor.to(dtype or tensor.dtype, copy=True), is_there)


def _meets_there(function: Any, args: Any, kwargs: Any) -> bool:
    """Whether a function computes elsewhere: where its tensors lie, of which single numbers may lie here."""
    if function is Tensor.copy_:
        return lies_there(args[0])
    if function in _BY_PLACE:
        if not lies_there(args[0]) and any(map(lies_there, tree_leaves(args[1:]))):
            raise RuntimeError(f"{_name(function)}: a tensor of the CPU, and indices or values that lie elsewhere")
        return lies_there(args[0])
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if len({lies_there(tensor) for tensor in tensors if tensor.ndim}) > 1:
        raise RuntimeError(f"{_name(function)} is given tensors of two devices")
    return any(map(lies_there, tensors))


def _name(function: Any) -> str:
    return getattr(function, "__name__", str(function))
