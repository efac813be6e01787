from dataclasses import replace
from typing import Any

import pytest
import torch

from dng.methods.probes import ProbeFeatures
from dng.testing import assert_gradients, permute_nodes, random_graph, random_orders
from dng.training.seed import seeded
from tests.dng.graphs import simple_vit, small_cnn
from tests.dng.methods.neural_graphs import SIREN, joined, residual_siren
from tests.zootool.nets.modules import Siren
from zootool.architecture import Activation, Architecture, Norm, Pooling, Timestamp
from zootool.architecture.steps import activate
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture


def probes(num_inputs: int = 2, num_probes: int = 6) -> ProbeFeatures:
    with seeded(0):
        return ProbeFeatures(num_inputs, num_probes).double()


def mlp(activation: Activation, **options: float) -> Architecture:
    layers = (Timestamp("linear", 4, 2, activation=activation), Timestamp("linear", 3, 4))
    return Architecture(2, layers, **options)  # type: ignore[bad-argument-type]


def test_the_answers_are_those_of_the_networks_themselves() -> None:
    architecture = siren_architecture(2, (5, 4), 3, omega_0=17.0, output_offset=0.5)
    graph, features = random_graph(architecture, 3, dtype=torch.float64), probes()
    found = features(graph)
    assert [tuple(answers.shape) for answers in found] == [(3, 2, 6), (3, 5, 6), (3, 4, 6), (3, 3, 6)]
    assert torch.equal(found[0][1], features.points.T)
    siren = Siren(2, (5, 4), 3, omega_0=17.0, output_offset=0.5).double()
    tensors = [(graph.edges[t][1, ..., 0], graph.nodes[t][1, :, 0]) for t in range(3)]
    siren.load_state_dict(
        dict(zip(siren.state_dict(), [tensor for pair in tensors for tensor in pair], strict=True)), strict=True
    )
    torch.testing.assert_close(found[2][1].T, siren.net[:2](features.points), rtol=0, atol=1e-12)
    torch.testing.assert_close(found[3][1].T, siren(features.points), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "activation",
    [
        Activation("sine", omega_0=4.0),
        Activation("sine"),
        Activation("relu"),
        Activation("leaky_relu", negative_slope=0.3),
        Activation("leaky_relu"),
        Activation("gelu"),
        Activation("gelu", approximate="tanh"),
        Activation("tanh"),
        Activation("sigmoid"),
        Activation("silu"),
        Activation("none"),
    ],
)
def test_every_activation_is_the_networks_own(activation: Activation) -> None:
    graph, features = random_graph(mlp(activation), 2, dtype=torch.float64), probes()
    linear = graph.edges[0][0, ..., 0] @ features.points.T + graph.nodes[0][0]
    torch.testing.assert_close(features(graph)[1][0], activate(activation, linear), rtol=0, atol=1e-12)


def test_networks_of_a_batch_have_their_own_activations_and_offsets() -> None:
    architectures = [mlp(Activation("relu"), output_offset=0.5), mlp(Activation("tanh")), mlp(Activation("sine"))]
    graphs = [random_graph(a, 2, seed=seed, dtype=torch.float64) for seed, a in enumerate(architectures)]
    batch, features = joined(graphs), probes()
    assert batch.architecture_index is not None
    together = features(batch)
    for index, graph in enumerate(graphs):
        for one, other in zip(features(graph), together, strict=True):
            torch.testing.assert_close(one, other[batch.architecture_index == index], rtol=0, atol=1e-12)


@pytest.mark.parametrize("added", ["before_activation", "before_norm", "after_activation"])
def test_residual_connections_are_computed(added: Any) -> None:
    architecture = residual_siren()
    layers = tuple(
        replace(t, residuals=tuple(replace(r, added=added) for r in t.residuals)) for t in architecture.timestamps
    )
    graph = random_graph(replace(architecture, timestamps=layers), 2, dtype=torch.float64)
    found = probes()(graph)
    first = found[1]
    second = graph.edges[1].squeeze(-1) @ first + graph.nodes[1]
    some = torch.cat([first[:, :3], torch.zeros_like(first[:, :1])], dim=1)
    behind = added == "after_activation"
    second = torch.sin(30 * second) + some if behind else torch.sin(30 * (second + some))
    torch.testing.assert_close(found[2], second, rtol=0, atol=1e-12)
    third = graph.edges[2].squeeze(-1) @ second
    third = torch.sin(30 * third) + first if behind else torch.sin(30 * (third + first))
    torch.testing.assert_close(found[3], third, rtol=0, atol=1e-12)


