from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from tests.zootool.nets.checkpoints import Net, inferred, random_norms, rebuilt, sorted_state
from zootool.errors import FormatError
from zootool.nets.infer import infer_architecture
from zootool.nets.module_names import is_in_order_of_definition, modules_of, precedes


def in_turn(*names: str) -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
    """Layers one after another, with relu between them and a flatten where maps become features."""

    def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        for place, name in enumerate(names):
            layer = module.get_submodule(name)
            x = layer(x.flatten(1) if isinstance(layer, nn.Linear) and x.ndim == 4 else x)
            x = relu(x) if place < len(names) - 1 and not (names[place + 1].startswith(("bn", "norms"))) else x
        return x

    return forward


def squares(*names: str) -> Net:
    return Net(in_turn(*names), **{name: nn.Linear(6, 6) for name in names})


def modules(*widths: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))


NETS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "fc1 to fc12": (squares(*(f"fc{i}" for i in range(1, 13))), (3, 6)),
    "input, hidden, output": (squares("input", "hidden", "output"), (3, 6)),
    "encoder, head": (Net(in_turn("encoder.0", "head"), encoder=modules(6, 6), head=nn.Linear(6, 6)), (3, 6)),
    "encoder, decoder": (
        Net(
            in_turn("encoder.0", "encoder.1", "decoder.0", "decoder.1"),
            encoder=modules(9, 6, 2),
            decoder=modules(2, 6, 9),
        ),
        (3, 9),
    ),
    "a Sequential of ten": (
        nn.Sequential(*(m for _ in range(9) for m in (nn.Linear(6, 6), nn.ReLU())), nn.Linear(6, 2)),
        (3, 6),
    ),
    "h.10": (
        Net(in_turn(*(f"h.{i}" for i in range(12)), "head"), h=modules(*[6] * 13), head=nn.Linear(6, 2)),
        (3, 6),
    ),
    "shapes alone": (Net(in_turn("z", "m", "a"), z=nn.Linear(5, 4), m=nn.Linear(4, 3), a=nn.Linear(3, 2)), (3, 5)),
    "conv1, bn1, conv2, bn2, fc": (
        Net(
            in_turn("conv1", "bn1", "conv2", "bn2", "fc"),
            conv1=nn.Conv2d(3, 4, 3),
            bn1=nn.BatchNorm2d(4),
            conv2=nn.Conv2d(4, 4, 3),
            bn2=nn.BatchNorm2d(4),
            fc=nn.Linear(4 * 9, 5),
        ),
        (2, 3, 7, 7),
    ),
    "layers and norms in lists": (
        Net(
            in_turn("layers.0", "norms.0", "layers.1", "norms.1", "out"),
            layers=modules(3, 6, 6),
            norms=nn.ModuleList([nn.LayerNorm(6), nn.LayerNorm(6)]),
            out=nn.Linear(6, 2),
        ),
        (4, 3),
    ),
}


@pytest.mark.parametrize("is_sorted", [False, True], ids=["as saved", "sorted"])
@pytest.mark.parametrize("name", list(NETS))
@torch.no_grad()
def test_layers_are_in_the_order_of_the_network(name: str, is_sorted: bool) -> None:
    torch.manual_seed(0)
    module, shape = NETS[name]
    state = random_norms(module).state_dict()
    x = torch.randn(shape)
    torch.testing.assert_close(rebuilt(sorted_state(state) if is_sorted else state)(x), module(x))


def test_the_assumed_order_is_said() -> None:
    state = squares("fc2", "fc10", "fc1").state_dict()
    assert inferred(sorted_state(state)).assumptions[-1].endswith("names and shapes: fc1, fc2, fc10")


def test_names_are_made_printable_and_cut_where_they_are_shown() -> None:
    shapes = {f"{'a' * 500}\x1b[31m.{i}.weight": ((4, 4), "float32") for i in range(100)}
    assert all(text.isprintable() and len(text) < 500 for text in infer_architecture(shapes).assumptions)
    with pytest.raises(FormatError) as error:
        infer_architecture(shapes | {"b\x1b.weight": ((4, 4), "float32"), "b\x1b.bias": ((), "float32")})
    assert error.value.message.isprintable()
    assert len(error.value.message) < 600


