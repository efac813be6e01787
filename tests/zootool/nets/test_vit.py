import torch
from torch import nn

from tests.zootool.nets.modules import SimpleVit
from zootool.architecture import Architecture, check_slots
from zootool.architecture.kinds import attend
from zootool.nets.network import Network
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture

SMALL = SimpleVitConfig(channels=1, patch_size=2, dim=8, depth=1, num_heads=2, head_dim=4, mlp_dim=12, num_classes=3)


def test_the_zoos_simple_vit_has_12_timestamps() -> None:
    architecture = simple_vit_architecture(SimpleVitConfig())
    assert (architecture.num_layers, architecture.num_edges, architecture.num_nodes) == (12, 26432, 234)
    kinds = [timestamp.kind for timestamp in architecture.timestamps]
    block = ["qkv", "attention", "linear", "linear", "linear"]
    assert kinds == ["linear", *block, *block, "pool_linear"]


def test_the_slots_are_the_modules_state_dict() -> None:
    architecture = simple_vit_architecture(SMALL)
    check_slots(architecture)
    state = SimpleVit(SMALL).state_dict()
    assert [slot.key for slot in architecture.slots] == list(state)
    assert [slot.shape for slot in architecture.slots] == [tuple(value.shape) for value in state.values()]
    assert Architecture.from_dict(architecture.to_dict()) == architecture


def test_attention_is_torchs() -> None:
    queries, keys, values = torch.randn(3, 2, 4, 5, 6)
    wanted = nn.functional.scaled_dot_product_attention(queries, keys, values)
    joined = torch.cat([part.transpose(1, 2).flatten(2) for part in (queries, keys, values)], dim=2)
    torch.testing.assert_close(attend(4, joined), wanted.transpose(1, 2).flatten(2))


def test_the_rebuilt_network_computes_the_same() -> None:
    torch.manual_seed(0)
    module = SimpleVit(SMALL).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    rebuilt = Network(simple_vit_architecture(SMALL)).eval()
    rebuilt.load_state_dict(module.state_dict())
    x = torch.randn(3, 1, 6, 8)
    torch.testing.assert_close(rebuilt(x), module(x), rtol=1e-6, atol=1e-6)
