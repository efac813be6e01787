from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dng.flops import count_flops
from dng.message import ScaledSum


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