@torch.no_grad()
def test_two_orders_that_fit_are_refused_and_can_be_declared() -> None:
    module, x = squares("b", "a"), torch.randn(3, 6)
    state = sorted_state(module.state_dict())
    with pytest.raises(FormatError, match=r"as a, b and as b, a, and neither names .* `order: \[FIRST, SECOND"):
        rebuilt(state)
    declared = {"like": "chain", "order": ["b", "a"], "activation": "relu"}
    torch.testing.assert_close(rebuilt(state, declared)(x), module(x))
    assert "activations are taken for relu" not in inferred(state, declared).assumptions
    # Saved by torch itself, the order of definition decides.
    torch.testing.assert_close(rebuilt(module.state_dict())(x), module(x))


@pytest.mark.parametrize("order", [["a"], ["a", "b", "c"], ["a", "b", "a"], ["a.weight", "b"]])
def test_a_declared_order_names_every_layer_once(order: list[str]) -> None:
    with pytest.raises(FormatError, match=r"the declared order (lacks|has) '(a|b|c)'"):
        inferred(squares("a", "b").state_dict(), {"like": "chain", "order": order})


def test_a_declared_order_has_to_chain() -> None:
    state = Net(a=nn.Linear(3, 4), b=nn.Linear(4, 5)).state_dict()
    with pytest.raises(FormatError, match="'a' takes 3 inputs, the layer before it, 'b', has 5 nodes"):
        inferred(state, {"like": "chain", "order": ["b", "a"]})


def test_numbers_against_the_saved_order_are_refused_where_both_fit() -> None:
    with pytest.raises(FormatError, match="saved as fc2, fc1, their names say fc1, fc2, and both fit"):
        inferred(squares("fc2", "fc1").state_dict())


@torch.no_grad()
def test_shapes_overrule_both_the_saved_order_and_numbers() -> None:
    backwards = Net(in_turn("up3", "up2"), up3=nn.Linear(4, 5), up2=nn.Linear(5, 6))
    x = torch.randn(3, 4)
    torch.testing.assert_close(rebuilt(backwards.state_dict())(x), backwards(x))
    defined_late = Net(in_turn("fc", "out"), out=nn.Linear(5, 2), fc=nn.Linear(4, 5))
    torch.testing.assert_close(rebuilt(defined_late.state_dict())(x), defined_late(x))


def test_names_and_orders() -> None:
    assert precedes(["fc2"], ["fc10"])
    assert not precedes(["fc10"], ["fc2"])
    assert precedes(["net", "input"], ["net", "hidden"])
    assert precedes(["features", "9"], ["classifier", "0"])
    assert not precedes(["conv3x3"], ["conv10x10"])
    state = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).state_dict()
    for given, wanted in ((state, True), (sorted_state(state), False)):
        assert is_in_order_of_definition({key: ((), "float32") for key in given}) is wanted
    assert not is_in_order_of_definition({"a.weight": ((), "float32"), "b.weight": ((), "float32")})
    assert is_in_order_of_definition({"b.weight": ((), "float32"), "a.weight": ((), "float32")})


def test_many_layers_without_an_order_are_refused_in_time() -> None:
    names = ["x" * i for i in range(1, 300)]
    with pytest.raises(FormatError, match="don't give the order of 299 layers"):
        inferred(sorted_state(squares(*names).state_dict()))


def test_one_bias_before_its_weight_shows_that_a_file_is_sorted() -> None:
    keys = ["b.weight", "b.bias", "a.bias", "a.weight"]
    assert not is_in_order_of_definition({key: ((4,), "float32") for key in keys})
    assert is_in_order_of_definition({key: ((4,), "float32") for key in (*keys[:2], *reversed(keys[2:]))})


def test_names_that_only_a_wrapper_tells_apart_keep_it() -> None:
    modules = modules_of({"fc.weight": ((4, 4), "float32"), "module.fc.weight": ((4, 4), "float32")})
    assert [module.path for module in modules] == [("fc",), ("module", "fc")]
    assert [module.path for module in modules_of({"module.fc.weight": ((4, 4), "float32")})] == [("fc",)]
