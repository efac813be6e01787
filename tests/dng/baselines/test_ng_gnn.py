import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dng.baselines.neural_graph_config import ACTIVATIONS
from dng.baselines.ng_gnn import INR, NGGNN, NGGNNConfig
from dng.graph import DynamicGraph
from dng.heads import count_parameters
from dng.seed import seeded
from tests.dng.baselines.checks import (
    assert_batch_independent,
    assert_gradients,
    permute_inputs,
    permute_outputs,
    permute_uncoupled,
)
from tests.dng.baselines.neural_graphs import (
    SIREN,
    SMALL_VIT,
    assert_all_is_on_meta,
    cnn,
    different_cnns,
    joined,
    permuted,
    residual_siren,
    symmetric_cases,
)
from tests.dng.graphs import random_graph, simple_vit, small_cnn
from zootool.architecture import Architecture, Timestamp
from zootool.errors import UsageError
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture

CASES = symmetric_cases()
PARK = cnn_architecture(CnnConfig((3, 8, 8), (7, 3), (1, 1), (3, 1), ("relu", "gelu"), (None, 0)))


def build(case: str, **options: object) -> tuple[NGGNN, DynamicGraph]:
    architecture, config = CASES[case]
    graph = random_graph(architecture, 3, dtype=torch.float64)
    with seeded(0):
        model = NGGNN([architecture], 4, NGGNNConfig(config, dim=6, **options)).double().eval()  # type: ignore[bad-argument-type]
    model.fit([graph])
    return model, graph


def siren(num_outputs: int) -> list[Architecture]:
    return [siren_architecture(2, (32, 32), num_outputs)]


@pytest.mark.parametrize(
    ("preset", "architectures", "num_outputs", "count"),
    [
        ("inr-narrow", siren(1), 10, 92_010),
        ("inr-narrow-probes", siren(1), 10, 100_714),
        ("inr", siren(1), 10, 331_466),
        ("inr", siren(3), 10, 339_786),
        ("inr-probes-6m", siren(1), 10, 6_045_646),
        ("inr-probes-6m-rgb", siren(3), 10, 6_037_218),
        # Published are 67,584 more, which nothing reads: another second projection and embeddings of activations.
        ("small-cnn", [cnn_architecture(CnnConfig())], 1, 5_587_969 - 67_584),
        ("wild-park", [PARK], 1, 369_025),
        ("vit", [simple_vit()], 1, 251_837),
    ],
)
def test_parameters_are_as_many_as_published(
    preset: str, architectures: list[Architecture], num_outputs: int, count: int
) -> None:
    with torch.device("meta"):
        assert count_parameters(NGGNN(architectures, num_outputs, NGGNN.presets[preset])) == count


def test_what_the_published_small_cnn_model_has_and_does_not_read() -> None:
    preset = NGGNN.presets["small-cnn"]
    with torch.device("meta"):
        model = NGGNN([cnn_architecture(CnnConfig())], 1, preset)
        activations = replace(preset, graph=replace(preset.graph, activations=ACTIVATIONS))
        embedded = NGGNN([cnn_architecture(CnnConfig())], 1, activations)
    projection = count_parameters(model.network.graph.edge_projection)
    assert count_parameters(embedded) + projection == 5_587_969


@pytest.mark.parametrize(("width", "count"), [(32, 100_714), (284, 6_045_646)])
def test_a_budget_of_parameters_is_met_by_width(width: int, count: int) -> None:
    preset = NGGNN.presets["inr-probes"]
    with torch.device("meta"):
        assert count_parameters(NGGNN(siren(1), 10, preset.widened(width / preset.dim))) == count
    assert preset.widened(0.001).dim == 1
    assert replace(preset.widened(2.0), dim=preset.dim) == preset


