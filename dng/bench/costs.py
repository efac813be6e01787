"""What a computation costs: FLOPs, bytes of tensors alive at once, and time.

FLOPs are twice the multiply-adds of matrix products and convolutions, counted while they run. What is counted is what
is dispatched, so the insides of custom autograd functions and backward passes count like anything else, by torch's
formulas and a few for what it passes over; a product that has none is an error, never zero. Fused transformer layers
are counted by their parts. Pointwise work, sums and kernels that torch doesn't dispatch (Triton, Numba) don't count.

Bytes are those of what torch hands out as a tensor, operation by operation. Scratch space inside one operation and the
allocator's rounding are not seen, so the number depends on the computation alone and not on the machine.
"""

import re
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count, shape_wrapper

from zootool.errors import UsageError
from zootool.graph import GraphBatch

_NUM_WARMUPS, _MIN_RUNS, _MAX_SECONDS = 3, 5, 8.0

Shape = Sequence[int]
aten = torch.ops.aten


def count_flops(run: Callable[[], object]) -> int:
    """The FLOPs of one call of `run`. Raises UsageError for an operation with products that can't be counted."""
    is_fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _FlopCounter() as counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fused)
    return counter.total


def peak_tensor_bytes(run: Callable[[], object]) -> int:
    """The peak during one call of `run`, with the tensors that it was given and read, such as weights and inputs."""
    with _ByteCounter() as counter:
        run()
    return counter.given + counter.peak


@dataclass(frozen=True)
class Latency:
    """The median seconds of `num_runs` runs behind a warm-up, and the quartiles around it."""

    seconds: float
    lower_quartile: float
    upper_quartile: float
    num_runs: int


@torch.inference_mode()
def latency(model: nn.Module, networks: GraphBatch, num_runs: int) -> Latency:
    """The time of one forward pass. Slow models get fewer runs, at least 5, to stay near 8 s."""
    timed = _seconds_cuda if networks.edges[0].is_cuda else _seconds_cpu
    warmups = [timed(lambda: model(networks)) for _ in range(_NUM_WARMUPS)]
    affordable = int(_MAX_SECONDS / max(warmups[-1], 1e-9))
    count = min(num_runs, max(_MIN_RUNS, affordable))
    seconds = sorted(timed(lambda: model(networks)) for _ in range(count))
    return Latency(median(seconds), seconds[count // 4], seconds[3 * count // 4], count)


@torch.inference_mode()
def peak_bytes(model: nn.Module, networks: GraphBatch) -> int:
    """The peak of one forward pass: weights, inputs and everything else that is alive at the same time.

    On the CPU the tensors alive; on CUDA torch's own `max_memory_allocated`, which sees scratch space inside operations
    too, less what had been allocated before for other things.
    """
    # The first run also prepares what a model keeps.
    model(networks)
    if not networks.edges[0].is_cuda:
        return peak_tensor_bytes(lambda: model(networks))
    torch.cuda.synchronize()
    tensors = (*model.parameters(), *model.buffers(), *networks.edges, *networks.nodes)
    given = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model(networks)
    torch.cuda.synchronize()
    return given + torch.cuda.max_memory_allocated() - before


def _seconds_cpu(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _seconds_cuda(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


class _FlopCounter(TorchDispatchMode):
    # Not torch's FlopCounterMode: its bookkeeping of modules fails on parameters given to modules without gradients,
    # and it passes over products that it has no formula for.
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        operation = func.overloadpacket
        formula = _FORMULAS.get(operation) or flop_registry.get(operation)
        if formula is None:
            # In inference mode composite operations, such as linear, arrive whole; their parts come back here.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
            if _PRODUCTS.search(operation.__name__):
                raise UsageError(
                    f"the FLOPs of {operation} can't be counted", hint="add its formula to dng/bench/costs.py"
                )
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        self.total += formula(*args, **kwargs, out_val=out)
        return out


def _product(left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    """(.., n, m) x (.., m, p), matrix times vector, or a dot product."""
    return 2 * prod(left) * (right[-1] if len(right) > 1 else 1)


_FORMULAS: dict[Any, Callable[..., int]] = {
    operation: shape_wrapper(formula)
    for operation, formula in {
        **dict.fromkeys((aten.mv, aten.dot, aten.vdot), _product),
        **dict.fromkeys(
            (aten.addmm_, aten._addmm_activation, aten.baddbmm_, aten.addbmm, aten.addbmm_, aten.addmv, aten.addmv_),
            lambda added, left, right, *_, **__: _product(left, right),
        ),
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
        ),
    }.items()
}

_PRODUCTS = re.compile(
    # Fused cells (_thnn) are pointwise, behind products that are dispatched; gamma, cummax and converting are none.
    r"^_trilinear|^(?!_thnn_|upsample_).*((?<![au])mm|mv(?!l)|dot|matmul|addr|conv(?!ert)|(?<![a-z])linear|attention|"
    r"transformer|rnn|lstm|gru|cdist|linalg_(?!vector_norm|cross))"
)
"""The names of operations with products in them; one without a formula must not pass for none."""


class _ByteCounter(TorchDispatchMode):
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
        storages = [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor)]
        found = {storage._cdata: storage for storage in storages if storage._cdata not in self.known}
        self.known.update(found)
        return list(found.values())

    def _freed(self, key: int, num_bytes: int) -> None:
        # Another storage may get the same address.
        self.known.discard(key)
        self.alive -= num_bytes
