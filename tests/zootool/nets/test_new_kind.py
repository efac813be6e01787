"""What a newcomer writes for a new kind of layer: its class. It is registered here instead of in `KINDS`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import zootool
from zootool.architecture import Architecture, LayerKind, Timestamp
from zootool.architecture.kinds import KINDS, TracedSources
from zootool.errors import FormatError
from zootool.formats.options import ReadOptions
from zootool.nets.declared import read_declaration
from zootool.nets.network import Network


class ScaledLinear(nn.Linear):
    """W x / sqrt(inputs) + b, the parametrisation of the neural tangent kernel: code outside of torch."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input / self.in_features**0.5, self.weight, self.bias)


class ScaledLinearKind(LayerKind):
    name = "scaled_linear"
    modules = (ScaledLinear,)

    def check(self, layer: Timestamp) -> None:
        super().check(layer)
        if layer.num_sources > 1000:
            raise ValueError("a scaled_linear layer has at most 1000 sources")

    def compute(self, layer: Timestamp, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        assert weight is not None
        return functional.linear(x / layer.num_sources**0.5, weight, bias)

    def traced(self, module: nn.Module, sources: TracedSources) -> dict[str, Any] | None:
        return self.sizes(tuple(module.weight.shape), 0) if isinstance(module, ScaledLinear) else None


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "scaled_linear", ScaledLinearKind())


def a_module() -> nn.Sequential:
    return nn.Sequential(ScaledLinear(3, 8), nn.LayerNorm(8), nn.Tanh(), ScaledLinear(8, 4, bias=False))


DECLARATION = """
num_inputs: 3
layers:
  - {kind: scaled_linear, weight: 0.weight, bias: 0.bias, norm: {kind: layer, at: '1'}, activation: tanh}
  - {kind: scaled_linear, weight: 3.weight}
"""


def test_it_is_traced_and_computed() -> None:
    module, x = a_module(), torch.randn(5, 3)
    architecture = Architecture.from_module(module, x)
    assert [timestamp.kind for timestamp in architecture.timestamps] == ["scaled_linear", "scaled_linear"]
    assert architecture.timestamps[0].activation.name == "tanh"
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    network = Network(architecture)
    network.load_state_dict(module.state_dict())
    torch.testing.assert_close(network.eval()(x), module(x))


@torch.no_grad()
def test_it_goes_into_a_store_and_comes_back(tmp_path: Path) -> None:
    modules = [a_module() for _ in range(3)]
    (tmp_path / "nets").mkdir()
    for number, module in enumerate(modules):
        torch.save(module.state_dict(), tmp_path / "nets" / f"{number}.pt")
    (tmp_path / "net.yaml").write_text(DECLARATION)
    reading = ReadOptions(architecture=tmp_path / "net.yaml")
    zootool.convert(tmp_path / "nets", tmp_path / "x.zoo", reading=reading)
    zoo, x = zootool.open_zoo(tmp_path / "x.zoo"), torch.randn(5, 3)
    assert zootool.verify(tmp_path / "x.zoo").problems == []
    for number, module in enumerate(modules):
        assert zoo.architecture_of(number).timestamps == Architecture.from_module(module, x).timestamps
        state = zoo.state_dict(number)
        assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
        torch.testing.assert_close(zoo.module(number)(x), module(x))


def test_its_checks_are_asked() -> None:
    with pytest.raises(ValueError, match="at most 1000 sources"):
        Timestamp("scaled_linear", 1, 1001)
    with pytest.raises(ValueError, match="a scaled_linear layer has no stride"):
        Timestamp("scaled_linear", 1, 1, stride=2)


def test_who_does_not_know_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Architecture.from_module(a_module(), torch.randn(2, 3)).to_dict()
    monkeypatch.delitem(KINDS, "scaled_linear")
    known = "'linear', 'conv', 'flatten_linear', 'pool_linear', 'qkv'"
    with pytest.raises(FormatError, match=f"kind must be one of {known}, 'attention', got scaled_linear"):
        Architecture.from_dict(plain)
    declared = {"num_inputs": 3, "layers": [{"kind": "scaled_linear", "weight": "0.weight"}]}
    with pytest.raises(FormatError, match=f"kind: Input should be {known} or 'attention', got 'scaled_linear'"):
        read_declaration(declared, {"0.weight": ((8, 3), "float32")})
