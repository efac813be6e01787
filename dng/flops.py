"""FLOPs of a computation: twice the multiply-adds of its matrix products and convolutions, counted while it runs.

What is counted is what is dispatched, so the insides of custom autograd functions and backward passes count like
anything else. Pointwise work, sums and kernels that torch doesn't dispatch (Triton, Numba) don't count.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


def count_flops(run: Callable[[], object]) -> int:
    """The FLOPs of one call of `run`."""
    with _Counter() as counter:
        run()
    return counter.total


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        multiply_adds = _MULTIPLY_ADDS.get(func.overloadpacket)
        if multiply_adds is None:
            # In inference mode composite operations, such as linear, arrive whole; their parts come back here.
            with self:
                out = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        self.total += 2 * multiply_adds(out, *args)
        return out


def _product(out: Tensor, left: Tensor, right: Tensor, *_: Any) -> int:
    """(.., n, m) x (.., m, p), matrix times vector, or a dot product."""
    return left.numel() * (right.shape[-1] if right.ndim > 1 else 1)


def _added_product(out: Tensor, added: Tensor, left: Tensor, right: Tensor, *_: Any) -> int:
    return _product(out, left, right)


def _convolution(out: Tensor, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any,
                 transposed: bool, *_: Any) -> int:  # fmt: skip
    # A weight is (out, in / groups, kernel), and transposed (in, out / groups, kernel): what one number at the
    # output is made of, or what one at the input gives to. Padding counts like pixels.
    return (x if transposed else out).numel() * weight[0].numel()


def _convolution_backward(out: Any, grad: Tensor, x: Tensor, weight: Tensor, bias_sizes: Any, stride: Any,
                          padding: Any, dilation: Any, transposed: bool, output_padding: Any, groups: int,
                          output_mask: list[bool]) -> int:  # fmt: skip
    # The gradients of the input and of the weight take as much as the forward pass each.
    forward = _convolution(grad, x, weight, None, stride, padding, dilation, transposed)
    return forward * (output_mask[0] + output_mask[1])


def _attention(out: Any, queries: Tensor, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> int:
    """Queries (.., n, c) with keys (.., m, c), and what they give with values (.., m, d)."""
    pairs = queries[..., 0].numel() * keys.shape[-2]
    return pairs * (queries.shape[-1] + values.shape[-1])


def _attention_backward(
    out: Any, grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_: Any, **__: Any
) -> int:
    # The products of queries and keys again, then the gradients of all three and of the attention.
    pairs = queries[..., 0].numel() * keys.shape[-2]
    return pairs * (3 * queries.shape[-1] + 2 * values.shape[-1])


_MULTIPLY_ADDS: dict[Any, Callable[..., int]] = {
    **dict.fromkeys((aten.mm, aten.bmm, aten.mv, aten.dot, aten.vdot), _product),
    **dict.fromkeys((aten.addmm, aten.addmm_, aten.baddbmm, aten.baddbmm_, aten.addmv, aten.addmv_), _added_product),
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._scaled_dot_product_flash_attention_backward: _attention_backward,
    aten._scaled_dot_product_efficient_attention_backward: _attention_backward,
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
}
