"""Augmentations of networks: exact where they move coordinates, drawn anew per network, and for training alone."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dng.methods.neural_graph import NeuralGraphEmbedding
from dng.methods.neural_graph_config import NeuralGraphConfig, neural_graph_refusal
from dng.methods.neural_graph_statistics import (
    LayerMoments,
    LayerStatistics,
    augmented,
    draw_moves,
    drop_parameters,
    moved,
)
from dng.methods.ng_gnn import NGGNN, NGGNNConfig
from dng.methods.ng_t import NGT
from dng.methods.registry import METHODS
from dng.testing import random_graph
from dng.training.batches import TensorBatches
from dng.training.checkpoint import load_tensors
from dng.training.loop import TrainConfig, train
from dng.training.seed import seeded
from tests.dng.graphs import small_cnn
from tests.dng.methods.neural_graphs import SIREN, SMALL_VIT, on_meta, residual_siren
from zootool.architecture import Activation, Architecture, Residual, Timestamp
from zootool.errors import UsageError
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

PLAIN = NeuralGraphConfig(sigma=1.0, num_frequencies=4)
MOVES = replace(PLAIN, rotation=45.0, scaling=0.2, translation=0.25)
ALL = replace(MOVES, noise=0.1, parameter_dropout=0.2)


def siren_of(*omegas: float, inputs: int = 2) -> Architecture:
    """A SIREN with a frequency of its own in every hidden layer."""
    widths = (inputs, *(5 + i for i in range(len(omegas))))
    hidden = (
        Timestamp("linear", n, m, activation=Activation("sine", omega_0=omega))
        for m, n, omega in zip(widths, widths[1:], omegas, strict=False)
    )
    return Architecture(inputs, (*hidden, Timestamp("linear", 3, widths[-1])), output_offset=0.5)


def outputs(graph: GraphBatch, points: Tensor) -> Tensor:
    """What the networks compute at points (batch, inputs, points)."""
    values = points
    for timestamp, edge, node in zip(graph.architecture.timestamps, graph.edges, graph.nodes, strict=True):
        values = edge[..., 0] @ values + node[..., :1]
        if timestamp.activation.name == "sine":
            values = torch.sin(timestamp.activation.frequency * values)
    return values


@pytest.mark.parametrize("omegas", [(30.0,), (1.0, 30.0), (7.5, 2.0, 11.0)])
def test_moved_networks_compute_the_function_of_moved_coordinates(omegas: tuple[float, ...]) -> None:
    graph = random_graph(siren_of(*omegas), 4, dtype=torch.float64)
    with seeded(1):
        matrices, shifts = draw_moves(graph, MOVES)
        points = torch.rand(4, 2, 50, dtype=torch.float64) * 2 - 1
    found = outputs(moved(graph, matrices, shifts), points)
    torch.testing.assert_close(found, outputs(graph, matrices @ points + shifts[..., None]), rtol=0, atol=1e-12)
    assert (found - outputs(graph, points)).abs().amax(dim=(1, 2)).min() > 0.01


@pytest.mark.parametrize("name", ["rotation", "scaling", "translation"])
def test_each_move_alone_is_exact_too(name: str) -> None:
    config = replace(PLAIN, **{name: getattr(MOVES, name)})
    graph = random_graph(SIREN, 3, dtype=torch.float64)
    points = torch.rand(3, 2, 20, dtype=torch.float64)
    with seeded(2):
        varied = augmented(graph, config, LayerStatistics(3))
    with seeded(2):
        matrices, shifts = draw_moves(graph, config)
    expected = outputs(graph, matrices @ points + shifts[..., None])
    torch.testing.assert_close(outputs(varied, points), expected, rtol=0, atol=1e-12)
    assert not torch.equal(varied.edges[0], graph.edges[0]) or not torch.equal(varied.nodes[0], graph.nodes[0])


def test_networks_of_three_inputs_are_scaled_and_translated() -> None:
    config = replace(MOVES, rotation=0.0)
    graph = random_graph(siren_of(5.0, inputs=3), 2, dtype=torch.float64)
    assert neural_graph_refusal(graph.architectures, config) is None
    matrices, shifts = draw_moves(graph, config)
    points = torch.rand(2, 3, 20, dtype=torch.float64)
    expected = outputs(graph, matrices @ points + shifts[..., None])
    torch.testing.assert_close(outputs(moved(graph, matrices, shifts), points), expected, rtol=0, atol=1e-12)


def test_moves_are_uniform_in_what_is_allowed() -> None:
    graph = random_graph(siren_of(30.0), 4000, dtype=torch.float64)
    with seeded(3):
        matrices, shifts = draw_moves(graph, MOVES)
    scales = torch.linalg.det(matrices).sqrt()
    turns = matrices / scales[:, None, None]
    torch.testing.assert_close(turns @ turns.mT, torch.eye(2, dtype=torch.float64).expand(4000, 2, 2))
    angles = torch.rad2deg(torch.atan2(turns[:, 1, 0], turns[:, 0, 0]))
    for values, middle, width in [(angles, 0.0, 45.0), (scales, 1.0, 0.2), *((s, 0.0, 0.25) for s in shifts.T)]:
        distances = (values - middle) / width
        assert distances.abs().max() <= 1
        assert abs(distances.mean()) < 0.05
        assert abs(distances.std() - 1 / math.sqrt(3)) < 0.02
    # The four numbers aren't one another in disguise.
    drawn = torch.stack([angles, scales, *shifts.T])
    assert (torch.corrcoef(drawn) - torch.eye(4, dtype=torch.float64)).abs().max() < 0.08


def test_networks_of_a_batch_get_numbers_of_their_own() -> None:
    one = random_graph(SIREN, 1)
    graph = one.map_weights(lambda tensor: tensor.expand(3, *tensor.shape[1:]))
    for config in (MOVES, replace(PLAIN, noise=0.1), replace(PLAIN, parameter_dropout=0.3), ALL):
        varied = augmented(graph, config, LayerStatistics(3))
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert not torch.equal(varied.edges[0][first], varied.edges[0][second])


def test_dropped_parameters_are_zero_and_the_others_grow() -> None:
    graph = random_graph(siren_architecture(2, (40, 40), 3), 20, dtype=torch.float64)
    extra = replace(graph, nodes=tuple(torch.cat([n, torch.ones_like(n)], dim=-1) for n in graph.nodes))
    with seeded(4):
        varied = drop_parameters(extra, 0.25)
    pairs = [*zip(graph.edges, varied.edges, strict=True)]
    pairs += [(a, b[..., :1]) for a, b in zip(graph.nodes, varied.nodes, strict=True)]
    for before, after in pairs:
        is_dropped = after == 0
        torch.testing.assert_close(after[~is_dropped], before[~is_dropped] / 0.75)
        assert abs(is_dropped.double().mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / before.numel())
    assert all((node[..., 1] == 1).all() for node in varied.nodes)


def test_biases_that_a_network_lacks_stay_zero() -> None:
    graph = random_graph(residual_siren(), 2)
    config = replace(ALL, rotation=30.0)
    assert neural_graph_refusal(graph.architectures, config) is None
    assert (augmented(graph, config, LayerStatistics(4)).nodes[2] == 0).all()


def test_noise_comes_behind_moves_and_before_dropout() -> None:
    graph = random_graph(SIREN, 50, dtype=torch.float64)
    statistics, moments = LayerStatistics(3), LayerMoments(3)
    moments.add(graph)
    statistics.double().set(moments)
    with seeded(5):
        found = augmented(graph, ALL, statistics)
    with seeded(5):
        expected = statistics.noisy(moved(graph, *draw_moves(graph, ALL)), 0.1, False)
        expected = drop_parameters(expected, 0.2)
    for a, b in zip((*found.edges, *found.nodes), (*expected.edges, *expected.nodes), strict=True):
        assert torch.equal(a, b)
    # What is dropped stays at zero: no noise comes behind.
    assert abs((found.edges[1] == 0).double().mean() - 0.2) < 0.03


def test_an_embedding_reads_augmented_networks_in_training_alone() -> None:
    graph = random_graph(SIREN, 3, dtype=torch.float64)
    with seeded(0):
        model = NeuralGraphEmbedding([SIREN], replace(ALL, num_probes=4), 8, 6).double()
    with seeded(6):
        varied = augmented(graph, ALL, model.statistics)
        after = torch.rand(1)
    with seeded(6):
        found = model.train()(graph).nodes
        assert torch.equal(torch.rand(1), after), "nothing else is drawn"
    assert torch.equal(found, model.eval()(varied).nodes)
    state = torch.get_rng_state()
    plain = NeuralGraphEmbedding([SIREN], replace(PLAIN, num_probes=4), 8, 6).double()
    plain.load_state_dict(model.state_dict())
    torch.set_rng_state(state)
    assert torch.equal(model(graph).nodes, plain.train()(graph).nodes)
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn"


def test_half_precision_moves_in_the_precision_of_the_weights() -> None:
    graph = random_graph(SIREN, 3)
    with seeded(7):
        wanted = moved(graph, *draw_moves(graph, MOVES))
    with seeded(7), torch.autocast("cpu", torch.bfloat16):
        found = moved(graph, *draw_moves(graph, MOVES))
    assert torch.equal(found.edges[0], wanted.edges[0])
    assert torch.equal(found.nodes[0], wanted.nodes[0])


def test_numbers_are_drawn_where_the_networks_are() -> None:
    varied = augmented(on_meta(random_graph(SIREN, 2)), ALL, LayerStatistics(3).to("meta"))
    assert all(tensor.is_meta for tensor in (*varied.edges, *varied.nodes))


class Learning:
    """Predicts the mean weight of networks, from augmented ones; `stop_after` so many batches it is killed."""

    def __init__(self, config: NGGNNConfig, stop_after: int | None = None) -> None:
        self.graph = random_graph(SIREN, 12)
        self.wanted = self.graph.edges[1].flatten(1).mean(dim=1, keepdim=True)
        with seeded(0):
            self.model: nn.Module = NGGNN([SIREN], 1, config)
        self.stop_after, self.calls = stop_after, 0

    def batches(self) -> TensorBatches:
        return TensorBatches((torch.arange(12),), 4, seed=1)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        self.calls += 1
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        (rows,) = batch
        return (self.model(self.graph.map_weights(lambda tensor: tensor[rows])) - self.wanted[rows]).square().mean()

    def validate(self) -> float:
        return (self.model(self.graph) - self.wanted).square().mean().item()

    def describe(self, batch: Any) -> str:
        return f"{len(batch[0])} networks"


def test_a_stopped_training_with_augmentations_ends_with_the_same_bytes(tmp_path: Path) -> None:
    config = NGGNNConfig(ALL, dim=4, num_layers=2, dropout=0.0)
    settings = TrainConfig(steps=6, batch_size=4, lr=1e-2, validate_every=2, higher_is_better=False)

    def end(task: Learning, name: str) -> dict[str, Tensor]:
        train(task, task.batches(), settings, tmp_path / name)
        return load_tensors(tmp_path / name / "last.safetensors")[0]

    whole = end(Learning(config), "whole")
    with pytest.raises(KeyboardInterrupt):
        end(Learning(config, stop_after=4), "stopped")
    with seeded("a process with another generator"):
        resumed = end(Learning(config), "stopped")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    plain = end(Learning(replace(config, graph=PLAIN)), "plain")
    assert any(not torch.equal(value, plain[name]) for name, value in whole.items())


@pytest.mark.parametrize("model", [NGGNN, NGT])
def test_published_augmentations_have_presets_of_their_own(model: type[NGGNN] | type[NGT]) -> None:
    names = [name for name in model.presets if name.endswith("-augmented")]
    assert {"inr-augmented", "inr-probes-augmented", "inr-probes-6m-augmented", "small-cnn-augmented"} <= set(names)
    for name in names:
        inr = {"rotation": 45.0, "scaling": 0.2, "translation": 0.25} if name.startswith("inr") else {}
        plain = model.presets[name.removesuffix("-augmented")]
        expected = replace(plain.graph, noise=0.1, parameter_dropout=0.01, **inr)
        assert model.presets[name] == replace(plain, graph=expected)


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith("ng-")])
def test_benchmarks_at_equal_budgets_augment_nothing(name: str) -> None:
    for kind in METHODS[name].presets:
        config = METHODS[name].config(kind).graph
        assert (config.has_moves, config.noise, config.parameter_dropout) == (False, 0.0, 0.0)


def late_reader() -> Architecture:
    """An MLP whose second layer adds the coordinates."""
    first, second, last = siren_of(30.0, 30.0).timestamps
    return Architecture(2, (first, replace(second, residuals=(Residual(source=0),)), last))


def without_first_biases() -> Architecture:
    first, last = siren_of(30.0).timestamps
    return Architecture(2, (replace(first, has_bias=False), last))


@pytest.mark.parametrize(
    ("architecture", "config", "reason"),
    [
        (small_cnn(), replace(PLAIN, kernel_size=3, scaling=0.1), "the coordinates of MLPs, and its networks are none"),
        (SMALL_VIT, replace(PLAIN, attention=True, scaling=0.1), "the coordinates of MLPs, and its networks are none"),
        (late_reader(), replace(PLAIN, translation=0.1), "another layer reads the coordinates too"),
        (
            siren_of(30.0, inputs=3),
            replace(PLAIN, rotation=10.0),
            "coordinates of two numbers, and its networks have 3",
        ),
        (without_first_biases(), replace(PLAIN, translation=0.1), "the biases of layer 1, which has none"),
    ],
)
def test_networks_that_cannot_be_moved_are_named(
    architecture: Architecture, config: NeuralGraphConfig, reason: str
) -> None:
    assert reason in (neural_graph_refusal([architecture], config) or "")
    still = replace(config, rotation=0.0, scaling=0.0, translation=0.0, noise=0.1, parameter_dropout=0.1)
    assert neural_graph_refusal([architecture], still) is None


def test_what_goes_elsewhere_than_into_missing_biases_is_allowed() -> None:
    assert neural_graph_refusal([without_first_biases()], replace(MOVES, translation=0.0)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": -1.0}, "rotation can't be negative"),
        ({"translation": -0.1}, "translation can't be negative"),
        ({"scaling": 1.0}, r"scaling must be in \[0, 1\), got 1.0"),
        ({"parameter_dropout": -0.1}, r"parameter_dropout must be in \[0, 1\)"),
    ],
)
def test_augmentations_that_cannot_be_meant(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(PLAIN, **options)  # type: ignore[bad-argument-type]
