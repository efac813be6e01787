"""Peak memory of a computation: the most bytes of tensors alive at once, counted while it runs, on any device.

What counts is what torch hands out as a tensor, operation by operation. Scratch space inside one operation and the
allocator's rounding are not seen, so the number depends on the computation alone and not on the machine.
"""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_tensor_bytes(run: Callable[[], object]) -> int:
    """The peak during one call of `run`, with the tensors that it was given and read, such as weights and inputs."""
    with _Watcher() as watcher:
        run()
    return watcher.given + watcher.peak


class _Watcher(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.given = self.alive = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        # In inference mode composite operations arrive whole; the tensors inside them come by as its parts do.
        with self:
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        for storage in self._new_storages((args, kwargs)):
            self.given += storage.nbytes()
            weakref.finalize(storage, self._freed, storage._cdata, 0)
        out = func(*args, **kwargs)
        for storage in self._new_storages(out):
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        return out

    def _new_storages(self, values: Any) -> list[Any]:
        """The storages in `values` that no operation has read or made before."""
        found = {}
        for value in tree_leaves(values):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self.known:
                    found[storage._cdata] = storage
        self.known.update(found)
        return list(found.values())

    def _freed(self, key: int, num_bytes: int) -> None:
        # Another storage may get the same address.
        self.known.discard(key)
        self.alive -= num_bytes
