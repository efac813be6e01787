"""The suite that encoders inherit: ours pass it, and each of its tests catches an encoder with the fault it is for."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dng.encoder.config import EncoderConfig
from dng.encoder.dng_encoder import DNGEncoder
from dng.testing import EncoderSuite
from dng.training.seed import seeded
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from zootool.architecture import Architecture
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

TINY = EncoderConfig(dim=8, num_frequencies=4, head_dim=2, residual="plain")
SIREN = siren_architecture(2, (4, 4), 3)


class TestDNGEncoder(EncoderSuite):
    architectures = (
        SIREN,
        small_cnn(),
        residual_cnn(),
        simple_vit(dim=8, depth=1, heads=2, dim_head=4, mlp=12),
    )

    def build(self, architecture: Architecture) -> nn.Module:
        with seeded(0):
            return DNGEncoder(architecture, TINY)


class TestTwoWalks(EncoderSuite):
    architectures = (
        SIREN,
        small_cnn(),
    )

    def build(self, architecture: Architecture) -> nn.Module:
        with seeded(0):
            return DNGEncoder(architecture, replace(TINY, rnn_layers=2))


class Sums(nn.Module):
    """An invariant of the order of neurons: sums of powers of all weights by layer, times a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, graph: GraphBatch) -> Tensor:
        ends = [edges.sum(dim=1).pow(p).flatten(1) for p in (1, 2) for edges in graph.edges[:1]]
        return self.scale * self.read(graph, ends)

    def read(self, graph: GraphBatch, ends: list[Tensor]) -> Tensor:
        middle = graph.edges[1].pow(2).sum(dim=2).pow(2).sum(dim=1)
        coupled = (graph.edges[1].sum(dim=1) * graph.edges[0].pow(2).sum(dim=(2, 3))[..., None]).sum(dim=1)
        last = graph.edges[-1].sum(dim=(2, 3)) * torch.arange(1.0, 4.0, dtype=graph.edges[-1].dtype)
        return torch.cat([middle, coupled, last, *ends], dim=1)


class KnowsPlaces(Sums):
    def read(self, graph: GraphBatch, ends: list[Tensor]) -> Tensor:
        return torch.cat([super().read(graph, ends), graph.edges[1][:, 0].flatten(1)], dim=1)


class SeesNeighbours(Sums):
    def read(self, graph: GraphBatch, ends: list[Tensor]) -> Tensor:
        own = super().read(graph, ends)
        return own - own.mean(dim=0)


class Forgets(Sums):
    def read(self, graph: GraphBatch, ends: list[Tensor]) -> Tensor:
        return super().read(graph, ends)[:, :1]


class WrongGradient(Sums):
    def read(self, graph: GraphBatch, ends: list[Tensor]) -> Tensor:
        return super().read(graph, ends) * self.scale.detach()


TESTS: dict[str, Callable[[EncoderSuite], None]] = {
    "places": EncoderSuite.test_hidden_neurons_may_change_places,
    "others": EncoderSuite.test_other_networks_give_other_outputs,
    "batch": EncoderSuite.test_networks_of_a_batch_do_not_see_each_other,
    "gradients": EncoderSuite.test_gradients_are_those_of_finite_differences,
}


@pytest.mark.parametrize(
    ("encoder", "failing"),
    [
        (Sums, set()),
        (KnowsPlaces, {"places"}),
        (SeesNeighbours, {"batch"}),
        (Forgets, {"others"}),
        (WrongGradient, {"gradients"}),
    ],
)
def test_each_fault_is_caught_by_the_test_for_it(encoder: type[nn.Module], failing: set[str]) -> None:
    class Suite(EncoderSuite):
        architectures = (SIREN,)

        def build(self, architecture: Architecture) -> nn.Module:
            return encoder()

    for name, test in TESTS.items():
        if name in failing:
            with pytest.raises(AssertionError):
                test(Suite())
        else:
            test(Suite())
