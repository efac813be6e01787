from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.zootool.nets.checkpoints import Net, inferred, rebuilt, shapes_of_state, sorted_state
from tests.zootool.nets.modules import SimpleVit, Sine, Siren
from zootool.architecture.steps import ACTIVATION_NAMES
from zootool.errors import FormatError
from zootool.nets.declared import FAMILIES, DeclaredActivation, read_declaration
from zootool.nets.infer import infer_architecture
from zootool.nets.network import Network
from zootool.nets.resnet import CifarResnet
from zootool.nets.siren import siren_architecture
from zootool.nets.vit import SimpleVitConfig

PREFIXES = (
    "", "net.", "backbone.", "encoder.", "_module.", "_fsdp_wrapped_module.", "_forward_module.", "module._orig_mod.",
    "model.encoder._orig_mod.",
)  # fmt: skip


def under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


@torch.no_grad()
def test_a_resnet_is_one_architecture_behind_any_prefix() -> None:
    torch.manual_seed(0)
    module, x = CifarResnet(8).eval(), torch.randn(2, 3, 16, 16)
    wanted, timestamps = module(x), infer_architecture(shapes_of_state(module.state_dict())).architecture.timestamps
    for prefix in PREFIXES:
        for state in (module.state_dict(), sorted_state(module.state_dict())):
            network = rebuilt(under(prefix, state))
            assert network.architecture.timestamps == timestamps
            torch.testing.assert_close(network(x), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_families_keep_the_precision_of_a_checkpoint(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for module, x in ((CifarResnet(8), torch.randn(1, 3, 8, 8)), (Siren(2, (8, 6), 3), torch.rand(5, 2))):
        module = module.to(dtype).eval()
        network = rebuilt(module.state_dict())
        assert all(torch.equal(network.state_dict()[key], value) for key, value in module.state_dict().items())
        torch.testing.assert_close(network(x.to(dtype)), module(x.to(dtype)))


@torch.no_grad()
def test_a_resnet_may_call_its_classifier_fc() -> None:
    module, x = CifarResnet(8).eval(), torch.randn(1, 3, 8, 8)
    state = {key.replace("linear.", "fc."): value for key, value in module.state_dict().items()}
    torch.testing.assert_close(rebuilt(state)(x), module(x))


def test_names_of_a_resnet_are_never_a_plain_chain() -> None:
    state = {key: value for key, value in CifarResnet(8).state_dict().items() if not key.startswith("layer3.")}
    for odd in (state, under("net.", state), state | {"extra.weight": torch.zeros(10, 10)}):
        with pytest.raises(FormatError, match="has the names of a ResNet"):
            rebuilt(odd)


def numbered(pattern: str, last: str) -> Callable[[int], str]:
    return lambda i: last if i == 2 else pattern.format(i)


SIRENS = {
    "neural-functional": numbered("net.{}.linear", "net.2"),
    "COIN": numbered("net.{}.linear", "last_layer.linear"),
    "a final layer": numbered("net.{}.linear", "final_layer"),
    "the first code": numbered("net.net.{}.0", "net.net.2.0"),
    "wrapped inside": numbered("net.{}._fsdp_wrapped_module.linear", "net.2"),
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("form", list(SIRENS))
@torch.no_grad()
def test_a_siren_is_one_architecture_under_the_names_of_published_code(form: str, prefix: str) -> None:
    torch.manual_seed(0)
    module, x = Siren(2, (8, 8), 3), torch.rand(5, 2)
    own = ("net.0.linear", "net.1.linear", "net.2")
    state = {
        f"{prefix}{SIRENS[form](i)}.{part}": module.state_dict()[f"{name}.{part}"]
        for i, name in enumerate(own)
        for part in ("weight", "bias")
    }
    for given in (state, sorted_state(state)):
        network = rebuilt(given)
        assert network.architecture.timestamps == siren_architecture(2, (8, 8), 3).timestamps
        torch.testing.assert_close(network(x), module(x))
    assert inferred(state).assumptions == (
        "layers are taken for sines with omega_0 = 30, as their names are",
        "the output is taken for linear, with nothing added to it",
    )


def test_the_signature_of_a_siren_stays() -> None:
    found = infer_architecture(shapes_of_state(Siren(2, (32, 32), 3).state_dict())).architecture
    assert found == siren_architecture(2, (32, 32), 3)


@torch.no_grad()
def test_an_output_that_is_named_like_a_sine_is_one() -> None:
    torch.manual_seed(0)
    module, x = nn.Sequential(Sine(2, 8, 30.0), Sine(8, 8, 30.0), Sine(8, 1, 30.0)), torch.rand(5, 2)
    network = rebuilt(under("net.", module.state_dict()))
    torch.testing.assert_close(network(x), module(x))
    declared = {"like": "siren", "num_inputs": 2, "hidden": [8, 8], "num_outputs": 1, "sine_output": True}
    torch.testing.assert_close(rebuilt(under("siren.", module.state_dict()), declared)(x), module(x))


@pytest.mark.parametrize(
    "names",
    [
        ("layers.0", "layers.1", "last_layer"),
        ("layers.0.linear", "layers.1.linear", "layers.2"),
        ("net.0.0", "net.1.0", "net.2.0"),
        ("siren.0", "siren.2", "siren.4"),
        ("net.0.linear", "net.2.linear", "net.4"),
    ],
)
@torch.no_grad()
def test_what_may_be_a_siren_is_refused_and_can_be_declared(names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 3)]
    state = {f"{name}.{key}": value for name, layer in zip(names, layers, strict=True)
             for key, value in layer.state_dict().items()}  # fmt: skip
    with pytest.raises(FormatError, match="is called like a SIREN's layer, but others are too: declare `like: siren`"):
        rebuilt(sorted_state(state))
    x = torch.rand(5, 2)
    wanted = layers[2](torch.sin(layers[1](torch.sin(30 * layers[0](x)))))
    declared = {"like": "siren", "num_inputs": 2, "hidden": [8, 8], "num_outputs": 3, "omega_0": 1, "first_omega_0": 30}
    torch.testing.assert_close(rebuilt(sorted_state(state), declared)(x), wanted)


@torch.no_grad()
def test_like_takes_any_names_that_map() -> None:
    torch.manual_seed(0)
    module, x = CifarResnet(8).eval(), torch.randn(2, 3, 8, 8)
    like = {"like": "cifar-resnet", "depth": 8}
    other = {key.replace("layer", "stage").replace("conv", "c"): value for key, value in module.state_dict().items()}
    without = {key: value for key, value in other.items() if "num_batches" not in key}
    for state in (under("net.", module.state_dict()), other, without):
        torch.testing.assert_close(rebuilt(state, like)(x), module(x))
    with pytest.raises(FormatError, match="its names aren't the family's, and its tensors are sorted"):
        rebuilt(sorted_state(other), like)
    vit = SimpleVit(SimpleVitConfig(dim=8, depth=1, mlp_dim=8)).double()
    declared = {"like": "simple-vit", "dim": 8, "depth": 1, "mlp_dim": 8}
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(rebuilt(sorted_state(under("vit.", vit.state_dict())), declared)(images), vit(images))


def test_like_a_siren_doesnt_guess_the_order_of_equal_layers() -> None:
    state = Net(x=nn.Linear(4, 4), a=nn.Linear(4, 4), m=nn.Linear(4, 4)).state_dict()
    declared = {"like": "siren", "num_inputs": 4, "hidden": [4, 4], "num_outputs": 4}
    rebuilt(state, declared)
    with pytest.raises(FormatError, match="fit together as"):
        rebuilt(sorted_state(state), declared)


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ({"like": "cifar-resnet", "depth": 10**8}, "depth: .* 1202"),
        ({"like": "cifar-resnet", "depth": 1202}, "depth 1202 has 1201 convolutions, there are 0"),
        ({"like": "siren", "num_inputs": 2, "hidden": [8] * 1001, "num_outputs": 3}, "hidden: .* 1000 items"),
        ({"like": "siren", "num_inputs": 2, "hidden": [10**12], "num_outputs": 3}, "hidden.0: .* 16777216"),
        ({"like": "siren", "num_inputs": 2, "hidden": [8], "num_outputs": 3, "omega_0": float("nan")}, "omega_0: .*fi"),
        ({"like": "siren", "num_inputs": 2, "hidden": [8], "num_outputs": 3, "omega_0": float("inf")}, "omega_0: "),
        (
            {"like": "siren", "num_inputs": 2, "hidden": [8], "num_outputs": 3, "output_offset": float("-inf")},
            "output_offset: .*finite",
        ),
        ({"like": "simple-vit", "depth": 10**8}, "depth: .* 1000"),
        ({"like": "cnn", "channels": [1, 10**12]}, "channels.1: "),
        ({"like": "chain", "activation": "tanhh"}, "activation.name: "),
        ({"like": "chain", "activation": {"name": "sine", "omega_0": float("inf")}}, "activation.omega_0: .*finite"),
        ({"like": "chain", "order": ["a"] * 10_001}, "order: .*10000 items"),
        ({"like": ["siren"]}, "there is no family"),
        (
            {"num_inputs": 2, "layers": [{"kind": "linear", "weight": "w", "stride": 10**9}], "output_offset": 1e300},
            "layers.0.stride: .* 100000, got 1000000000\n.*\n  output_offset: ",
        ),
    ],
)  # fmt: skip
def test_parameters_are_bounded_by_name(declaration: dict, message: str) -> None:
    shapes = shapes_of_state(Siren(2, (8, 8), 3).state_dict())
    with pytest.raises(FormatError, match=message):
        read_declaration(declaration, shapes)


