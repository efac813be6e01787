import copy
import pickle

import torch
from torch import nn

from dng.encoder.features import WhileUnchanged


class Doubled(nn.Module):
    """Twice its parameter, and how often that was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.kept = WhileUnchanged()
        self.count = 0

    def forward(self, setting: object = None) -> torch.Tensor:
        def compute() -> torch.Tensor:
            self.count += 1
            return 2 * self.weight

        return self.kept.get((self.weight,), compute, setting)


@torch.no_grad()
def test_the_value_is_computed_once_and_again_after_any_change() -> None:
    module = Doubled()
    assert torch.equal(module(), module())
    assert module.count == 1
    module.weight.add_(1)
    assert module().tolist() == [4, 4, 4]
    module.load_state_dict({"weight": torch.zeros(3)})
    assert module().tolist() == [0, 0, 0]
    module.weight = nn.Parameter(torch.full((3,), 5.0))
    assert module().tolist() == [10, 10, 10]
    module.weight.data = torch.full((3,), 7.0)
    assert module().tolist() == [14, 14, 14]
    assert module.double()().dtype == torch.float64
    count = module.count
    module("other setting")
    assert module.count == count + 1


def test_gradients_flow_and_nothing_stale_comes_back_after_a_step() -> None:
    module = Doubled()
    with torch.no_grad():
        module()
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    for _ in range(2):
        optimiser.zero_grad()
        module().sum().backward()
        assert module.weight.grad is not None
        optimiser.step()
    with torch.no_grad():
        assert torch.equal(module(), 2 * module.weight)


def test_what_was_kept_in_inference_mode_serves_training() -> None:
    module = Doubled()
    module.weight.requires_grad_(False)
    with torch.inference_mode():
        module()
    scale = torch.ones(3, requires_grad=True)
    (module() * scale).sum().backward()
    assert scale.grad is not None


def test_tensors_whose_changes_are_not_counted_are_not_trusted() -> None:
    with torch.inference_mode():
        module = Doubled()
        module()
        module.weight.fill_(3)
        assert module().tolist() == [6, 6, 6]


@torch.no_grad()
def test_copies_start_empty() -> None:
    module = Doubled()
    module()
    twin = copy.deepcopy(module)
    twin.weight.fill_(4)
    assert twin().tolist() == [8, 8, 8]
    assert pickle.loads(pickle.dumps(module))().tolist() == [2, 2, 2]
