"""What a newcomer writes for a new method: its file in dng/methods, and its record in the registry."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from torch import nn

import dng
import dng.methods
from dng.methods.building import build_method
from dng.methods.registry import METHODS, Method
from dng.testing import EncoderSuite
from tests.dng.graphs import simple_vit
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

FILE = '''
"""Sums over the neurons of each layer, read by an MLP."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dng.methods.common import Settings
from dng.models.heads import mlp_head
from dng.models.model import Reader
from zootool.architecture import Architecture
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class PathSumsConfig(Settings):
    widths: ClassVar[tuple[str, ...]] = ("hidden_dim",)
    hidden_dim: int = 64


class PathSums(Reader):
    name = "path-sums"
    presets: ClassVar[dict[str, Any]] = {"inr": PathSumsConfig()}

    def __init__(self, architectures: Collection[Architecture], num_outputs: int, config: PathSumsConfig) -> None:
        super().__init__(architectures, num_outputs, config)
        ends = self.architecture.node_counts[0] + self.architecture.node_counts[-1]
        self.head = mlp_head(ends + ends * 2, config.hidden_dim, num_outputs, dropout=0.0)

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: Any = None) -> str | None:
        kinds = {timestamp.kind for architecture in architectures for timestamp in architecture.timestamps}
        return None if kinds == {"linear"} else "it has other layers than linear ones"

    def encode(self, graph: GraphBatch) -> Tensor:
        last = graph.architecture.num_layers - 1
        first, final = graph.edges[0][..., 0], graph.edges[last][..., 0]
        into, out = graph.edges[1][..., 0].square().sum(1), graph.edges[1][..., 0].square().sum(2)
        parts = [first.square().sum(1), final.square().sum(2), (first * into[..., None]).square().sum(1)]
        parts += [(final * out[:, None]).square().sum(2), first.sum(1), final.sum(2) + graph.nodes[last][..., 0]]
        return torch.cat(parts, dim=1)
'''
RECORD = Method("path-sums", "sums of paths", "sums over neurons", "SIRENs", "path_sums:PathSums", {"inr": "inr"})
SIREN = siren_architecture(2, (6, 6), 3)


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "path_sums.py").write_text(FILE)
    monkeypatch.setattr(dng.methods, "__path__", [*dng.methods.__path__, str(tmp_path / "methods")])
    monkeypatch.setitem(METHODS, "path-sums", RECORD)
    yield
    sys.modules.pop("dng.methods.path_sums", None)


class TestPathSums(EncoderSuite):
    architectures = (SIREN,)

    def build(self, architecture: Architecture) -> nn.Module:
        return build_method("path-sums", [architecture], 10)


def test_a_method_is_sized_and_refused_as_all_are() -> None:
    small, large = (build_method("path-sums", [SIREN], 10, budget) for budget in (2_000, 20_000))
    counts = [sum(p.numel() for p in model.parameters()) for model in (small, large)]
    assert [abs(count / budget - 1) < 0.05 for count, budget in zip(counts, (2_000, 20_000), strict=True)] == [True] * 2
    with pytest.raises(UsageError, match="path-sums can't take the zoo"):
        build_method("path-sums", [simple_vit()], 10)


def test_two_methods_of_one_name_are_refused() -> None:
    by_name = import_module("dng.methods.registry").by_name
    with pytest.raises(ValueError, match="two methods are called 'path-sums'"):
        by_name(RECORD, replace(RECORD, title="another"))
