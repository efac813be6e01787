import pytest
import torch

from tests.zootool.nets.modules import Siren
from zootool.architecture import check_slots
from zootool.nets.siren import siren_architecture


@pytest.mark.parametrize("hidden", [(32, 32), (8,), (8, 16, 24)])
def test_the_architecture_describes_the_modules_state_dict(hidden: tuple[int, ...]) -> None:
    architecture = siren_architecture(2, hidden, 3)
    check_slots(architecture)
    state = Siren(2, hidden, 3).state_dict()
    assert {slot.key: slot.shape for slot in architecture.slots} == {k: tuple(v.shape) for k, v in state.items()}
    assert [slot.key for slot in architecture.slots] == list(state)


def test_the_networks_of_the_published_sets_have_1251_parameters_on_colour_images() -> None:
    architecture = siren_architecture(2, (32, 32), 3)
    assert architecture.num_edges + architecture.num_nodes == 1251
    assert architecture.node_counts == (2, 32, 32, 3)


def test_the_module_computes_sines_and_a_linear_output() -> None:
    torch.manual_seed(0)
    network = Siren(2, (8,), 1, omega_0=10.0, output_offset=0.5)
    x = torch.randn(5, 2)
    state = network.state_dict()
    hidden = torch.sin(10 * (x @ state["net.0.linear.weight"].T + state["net.0.linear.bias"]))
    wanted = hidden @ state["net.1.weight"].T + state["net.1.bias"] + 0.5
    assert torch.allclose(network(x), wanted, atol=1e-6)


def test_conventions_are_part_of_the_signature() -> None:
    plain = siren_architecture(2, (8,), 1)
    assert plain.signature == siren_architecture(2, (8,), 1).signature
    assert plain.signature != siren_architecture(2, (8,), 1, omega_0=10.0).signature
    assert plain.signature != siren_architecture(2, (8,), 1, output_offset=0.5).signature
