import pytest
import torch

from tests.zootool.nets.modules import Cnn
from zootool.architecture import check_slots
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.lay_out import entries_of, lay_out, renamed
from zootool.nets.network import Network
from zootool.nets.resnet import CifarResnet, cifar_resnet_architecture

PARK = CnnConfig((3, 8, 4, 8), (3, 5, 7), (1, 1, 1), (1, 2, 3), ("gelu", "leaky_relu", "none"), (None, None, 0))

FLAT = CnnConfig(
    (3, 8, 4, 20, 8), (3, 5, 3, 3), (2, 1, 2, 1), (1, 2, 1, 0), ("gelu", "none", "sigmoid", "tanh"),
    (None, 0, None, None), 7, "flatten", (16, 12),
)  # fmt: skip


def test_the_small_cnn_zoos_network_has_4970_parameters() -> None:
    architecture = cnn_architecture(CnnConfig())
    assert architecture.num_edges + architecture.num_nodes == 4970
    assert architecture.edges_per_pair == (9, 9, 9, 1)


@pytest.mark.parametrize("config", [CnnConfig(), PARK, FLAT])
def test_the_rebuilt_network_computes_the_same(config: CnnConfig) -> None:
    torch.manual_seed(0)
    module, architecture = Cnn(config), cnn_architecture(config)
    check_slots(architecture)
    rebuilt = Network(architecture)
    rebuilt.load_state_dict(module.state_dict())
    x = torch.randn(2, config.channels[0], *(config.image_shape or (16, 16)))
    assert torch.equal(rebuilt(x), module(x))


def test_residuals_come_from_earlier_convolutions() -> None:
    with pytest.raises(ValueError, match="convolution 1 can't add"):
        CnnConfig(residuals=(None, 1, None))
    with pytest.raises(ValueError, match="as many kernels"):
        CnnConfig(kernels=(3,))


def test_a_flatten_has_an_edge_per_position() -> None:
    assert FLAT.sides == ((16, 12), (8, 6), (8, 6), (4, 3), (2, 1))
    last = cnn_architecture(FLAT).timestamps[-1]
    assert (last.kind, last.edges_per_pair, last.num_edges) == ("flatten_linear", 2, 7 * 8 * 2)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"head": "flatten"}, "needs the image_shape"),
        ({"image_shape": (8, 8)}, "convolution 2 has a kernel of 3 for a map of 1 x 1"),
        (
            {"image_shape": (28, 28), "residuals": (None, None, 0)},
            "can't add the output of convolution 0 of another size",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_named(parts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CnnConfig(**parts)


def test_entries_lay_out_to_the_same_slots() -> None:
    architecture = cifar_resnet_architecture(8)
    again = lay_out(architecture.num_inputs, architecture.timestamps, entries_of(architecture), family="resnet")
    assert again == architecture


def test_renamed_keys_without_counters_load_old_checkpoints() -> None:
    torch.manual_seed(0)
    module, architecture = CifarResnet(8).eval(), cifar_resnet_architecture(8)
    old = {f"module.{k}": v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    names = {key.removeprefix("module."): key for key in old}
    rebuilt = Network(renamed(architecture, names)).eval()
    rebuilt.load_state_dict(old)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(rebuilt(x), module(x), rtol=1e-5, atol=1e-6)
