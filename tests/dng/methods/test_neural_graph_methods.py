"""What NG-GNN and NG-T have in common: the graphs that they read, and what must not change their logits."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dng.methods.ng_gnn import NGGNN, NGGNNConfig
from dng.methods.ng_t import NGT, NGTConfig
from dng.models.heads import count_parameters
from dng.testing import (
    assert_batch_independent,
    assert_every_parameter_learns,
    assert_gradients,
    assert_tells_apart,
    random_graph,
)
from dng.training.seed import seeded
from tests.dng.graphs import simple_vit, small_cnn
from tests.dng.methods.neural_graphs import (
    SIREN,
    SMALL_VIT,
    TINY_GNN,
    TINY_T,
    assert_all_is_on_meta,
    cnn,
    different_cnns,
    fitted,
    joined,
    permuted,
    symmetric_cases,
)
from zootool.architecture import Architecture, Timestamp
from zootool.errors import UsageError
from zootool.graph import GraphBatch
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture

CASES = symmetric_cases()
METHODS: dict[str, tuple[Any, Any]] = {"gnn": (NGGNN, TINY_GNN), "t": (NGT, TINY_T)}
GREY, COLOURED = siren_architecture(2, (32, 32), 1), siren_architecture(2, (32, 32), 3)
SMALL_CNN = cnn_architecture(CnnConfig())
PARK = cnn_architecture(CnnConfig((3, 8, 8), (7, 3), (1, 1), (3, 1), ("relu", "gelu"), (None, 0)))


@pytest.fixture(params=METHODS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each of the methods."""
    return request.param


def build(kind: str, case: str) -> tuple[Any, GraphBatch]:
    method, config = METHODS[kind]
    return fitted(method, config, case)


def build_for_different_cnns(kind: str, **options: Any) -> tuple[Any, list[GraphBatch]]:
    parts = different_cnns()
    method, config = METHODS[kind]
    graph_config = replace(CASES["cnn"][1], **options)
    with seeded(0):
        model = method([part.architecture for part in parts], 4, replace(config, graph=graph_config))
    return model.double().eval(), parts


@pytest.mark.parametrize(
    ("method", "preset", "architecture", "num_outputs", "count"),
    [
        (NGGNN, "inr-narrow", GREY, 10, 92_010),
        (NGGNN, "inr-narrow-probes", GREY, 10, 100_714),
        (NGGNN, "inr", GREY, 10, 331_466),
        (NGGNN, "inr", COLOURED, 10, 339_786),
        (NGGNN, "inr-probes-6m", GREY, 10, 6_045_646),
        (NGGNN, "inr-probes-6m-rgb", COLOURED, 10, 6_037_218),
        # Published are 67,584 more, which nothing reads: another second projection and embeddings of activations.
        (NGGNN, "small-cnn", SMALL_CNN, 1, 5_587_969 - 67_584),
        (NGGNN, "wild-park", PARK, 1, 369_025),
        (NGGNN, "vit", simple_vit(), 1, 251_837),
        (NGT, "inr", GREY, 10, 376_586),
        (NGT, "inr", COLOURED, 10, 393_098),
        (NGT, "inr-probes", GREY, 10, 393_866),
        (NGT, "inr-probes", COLOURED, 10, 410_378),
        (NGT, "inr-probes-6m", GREY, 10, 5_740_682),
        (NGT, "inr-probes-6m", COLOURED, 10, 6_003_338),
        # Published are 896 more, embeddings of activations that nothing reads.
        (NGT, "small-cnn", SMALL_CNN, 1, 1_807_873 - 896),
        (NGT, "wild-park", PARK, 1, 92_705),
        (NGT, "vit", simple_vit(), 1, 250_001),
    ],
)
def test_parameters_are_as_many_as_published(
    method: Any, preset: str, architecture: Architecture, num_outputs: int, count: int
) -> None:
    with torch.device("meta"):
        assert count_parameters(method([architecture], num_outputs, method.presets[preset])) == count