@pytest.mark.parametrize("case", CASES)
def test_hidden_nodes_have_no_order(case: str) -> None:
    model, graph = build(case)
    other = permuted(graph)
    assert any(not torch.equal(one, two) for one, two in zip(graph.edges, other.edges, strict=True))
    torch.testing.assert_close(model(other), model(graph), rtol=0, atol=1e-9)
    torch.testing.assert_close(
        model.float()(other.map(Tensor.float)), model(graph.map(Tensor.float)), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("case", CASES)
def test_all_else_has(case: str) -> None:
    model, graph = build(case)
    logits = model(graph)
    # Uncoupled: residual connections and attention tie what the check moves, which is a change as well.
    changes = [permute_outputs(graph), permute_uncoupled(graph)]
    if graph.architecture.num_inputs > 1:
        changes.append(permute_inputs(graph))
    for other in changes:
        assert (model(other) - logits).abs().max() > 1e-6


@pytest.mark.parametrize("case", ["siren with residuals", "cnn", "vit"])
def test_gradients(case: str) -> None:
    # So small a step crosses few of the kinks that minima, maxima and ReLU have.
    assert_gradients(*build(case), step=1e-7)


def test_every_parameter_has_a_gradient() -> None:
    model, graph = build("siren with residuals")
    model(graph).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("case", ["siren with residuals", "cnn with residuals", "vit"])
def test_a_network_is_the_same_among_others(case: str) -> None:
    assert_batch_independent(*build(case))


@pytest.mark.parametrize("scalar_encoder", [False, True])
def test_a_network_is_the_same_among_networks_of_other_kernels_and_residual_connections(scalar_encoder: bool) -> None:
    parts = different_cnns()
    config = replace(CASES["cnn"][1], scalar_encoder=scalar_encoder)
    with seeded(0):
        model = NGGNN([part.architecture for part in parts], 4, NGGNNConfig(config, dim=6)).double().eval()
    model.fit(parts)
    batch = joined(parts)
    together = model(batch)
    for index, part in enumerate(parts):
        torch.testing.assert_close(together[batch.architecture_index == index], model(part), rtol=0, atol=1e-10)


def test_delta_is_that_of_the_architectures_until_it_is_measured() -> None:
    parts = different_cnns()
    architectures = [part.architecture for part in parts]
    config = NGGNNConfig(CASES["cnn"][1], dim=3)
    plain, with_one = [0] * 2 + [2] * 4 + [4] * 4 + [4] * 4 + [4] * 3, [0] * 2 + [2] * 4 + [4] * 4 + [5] * 4 + [4] * 3
    logs = [sum(math.log(d + 1) for d in degrees) / 17 for degrees in (with_one, plain)]
    model = NGGNN(architectures[:2], 1, config)
    assert float(model.network.delta) == pytest.approx(sum(logs) / 2)
    model.fit(iter([parts[0].map(lambda tensor: tensor[:1]), parts[1], parts[1]]))
    assert float(model.network.delta) == pytest.approx((logs[0] + 4 * logs[1]) / 5)
    assert "network.delta" in model.state_dict()


def test_delta_leaves_out_reverse_edges() -> None:
    both = NGGNN([SIREN], 1, replace(INR, dim=3))
    one = NGGNN([SIREN], 1, replace(INR, dim=3, graph=replace(INR.graph, reverse=False)))
    assert float(both.network.delta) == float(one.network.delta)


def test_fitting_changes_what_is_seen() -> None:
    architecture, config = CASES["siren with probes"]
    graph = random_graph(architecture, 4, dtype=torch.float64)
    with seeded(0):
        model = NGGNN([architecture], 2, NGGNNConfig(config, dim=6)).double().eval()
    before = model(graph)
    model.fit([graph])
    assert not torch.allclose(model(graph), before)
    with pytest.raises(UsageError, match="no training networks"):
        model.fit([])
    with pytest.raises(UsageError, match="these have 3 and 3"):
        model.fit([random_graph(siren_architecture(3, (5, 4), 3), 1)])


def test_what_nobody_reads_is_not_computed() -> None:
    model, graph = build("siren with residuals", num_layers=3)
    targets: list[list[int]] = []

    def note(module: nn.Module, inputs: tuple, blocks: Any) -> None:
        targets.append([block.target.layer for block in blocks])

    for module in model.network.edge_updates:
        module.register_forward_hook(note)
    model(graph)
    assert targets == [[1, 2, 3, 4, 2, 3, 0, 1, 2, 3, 1, 1], [4]]


def test_dropout_is_for_training_alone() -> None:
    model, graph = build("siren")
    assert torch.equal(model(graph), model(graph))
    model.train()
    assert not torch.equal(model(graph), model(graph))


@pytest.mark.parametrize("case", ["siren with residuals", "vit", "cnn with pixels"])
def test_all_is_made_where_the_networks_are(case: str) -> None:
    model, graph = build(case)
    assert_all_is_on_meta(model, graph, num_outputs=4)


def test_all_of_a_mixed_batch_is_made_where_the_networks_are() -> None:
    parts = different_cnns()
    mixed = NGGNN([part.architecture for part in parts], 4, NGGNNConfig(CASES["cnn"][1], dim=6))
    assert_all_is_on_meta(mixed.double(), joined(parts), num_outputs=4)


def test_half_precision_runs() -> None:
    model, graph = build("siren with residuals")
    model, graph = model.float(), graph.map(Tensor.float)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(graph)
    logits.float().square().sum().backward()
    torch.testing.assert_close(logits.float(), model(graph), rtol=0.1, atol=0.1)


def test_what_it_refuses() -> None:
    assert NGGNN.refusal([SIREN, siren_architecture(2, (9, 9, 9), 3)]) is None
    assert NGGNN.refusal([SIREN, small_cnn()]) is not None
    deep = cnn((3, 3, 3), ("relu",) * 3)
    assert NGGNN.refusal([deep], NGGNN.presets["small-cnn"]) is None
    four = Architecture(1, (small_cnn().timestamps[0], *(replace(deep.timestamps[1], num_nodes=5, num_sources=5),) * 3,
                            Timestamp("pool_linear", 3, 5)))  # fmt: skip
    found = NGGNN.refusal([four], NGGNN.presets["small-cnn"])
    assert found is not None
    assert "4 hidden layers, and 3" in found
    with pytest.raises(UsageError, match=r"4 hidden layers, and 3 have embeddings.*DNG-Encoder takes any depth"):
        NGGNN([four], 1, NGGNN.presets["small-cnn"])
    with pytest.raises(UsageError, match="transformers"):
        NGGNN([SMALL_VIT], 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be positive"),
        ({"num_layers": 0}, "num_layers must be positive"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"norm": "batch"}, "norm must be node or minibatch"),
    ],
)
def test_settings_that_cannot_be_meant(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NGGNNConfig(**options)


def test_a_residual_connection_counts() -> None:
    architecture = residual_siren()
    model, graph = build("siren with residuals")
    without = replace(graph, residuals=())
    assert (model(without) - model(graph)).abs().max() > 1e-6
    assert architecture.timestamps[1].residuals
