import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from tests.zootool.nets.checkpoints import Net, inferred, random_norms, rebuilt, sorted_state
from zootool.errors import FormatError

SEQUENTIALS = {
    "before the activation": nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 6)),
    "behind the activation": nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 6)),
    "before the first layer": nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6)),
    "batch, behind the activation": nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 6)),
    "without weights": nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Linear(6, 6)),
    "no activation at all": nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)),
}


@pytest.mark.parametrize("is_sorted", [False, True], ids=["as saved", "sorted"])
@pytest.mark.parametrize("name", list(SEQUENTIALS))
@torch.no_grad()
def test_indices_tell_on_which_side_a_norm_is(name: str, is_sorted: bool) -> None:
    torch.manual_seed(0)
    module = random_norms(SEQUENTIALS[name])
    state, x = module.state_dict(), torch.randn(5, 3)
    torch.testing.assert_close(rebuilt(sorted_state(state) if is_sorted else state)(x), module(x))


def pre_norm(width: int) -> Net:
    return Net(
        lambda net, x: net.fc2(net.ln2(relu(net.fc1(net.ln1(x))))),
        ln1=nn.LayerNorm(4),
        fc1=nn.Linear(4, width),
        ln2=nn.LayerNorm(width),
        fc2=nn.Linear(width, 4),
    )


@torch.no_grad()
def test_sizes_tell_a_norm_before_from_one_behind() -> None:
    torch.manual_seed(0)
    module, x = random_norms(pre_norm(6)), torch.randn(3, 4)
    for state in (module.state_dict(), sorted_state(module.state_dict())):
        torch.testing.assert_close(rebuilt(state)(x), module(x))


@torch.no_grad()
def test_square_layers_with_norms_are_refused_when_sorted_and_can_be_declared() -> None:
    torch.manual_seed(0)
    module, x = random_norms(pre_norm(4)), torch.randn(3, 4)
    torch.testing.assert_close(rebuilt(module.state_dict())(x), module(x))
    state = sorted_state(module.state_dict())
    with pytest.raises(FormatError, match="can't tell what the norm 'ln1' is for"):
        rebuilt(state)
    layers = [
        {"kind": "linear", "weight": f"fc{i}.weight", "bias": f"fc{i}.bias", "activation": "relu" if i == 1 else "none",
         "source_norm": {"kind": "layer", "at": f"ln{i}"}} for i in (1, 2)
    ]  # fmt: skip
    torch.testing.assert_close(rebuilt(state, {"num_inputs": 4, "layers": layers})(x), module(x))


@torch.no_grad()
def test_a_declared_order_of_layers_and_norms_places_them() -> None:
    torch.manual_seed(0)
    module = Net(lambda net, x: net.b(relu(net.n(net.a(x)))), a=nn.Linear(4, 4), b=nn.Linear(4, 4), n=nn.LayerNorm(4))
    random_norms(module)
    state, x = sorted_state(module.state_dict()), torch.randn(3, 4)
    declared = {"like": "chain", "order": ["a", "n", "b"]}
    torch.testing.assert_close(rebuilt(state, declared)(x), module(x))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)), "both sides"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3)), "perhaps a pooling"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)), "a pooling"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 3)), "group or a layer norm"),
        (nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4), nn.ReLU(), nn.Linear(4, 4)), "RMS norm or a PReLU"),
        (nn.Sequential(nn.Linear(3, 1), nn.PReLU(), nn.Linear(1, 4)), "RMS norm or a PReLU"),
        (Net(fc1=nn.Linear(3, 4), bn1=nn.BatchNorm1d(5)), "of 5 doesn't fit 'fc1' of 3 inputs and 4 nodes"),
        (Net(conv=nn.Conv2d(1, 4, 3), fc=nn.Linear(80, 3)), "takes 20 inputs of each of 4 channels, .* no square"),
    ],
)  # fmt: skip
def test_what_stands_where_cannot_always_be_told(module: nn.Module, message: str) -> None:
    for state in (module.state_dict(), sorted_state(module.state_dict())):
        with pytest.raises(FormatError, match=message):
            inferred(state)


def test_a_place_that_two_norms_have_is_refused_however_it_was_found() -> None:
    state = Net(conv1=nn.Conv2d(1, 4, 3), bn1=nn.BatchNorm2d(4), norm1=nn.BatchNorm2d(4)).state_dict()
    for declaration in (None, {"like": "chain"}, {"like": "chain", "order": ["conv1", "bn1", "norm1"]}):
        with pytest.raises(FormatError, match="can't tell what the norm 'norm1' is for"):
            inferred(state, declaration)
