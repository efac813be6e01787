"""FLOPs of a computation: twice the multiply-adds of its matrix products and convolutions, counted while it runs.

What is counted is what is dispatched, so the insides of custom autograd functions and backward passes count like
anything else, by torch's formulas and a few for what it passes over; a product that has none is an error, never zero.
Fused transformer layers are counted by their parts. Pointwise work, sums and kernels that torch
doesn't dispatch (Triton, Numba) don't count.
"""

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count, shape_wrapper

from zootool.errors import UsageError

Shape = Sequence[int]

aten = torch.ops.aten


def count_flops(run: Callable[[], object]) -> int:
    """The FLOPs of one call of `run`. Raises UsageError for an operation with products that can't be counted."""
    is_fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _Counter() as counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fused)
    return counter.total


class _Counter(TorchDispatchMode):
    # Not torch's FlopCounterMode: its bookkeeping of modules fails on parameters given to modules without gradients.
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
                    f"the FLOPs of {operation} can't be counted", hint="add its formula to dng/bench/flops.py"
                )
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        self.total += formula(*args, **kwargs, out_val=out)
        return out


def _product(left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    """(.., n, m) x (.., m, p), matrix times vector, or a dot product."""
    return 2 * prod(left) * (right[-1] if len(right) > 1 else 1)


def _added_product(added: Shape, left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    return _product(left, right)


def _attention(queries: Shape, keys: Shape, values: Shape, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(queries, keys, values)


def _attention_backward(grad: Shape, queries: Shape, keys: Shape, values: Shape, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, queries, keys, values)


_FORMULAS: dict[Any, Callable[..., int]] = {
    operation: shape_wrapper(formula)
    for operation, formula in {
        **dict.fromkeys((aten.mv, aten.dot, aten.vdot), _product),
        **dict.fromkeys((aten.addmm_, aten._addmm_activation, aten.baddbmm_, aten.addbmm), _added_product),
        **dict.fromkeys((aten.addbmm_, aten.addmv, aten.addmv_), _added_product),
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }.items()
}

_PRODUCTS = re.compile(
    # Fused cells (_thnn) are pointwise, behind products that are dispatched; gamma, cummax and converting are none.
    r"^_trilinear|^(?!_thnn_|upsample_).*((?<![au])mm|mv(?!l)|dot|matmul|addr|conv(?!ert)|(?<![a-z])linear|attention|"
    r"transformer|rnn|lstm|gru|cdist|linalg_(?!vector_norm|cross))"
)
"""The names of operations with products in them; one without a formula must not pass for none."""