def test_every_activation_can_be_declared_and_computed() -> None:
    names = set(ACTIVATION_NAMES)
    assert set(DeclaredActivation.model_fields["name"].annotation.__args__) == names  # type: ignore[union-attr]
    state = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).state_dict()
    for name in names:
        declared = {"like": "chain", "activation": name, "output_activation": name}
        assert [t.activation.name for t in rebuilt(state, declared).architecture.timestamps] == [name, name]
    assert "chain" in FAMILIES


@pytest.mark.parametrize(
    "shapes",
    [
        {"layer1.0.conv1.weight": ((2, 2), "float32"), "linear.weight": ((), "float32")},
        {"layer1.0.conv1.weight": ((2, 2), "float32"), "linear.bias": ((), "float32")},
        {"net.0.linear.weight": ((), "float32")},
        {"net.0.linear.bias": ((4,), "float32")},
        {"net.0.linear.weight": ((4,), "float32")},
        {"net.0.linear.weight": ((0, 4), "float32")},
        {"0.weight": ((4, 0), "float32"), "0.bias": ((), "float32")},
        {"0.weight": ((2, 2, 3), "float32")},
        {"0.weight": ((2, 2), "int64")},
        {"0.num_batches_tracked": ((), "int64")},
        {"0.running_mean": ((), "float32")},
        {"module": ((2, 2), "float32")},
        {"module.module.weight": ((2, 2, 2), "float32")},
        {"": ((2, 2), "float32")},
        {".": ((2, 2), "float32")},
        {f"{'9' * 5000}.weight": ((2, 2), "float32"), "1.weight": ((2, 2), "float32")},
        {"to_patch_embedding.1.weight": ((), "float32")},
        {},
    ],
    ids=range(18),
)
def test_odd_names_and_shapes_are_named_and_crash_nothing(shapes: dict) -> None:
    with pytest.raises(FormatError):
        infer_architecture(shapes)
    for family, rest in (
        ("siren", {"num_inputs": 2, "hidden": [4], "num_outputs": 1}),
        ("cifar-resnet", {}),
        ("chain", {}),
    ):
        with pytest.raises(FormatError):
            read_declaration({"like": family, **rest}, shapes)


def test_a_network_says_which_tensors_nothing_uses() -> None:
    state = {"a.weight": torch.ones(2, 3), "mask": torch.ones(2), "pos": torch.ones(1, 2), "norm.weight": torch.ones(2)}
    layer = {"kind": "linear", "weight": "a.weight"}
    declared = {"num_inputs": 3, "layers": [layer], "position": "pos", "other": ["mask", "norm.weight"]}
    architecture = read_declaration(declared, shapes_of_state(state)).architecture
    with pytest.raises(
        FormatError, match=r"no layer of the architecture uses mask, norm\.weight, pos: a module without"
    ):
        Network(architecture)
    network = Network(architecture, allow_unused=True)
    network.load_state_dict(state)
    torch.testing.assert_close(network(torch.ones(1, 3)), torch.full((1, 2), 3.0))
