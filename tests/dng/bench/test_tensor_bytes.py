import torch
from torch import Tensor, nn

from dng.bench.costs import peak_tensor_bytes

KB = 1000
SIDE = 250  # A float32 vector of this length takes 1 KB.


def ones(count: int = 1) -> Tensor:
    return torch.ones(count * SIDE)


def test_the_peak_is_what_is_alive_at_once() -> None:
    def three_then_one() -> Tensor:
        kept = ones() + ones()  # Two terms and their sum.
        for _ in range(5):
            kept = kept + 1  # The old and the new.
        return kept

    assert peak_tensor_bytes(three_then_one) == 3 * KB


def test_what_is_freed_counts_no_more() -> None:
    def large_then_small() -> None:
        large = ones(4)
        del large
        small = ones() + ones()
        del small

    assert peak_tensor_bytes(large_then_small) == 4 * KB


def test_an_address_that_is_used_again_counts_again() -> None:
    def reuse() -> Tensor:
        for _ in range(10):
            freed = ones(4)
            del freed
        return torch.stack([ones(2), ones(2)])

    assert peak_tensor_bytes(reuse) == 8 * KB


def test_views_and_in_place_work_take_no_room() -> None:
    def views() -> Tensor:
        return ones().mul_(2).relu_().view(-1, 1).expand(-1, 7).t()[2:]

    assert peak_tensor_bytes(views) == KB


def test_weights_and_inputs_count_once_however_often_they_are_read() -> None:
    weight = ones(3)
    assert peak_tensor_bytes(lambda: (weight * 2).sum() + weight[:SIDE].view(-1, 1).sum()) == 3 * KB + 3 * KB + 4


def test_results_that_are_kept_stay_alive() -> None:
    kept: list[Tensor] = []

    def keep() -> None:
        for _ in range(4):
            kept.append(ones())

    assert peak_tensor_bytes(keep) == 4 * KB


def test_composite_operations_are_looked_into_in_inference_mode_too() -> None:
    cell, x, hidden = nn.GRUCell(10, 20), torch.ones(5, 10), torch.ones(5, 20)
    with torch.no_grad():
        expected = peak_tensor_bytes(lambda: cell(x, hidden))
    with torch.inference_mode():
        assert peak_tensor_bytes(lambda: cell(x, hidden)) == expected
    weights = 4 * (60 * 10 + 60 * 20 + 2 * 60)
    # Both products of the gates are alive at once, and something more.
    assert expected > weights + 4 * (x.numel() + hidden.numel()) + 2 * 4 * 5 * 60


def test_the_same_run_has_the_same_peak() -> None:
    layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    x = torch.rand(8, 64)
    assert len({peak_tensor_bytes(lambda: layers(x)) for _ in range(5)}) == 1