def test_a_shifted_residual_connection_of_some_networks() -> None:
    plain, shifted = mlp(Activation("relu")), mlp(Activation("relu"))
    hidden = replace(shifted.timestamps[0], residuals=residual_siren().timestamps[2].residuals)
    hidden = replace(hidden, residuals=(replace(hidden.residuals[0], source=0, offset=1),))
    shifted = replace(shifted, timestamps=(hidden, shifted.timestamps[1]))
    graphs = [random_graph(a, 2, seed=1, dtype=torch.float64) for a in (plain, shifted)]
    batch, features = joined(graphs), probes()
    found = features(batch)[1]
    linear = graphs[0].edges[0].squeeze(-1) @ features.points.T + graphs[0].nodes[0]
    moved = linear.clone()
    moved[:, 1:3] += features.points.T
    torch.testing.assert_close(found[batch.architecture_index == 0], linear.relu(), rtol=0, atol=1e-12)
    torch.testing.assert_close(found[batch.architecture_index == 1], moved.relu(), rtol=0, atol=1e-12)


def test_permuting_hidden_neurons_permutes_their_answers() -> None:
    graph, features = random_graph(SIREN, 2, dtype=torch.float64), probes()
    orders = random_orders(SIREN, seed=1)
    for found, answers, order in zip(features(permute_nodes(graph, orders)), features(graph), orders, strict=True):
        torch.testing.assert_close(found, answers[:, order], rtol=0, atol=1e-9)


def test_the_points_are_drawn_from_the_square_and_learned() -> None:
    with seeded(0):
        points = ProbeFeatures(2, 1000).points.detach()
    assert points.shape == (1000, 2)
    assert points.abs().max() <= 1
    torch.testing.assert_close(points.std(dim=0), torch.full((2,), 3**-0.5), rtol=0.05, atol=0)
    assert abs(points.mean()) < 0.05

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.probes = probes()

        def forward(self, graph: GraphBatch) -> torch.Tensor:
            return torch.cat(self.probes(graph), dim=1)

    assert_gradients(Last(), random_graph(siren_architecture(2, (5,), 3, omega_0=3.0), 2, dtype=torch.float64))


def test_networks_run_in_full_precision_where_all_else_does_not() -> None:
    graph, features = random_graph(SIREN, 2), probes().float()
    with torch.autocast("cpu", torch.bfloat16):
        found = features(graph)
    for one, other in zip(found, features(graph), strict=True):
        assert torch.equal(one, other)


def with_last(**options: Any) -> Architecture:
    layers = mlp(Activation("relu")).timestamps
    return Architecture(2, (layers[0], replace(layers[1], **options)))


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        (SIREN, None),
        (residual_siren(), None),
        (small_cnn(), "layer 1 is more than linear"),
        (simple_vit(), "layer 1 is more than linear"),
        (with_last(norm=Norm("layer")), "layer 2 is more than linear"),
        (with_last(source_norm=Norm("layer")), "layer 2 is more than linear"),
        (with_last(pooling=Pooling("mean")), "layer 2 is more than linear"),
        (with_last(output_pooling=Pooling("max", size=2)), "layer 2 is more than linear"),
        (with_last(source_activation=Activation("relu")), "layer 2 is more than linear"),
        (mlp(Activation("softplus")), "layer 1 has the activation 'softplus'"),
    ],
)
def test_what_cannot_be_probed(architecture: Architecture, reason: str | None) -> None:
    found = ProbeFeatures.refusal([SIREN, architecture])
    assert found == reason if reason is None else found is not None and found.startswith(reason)