@pytest.mark.parametrize("case", CASES)
def test_hidden_nodes_have_no_order(kind: str, case: str) -> None:
    model, graph = build(kind, case)
    other = permuted(graph)
    assert any(not torch.equal(one, two) for one, two in zip(graph.edges, other.edges, strict=True))
    torch.testing.assert_close(model(other), model(graph), rtol=0, atol=1e-9)
    torch.testing.assert_close(
        model.float()(other.map_weights(Tensor.float)), model(graph.map_weights(Tensor.float)), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("case", CASES)
def test_all_else_has(kind: str, case: str) -> None:
    assert_tells_apart(*build(kind, case), difference=1e-6)


@pytest.mark.parametrize("case", ["siren with residuals", "cnn", "vit"])
def test_gradients(kind: str, case: str) -> None:
    # So small a step crosses few of the kinks that minima, maxima, smallest variances and ReLU have.
    assert_gradients(*build(kind, case), step=1e-9)


def test_every_parameter_has_a_gradient(kind: str) -> None:
    model, graph = build(kind, "siren with residuals")
    assert_every_parameter_learns(model, model(graph).square().sum())


@pytest.mark.parametrize("case", ["siren with residuals", "cnn with residuals", "vit"])
def test_a_network_is_the_same_among_others(kind: str, case: str) -> None:
    assert_batch_independent(*build(kind, case))


@pytest.mark.parametrize(("kind", "scalar_encoder"), [("gnn", False), ("gnn", True), ("t", False)])
def test_a_network_is_the_same_among_networks_of_other_kernels_and_residual_connections(
    kind: str, scalar_encoder: bool
) -> None:
    model, parts = build_for_different_cnns(kind, scalar_encoder=scalar_encoder)
    model.fit(parts)
    batch = joined(parts)
    together = model(batch)
    for index, part in enumerate(parts):
        torch.testing.assert_close(together[batch.architecture_index == index], model(part), rtol=0, atol=1e-10)


def test_fitting_changes_what_is_seen(kind: str) -> None:
    method, config = METHODS[kind]
    architecture, graph_config = CASES["siren with probes"]
    graph = random_graph(architecture, 4, dtype=torch.float64)
    with seeded(0):
        model = method([architecture], 2, replace(config, graph=graph_config)).double().eval()
    seen = [model(graph)]
    for training in (graph, graph.map_weights(lambda tensor: 2 * tensor)):
        model.fit(iter([training]))
        seen.append(model(graph))
        assert not torch.allclose(seen[-1], seen[-2])
    with pytest.raises(UsageError, match="no training networks"):
        model.fit([])
    with pytest.raises(UsageError, match="these have 3 and 3"):
        model.fit([random_graph(siren_architecture(3, (5, 4), 3), 1)])


@pytest.mark.parametrize("case", ["siren with residuals", "cnn with residuals"])
def test_a_residual_connection_counts(kind: str, case: str) -> None:
    # Probes run the SIRENs with their residual connections; of the CNNs the edges alone tell.
    model, graph = build(kind, case)
    logits = model(graph)
    assert len(graph.residuals) == 2
    for kept in ((), graph.residuals[:1], graph.residuals[1:]):
        assert (model(replace(graph, residuals=kept)) - logits).abs().max() > 1e-6


def test_dropout_is_for_training_alone(kind: str) -> None:
    model, graph = build(kind, "siren")
    assert torch.equal(model(graph), model(graph))
    model.train()
    assert not torch.equal(model(graph), model(graph))


@pytest.mark.parametrize("case", ["siren with residuals", "vit", "cnn with pixels"])
def test_all_is_made_where_the_networks_are(kind: str, case: str) -> None:
    model, graph = build(kind, case)
    assert_all_is_on_meta(model, graph, num_outputs=4)


def test_all_of_a_mixed_batch_is_made_where_the_networks_are(kind: str) -> None:
    model, parts = build_for_different_cnns(kind)
    assert_all_is_on_meta(model, joined(parts), num_outputs=4)


@pytest.mark.parametrize("case", ["siren with residuals", "cnn with residuals"])
def test_half_precision_runs(kind: str, case: str) -> None:
    model, graph = build(kind, case)
    model, graph = model.float(), graph.map_weights(Tensor.float)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(graph)
    logits.float().square().sum().backward()
    torch.testing.assert_close(logits.float(), model(graph), rtol=0.1, atol=0.1)


def test_what_it_refuses(kind: str) -> None:
    method, _ = METHODS[kind]
    small = method.presets["small-cnn"]
    assert method.refusal([SIREN, siren_architecture(2, (9, 9, 9), 3)]) is None
    assert method.refusal([SIREN, small_cnn()]) is not None
    deep = cnn((3, 3, 3), ("relu",) * 3)
    assert method.refusal([deep], small) is None
    assert method.refusal([small_cnn()], small) is None
    four = Architecture(1, (small_cnn().timestamps[0], *(replace(deep.timestamps[1], num_nodes=5, num_sources=5),) * 3,
                            Timestamp("pool_linear", 3, 5)))  # fmt: skip
    assert "4 hidden layers, and 3" in str(method.refusal([four], small))
    with pytest.raises(UsageError, match=r"4 hidden layers, and 3 have embeddings.*DNG-Encoder takes any depth"):
        method([four], 1, small)
    with pytest.raises(UsageError, match=r"kernel of 7 x 7.*\(kernel_size; the DNG-Encoder takes any\)"):
        method([PARK], 1, small)
    with pytest.raises(UsageError, match="transformers"):
        method([SMALL_VIT], 1)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (NGGNNConfig, {"dim": 0}, "dim must be positive"),
        (NGGNNConfig, {"num_layers": 0}, "num_layers must be positive"),
        (NGGNNConfig, {"dropout": 1.0}, "dropout must be in"),
        (NGGNNConfig, {"norm": "batch"}, "norm must be node or minibatch"),
        (NGTConfig, {"edge_dim": 0}, "edge_dim must be positive"),
        (NGTConfig, {"num_heads": 0}, "num_heads must be positive"),
        (NGTConfig, {"num_heads": 3}, "must be divisible by num_heads"),
        (NGTConfig, {"dropout": -0.1}, "dropout must be in"),
        (NGTConfig, {"graph": replace(CASES["cnn"][1], scalar_encoder=True)}, "scalar_encoder must be off"),
    ],
)
def test_settings_that_cannot_be_meant(config: Any, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(**options)
