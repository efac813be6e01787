from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dng.bench.costs import count_flops
from dng.encoder.message import ScaledSum
from zootool.errors import UsageError


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


@pytest.mark.parametrize(
    ("run", "multiply_adds"),
    [
        (lambda: ones(3, 4) @ ones(4, 5), 3 * 4 * 5),
        (lambda: ones(3, 4) @ ones(4), 3 * 4),
        (lambda: ones(4) @ ones(4), 4),
        (lambda: ones(2, 3, 4) @ ones(2, 4, 5), 2 * 3 * 4 * 5),
        (lambda: torch.addmm(ones(5), ones(3, 4), ones(4, 5)), 3 * 4 * 5),
        (lambda: ones(3, 5).addmm_(ones(3, 4), ones(4, 5)), 3 * 4 * 5),
        (lambda: torch.addmv(ones(3), ones(3, 4), ones(4)), 3 * 4),
        (lambda: torch.baddbmm(ones(2, 3, 5), ones(2, 3, 4), ones(2, 4, 5)), 2 * 3 * 4 * 5),
        (lambda: torch.einsum("bij,bjk->bik", ones(2, 3, 4), ones(2, 4, 5)), 2 * 3 * 4 * 5),
        (lambda: nn.functional.linear(ones(2, 3, 4), ones(5, 4), ones(5)), 2 * 3 * 4 * 5),
        (lambda: nn.GRUCell(3, 4)(ones(2, 3), ones(2, 4)), 2 * 12 * (3 + 4)),
        (lambda: torch.sin(ones(3, 4)) * ones(3, 4), 0),
    ],
)
def test_products_count_their_multiply_adds_twice(run: Any, multiply_adds: int) -> None:
    assert count_flops(run) == 2 * multiply_adds
    with torch.inference_mode():
        assert count_flops(run) == 2 * multiply_adds


def test_a_convolution_counts_its_kernel_at_every_output() -> None:
    layer = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2)
    x = ones(2, 4, 7, 7)
    assert layer(x).shape == (2, 6, 4, 4)
    assert count_flops(lambda: layer(x)) == 2 * (2 * 6 * 4 * 4) * (2 * 3 * 2)


def test_a_transposed_convolution_counts_its_kernel_at_every_input() -> None:
    layer = nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1)
    assert count_flops(lambda: layer(ones(2, 4, 7, 7))) == 2 * (2 * 4 * 7 * 7) * (6 * 4 * 4)


def test_backward_counts_one_product_per_gradient() -> None:
    x, weight = ones(3, 4).requires_grad_(), ones(4, 5).requires_grad_()
    assert count_flops(lambda: (x @ weight).sum().backward()) == 3 * 2 * 3 * 4 * 5
    layer, images = nn.Conv2d(4, 6, 3), ones(2, 4, 5, 5)
    forward = 2 * (2 * 6 * 3 * 3) * (4 * 3 * 3)
    # The images need no gradient.
    assert count_flops(lambda: layer(images).sum().backward()) == 2 * forward
    images.requires_grad_()
    assert count_flops(lambda: layer(images).sum().backward()) == 3 * forward


def test_the_insides_of_custom_functions_count() -> None:
    degrees, batch, targets, sources, dim = 3, 2, 4, 5, 6
    basis = torch.rand(degrees, batch, targets, sources, requires_grad=True)
    weight, sent = torch.rand(dim, degrees, requires_grad=True), torch.rand(batch, sources, dim, requires_grad=True)
    product = 2 * batch * targets * sources * degrees * dim
    assert count_flops(lambda: ScaledSum.apply(basis, weight, sent)) == product
    # Backward makes the scales again, then the gradients of weight and basis.
    assert count_flops(lambda: ScaledSum.apply(basis, weight, sent).sum().backward()) == 4 * product


def test_counting_changes_no_result() -> None:
    layer = nn.Linear(3, 4)
    found = []
    count_flops(lambda: found.append(layer(ones(2, 3))))
    assert torch.equal(found[0], layer(ones(2, 3)))


def test_fused_attention_counts_as_its_products_do() -> None:
    queries, keys, values = ones(2, 3, 5, 8), ones(2, 3, 7, 8), ones(2, 3, 7, 8)
    attend = nn.functional.scaled_dot_product_attention
    with sdpa_kernel(SDPBackend.MATH):
        by_parts = count_flops(lambda: attend(queries, keys, values))
    assert by_parts == 2 * (2 * 3) * (5 * 7) * (8 + 8)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        assert count_flops(lambda: attend(queries, keys, values)) == by_parts
        for tensor in (queries, keys, values):
            tensor.requires_grad_()
        # Forward, then queries with keys once more and four gradients of products, of equal size each.
        assert count_flops(lambda: attend(queries, keys, values).sum().backward()) == by_parts * 7 // 2


def test_a_fused_transformer_layer_counts_by_its_parts() -> None:
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), ones(3, 5, 8)
    products = 3 * 5 * (8 * 24 + 8 * 8 + 2 * 8 * 16) + 2 * 3 * 5 * 5 * 8
    with torch.no_grad():
        assert count_flops(lambda: layer(x)) == 2 * products
        attention = layer.self_attn
        assert count_flops(lambda: attention(x, x, x, need_weights=False)) == 2 * (3 * 5 * 8 * 32 + 2 * 3 * 5 * 5 * 8)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("operation", "run"),
    [
        ("_trilinear", lambda: nn.functional.bilinear(ones(2, 3), ones(2, 4), ones(5, 3, 4))),
        ("mkldnn_rnn_layer|_cudnn_rnn", lambda: nn.LSTM(3, 4)(ones(5, 2, 3))),
        ("_cdist_forward", lambda: torch.cdist(ones(3, 4), ones(5, 4))),
        ("linalg_inv_ex", lambda: torch.linalg.inv(torch.eye(3))),
        ("_int_mm", lambda: torch._int_mm(torch.ones(32, 32).char(), torch.ones(32, 32).char())),
        (
            "_native_multi_head_attention",
            lambda: torch._native_multi_head_attention(
                ones(2, 5, 8), ones(2, 5, 8), ones(2, 5, 8), 8, 2, ones(24, 8), ones(24), ones(8, 8), ones(8)
            ),
        ),
    ],
)
def test_products_without_a_formula_are_an_error_and_not_zero(operation: str, run: Any) -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), pytest.raises(UsageError, match=rf"the FLOPs of aten\.({operation}) can't be counted"):
            count_flops(run)


def test_what_only_sounds_like_a_product_counts_nothing() -> None:
    x = ones(1, 2, 4, 4)
    pointwise = (torch.lgamma, lambda x: x.cummax(0), lambda x: nn.functional.interpolate(x, 8, mode="bilinear"))
    assert [count_flops(lambda run=run: run(x)) for run in pointwise] == [0, 0, 0]
