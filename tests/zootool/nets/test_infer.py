import pytest
import torch
from torch import nn

from tests.zootool.nets.modules import Siren
from tests.zootool.nets.test_declared import TinyVit, shapes_of
from zootool.errors import FormatError
from zootool.nets.infer import infer_architecture
from zootool.nets.network import Network
from zootool.nets.resnet import CifarResnet


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5, bias=False), nn.ReLU(), nn.Linear(5, 2)),
        nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2)),
        nn.Sequential(nn.Linear(4, 1)),
    ],
    ids=["mlp", "layer norm", "one layer"],
)
@torch.no_grad()
def test_chains_of_linear_layers_compute_the_same(module: nn.Sequential) -> None:
    network = Network(infer_architecture(shapes_of(module)).architecture)
    network.load_state_dict(module.state_dict())
    x = torch.randn(6, module.get_parameter("0.weight").shape[1])
    torch.testing.assert_close(network(x), module(x))


@torch.no_grad()
def test_chains_with_convolutions_compute_the_same() -> None:
    for tail, positions in (([nn.AdaptiveAvgPool2d(1)], 1), ([], 16)):
        module = nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, (3, 3)), nn.ReLU(), *tail,
            nn.Flatten(), nn.Linear(4 * positions, 5),
        ).eval()  # fmt: skip
        found = infer_architecture(shapes_of(module))
        assert "convolutions are taken for stride 1 without padding, dilation or pooling" in found.assumptions
        assert any("images have 8 x 8 pixels" in text for text in found.assumptions) == (positions > 1)
        network = Network(found.architecture)
        network.load_state_dict(module.state_dict())
        x = torch.randn(2, 2, 8, 8)
        torch.testing.assert_close(network.eval()(x), module(x))


@torch.no_grad()
def test_a_cifar_resnet_is_known_by_its_names_with_and_without_counters() -> None:
    torch.manual_seed(0)
    module, x = CifarResnet(14).eval(), torch.randn(2, 3, 32, 32)
    for drop in ("", "num_batches_tracked"):
        state = {key: value for key, value in module.state_dict().items() if not drop or drop not in key}
        shapes = {key: found for key, found in shapes_of(module).items() if key in state}
        network = Network(infer_architecture(shapes).architecture)
        network.load_state_dict(state)
        assert list(network.state_dict()) == list(state)
        torch.testing.assert_close(network.eval()(x), module(x))


@torch.no_grad()
def test_a_siren_is_known_by_its_names() -> None:
    torch.manual_seed(0)
    module, x = Siren(2, (8, 6), 3), torch.rand(5, 2)
    found = infer_architecture(shapes_of(module))
    assert "omega_0 = 30" in found.assumptions[0]
    network = Network(found.architecture)
    network.load_state_dict(module.state_dict())
    torch.testing.assert_close(network(x), module(x))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (shapes_of(TinyVit()), "'embed' is named like an embedding"),
        ({"token": ((1, 1, 6), "float32")}, "can't tell what 'token' of shape .1, 1, 6. does"),
        ({"to_patch_embedding.1.weight": ((48,), "float32")}, "number of heads"),
        (
            {"a.weight": ((3, 4), "float32"), "b.weight": ((2, 5), "float32")},
            "'b' takes 5 inputs.*if its layers follow one another, declare the order.*concatenations.*aren't held",
        ),
        (
            {"a.weight": ((3, 4), "float32"), "a.bias": ((5,), "float32")},
            "'a.bias' is float32 .5,., wanted are floats of .3,.",
        ),
        (
            {"a.weight": ((3, 4), "float32"), "a.bias": ((4,), "float32")},
            "'a.weight' of .3, 4. has a bias for its second axis.*transpose it in torch",
        ),
        (
            {"a.weight": ((4, 4), "float32"), "a.bias": ((4,), "float32"), "b.bias": ((4,), "float32")},
            "'b.bias' is a bias without its weight.*save the whole state_dict by torch.save",
        ),
        ({"a.weight": ((4, 4, 3), "float32")}, "can't tell what 'a.weight'.*layers of 3 axes aren't held"),
        ({"a.weight": ((0, 4), "float32")}, "can't tell what 'a.weight'.*it has no elements"),
        ({f"{i}.weight": ((1, 1), "float32") for i in range(10_001)}, "has 10001 layers, an architecture at most"),
        ({"n.weight": ((3,), "float32"), "n.bias": ((3,), "float32")}, "has no layers"),
        ({"c.weight": ((3, 1, 2, 2), "float32"), "n.weight": ((3,), "float32")}, "a group or a layer norm"),
        (
            {"layer1.0.conv1.weight": ((16, 16, 3, 3), "float32"), "linear.weight": ((10, 64), "float32")},
            "has 3 layers",
        ),
    ],
)
def test_what_cannot_be_told_is_said(shapes: dict, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        infer_architecture(shapes)


def test_what_a_chain_lacks_is_among_its_assumptions() -> None:
    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 2)

    assert "no shortcuts, branches, gates or loops" in infer_architecture(shapes_of(Skipping())).assumptions[0]
    assert not any("shortcuts" in text for text in infer_architecture(shapes_of(nn.Linear(4, 2))).assumptions)


def test_an_activation_between_two_sequentials_is_named_where_it_is_assumed() -> None:
    parts = {
        "encoder": nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)),
        "decoder": nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 8)),
    }
    assumed = infer_architecture(shapes_of(nn.ModuleDict(parts))).assumptions
    assert "an activation is taken to stand behind encoder.2 too, where a Sequential ends" in assumed
    plain = nn.ModuleDict({"hidden": nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)]), "out": nn.Linear(8, 2)})
    assert not any("Sequential ends" in text for text in infer_architecture(shapes_of(plain)).assumptions)
