from dataclasses import replace

import torch

from dng.methods.inr2array_decoder import JointDecoder
from dng.methods.probes import ProbeFeatures
from dng.models.siren_rendering import render_graph, render_mlps
from dng.testing import random_graph
from dng.training.seed import seeded
from tests.zootool.nets.modules import Siren
from zootool.architecture import Activation, Architecture
from zootool.architecture.steps import activate
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (5, 4), 3, omega_0=8.0, output_offset=0.25)


def with_omega_0(omega_0: float | None) -> Architecture:
    layers = [replace(layer, activation=Activation("sine", omega_0=omega_0)) for layer in SIREN.timestamps[:-1]]
    return replace(SIREN, timestamps=(*layers, SIREN.timestamps[-1]))


def test_a_batch_renders_what_its_networks_compute() -> None:
    graph = random_graph(SIREN, batch=2)
    # Beside the biases, nodes may have features that nothing of the image depends on.
    nodes = tuple(torch.cat([node, torch.ones_like(node)], dim=-1) for node in graph.nodes)
    images = render_graph(replace(graph, nodes=nodes), 6)
    axis = torch.linspace(-1, 1, 6)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    siren = Siren(2, (5, 4), 3, omega_0=8.0, output_offset=0.25)
    tensors = [tensor for pair in zip(graph.edges, graph.nodes, strict=True) for tensor in pair]
    for row, image in enumerate(images):
        state = zip(siren.state_dict(), tensors, strict=True)
        siren.load_state_dict({name: tensor[row, ..., 0] for name, tensor in state})
        torch.testing.assert_close(image, siren(grid).permute(2, 0, 1), rtol=0, atol=1e-5)


def test_a_sine_without_omega_0_has_30_wherever_networks_are_run() -> None:
    values = torch.linspace(-1, 1, 50)
    torch.testing.assert_close(activate(Activation("sine"), values), torch.sin(30 * values))
    graph = random_graph(SIREN, batch=2, dtype=torch.float64)
    missing, thirty = (replace(graph, architectures=(with_omega_0(omega_0),)) for omega_0 in (None, 30.0))
    assert torch.equal(render_graph(missing, 5), render_graph(thirty, 5))
    assert torch.equal(probed(missing), probed(thirty))
    decoders = []
    for omega_0 in (None, 30.0):
        with seeded(0):
            decoders.append(JointDecoder(with_omega_0(omega_0), 8, 10))
    assert torch.equal(decoders[0].start, decoders[1].start)


def probed(graph: GraphBatch) -> torch.Tensor:
    with seeded(0):
        return ProbeFeatures(2, 7).double()(graph)[-1]


def test_on_xy_the_first_input_is_the_column() -> None:
    torch.manual_seed(0)
    weights, biases = torch.randn(2, SIREN.num_edges), torch.randn(2, SIREN.num_nodes)
    upright = render_mlps(SIREN, weights, biases, 6, "xy")
    assert torch.equal(upright, render_mlps(SIREN, weights, biases, 6, "ij").transpose(-1, -2))
    assert not torch.equal(upright, upright.transpose(-1, -2))
