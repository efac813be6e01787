from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dng import testing as checks
from dng.methods.nfn import NFN, HNPPool, InputEncoding, NFNConfig, Standardise, Standardiser, parameters_of
from dng.methods.nfn_layers import IOEmbedding
from dng.models.heads import count_parameters, mlp_head
from dng.testing import permute_hidden, random_graph
from dng.training.seed import seeded
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from tests.dng.methods.nfn_networks import ARCHITECTURES, SIREN
from tests.dng.methods.precisions import IN_BOTH_PRECISIONS
from zootool.architecture import Activation, Architecture, Norm, Timestamp
from zootool.errors import UsageError
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture

TINY = NFNConfig(channels=(6, 5), head_dim=9, num_frequencies=3, sigma=1.0, head_dropout=0.1)
CONFIGS = {
    "hnp": TINY,
    "np": replace(TINY, variant="np"),
    "np with places": replace(TINY, variant="np", io_bands=2),
    "np with embeddings": replace(TINY, variant="np", io_embedding=True),
    "hnp, standardised": replace(TINY, num_frequencies=0, standardise="layer"),
}


def build(architecture: Architecture, config: NFNConfig, dtype: torch.dtype = torch.float64) -> NFN:
    with seeded(0, "nfn"):
        model = NFN([architecture], 4, config).to(dtype).eval()
    model.fit([random_graph(architecture, batch=6, seed=1, dtype=dtype)])
    return model


@IN_BOTH_PRECISIONS
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("config", CONFIGS)
def test_logits_know_no_order_of_hidden_neurons_but_all_else(
    config: str, architecture: str, dtype: torch.dtype, tolerance: float
) -> None:
    model = build(ARCHITECTURES[architecture], CONFIGS[config], dtype)
    graph = random_graph(ARCHITECTURES[architecture], batch=3, dtype=dtype)
    with torch.no_grad():
        logits = model(graph)
        assert logits.shape == (3, 4)
        torch.testing.assert_close(model(permute_hidden(graph)), logits, rtol=0, atol=tolerance)
        checks.assert_tells_apart(model, graph, difference=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_gradients_and_batches(config: str) -> None:
    model = build(SIREN, CONFIGS[config])
    graph = random_graph(SIREN, batch=3, dtype=torch.float64)
    checks.assert_gradients(model, graph, step=1e-7)
    checks.assert_batch_independent(model, graph, tolerance=1e-12)


def test_a_forward_pass_leaves_the_networks_alone() -> None:
    graph = random_graph(small_cnn(), batch=3)
    before = [tensor.clone() for tensor in (*graph.edges, *graph.nodes)]
    build(small_cnn(), replace(TINY, num_frequencies=0), torch.float32)(graph)
    assert all(torch.equal(a, b) for a, b in zip((*graph.edges, *graph.nodes), before, strict=True))


def test_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        for outputs, wanted in ((1, (68_844_330, 45_668_650)), (3, (135_126_826, 47_716_650))):
            inr = [siren_architecture(2, (32, 32), outputs)]
            found = tuple(count_parameters(NFN(inr, 10, NFN.presets[name])) for name in ("inr", "inr-np"))
            assert found == wanted
            assert count_parameters(NFN(inr, 10, NFN.presets["inr-mnist"])) == wanted[0]
        small = [cnn_architecture(CnnConfig())]
        cnn = [NFN(small, 1, NFN.presets[name]) for name in ("small-cnn", "small-cnn-np")]
        assert [count_parameters(model) for model in cnn] == [2_811_743, 2_031_390]


@pytest.mark.parametrize("name", NFN.presets)
def test_presets_are_built_and_run(name: str) -> None:
    architecture = small_cnn() if "cnn" in name else SIREN
    model = build(architecture, NFN.presets[name].widened(0.02), torch.float32)
    assert torch.isfinite(model(random_graph(architecture, batch=2))).all()


def test_the_pool_keeps_the_ends_and_takes_means_of_all_else() -> None:
    graph = random_graph(small_cnn(), batch=3, dtype=torch.float64)
    pool = HNPPool(small_cnn(), 1)
    kept = pool(list(graph.edges), list(graph.nodes))
    assert kept.shape == (3, pool.out_dim)
    edges, nodes = [edge[0] for edge in graph.edges], [node[0] for node in graph.nodes]
    wanted = [edges[0].mean(dim=0)[0], edges[2].mean(dim=1)[:, 0], nodes[2][:, 0]]
    wanted += [edges[1].mean(dim=(0, 1)), nodes[0].mean(dim=0), nodes[1].mean(dim=0)]
    torch.testing.assert_close(kept[0], torch.cat(wanted))


def test_the_head_drops_behind_both_hidden_layers() -> None:
    head = mlp_head(5, 8, 2, dropout=0.3)
    assert [type(part) for part in head] == [nn.Linear, nn.ReLU, nn.Dropout] * 2 + [nn.Linear]
    assert str(head[2]) == str(head[5]) == "Dropout(p=0.3, inplace=False)"
    model = build(SIREN, TINY)
    assert str(model.head) == str(mlp_head(model.pool.out_dim, 9, 4, 0.1))


def test_places_are_encoded_beside_the_features() -> None:
    encoding = InputEncoding(replace(TINY, num_frequencies=2, io_bands=2, io_max_frequency=5.0)).double()
    graph = random_graph(small_cnn(), batch=2, dtype=torch.float64)
    weights, biases = encoding(*parameters_of(graph))
    assert encoding.out_dim == 4 + 5
    assert [weight.shape[-1] for weight in weights] == [9 * 4, 9 * 9, 9]
    assert encoding.fourier is not None
    torch.testing.assert_close(weights[1][..., 9:13], encoding.fourier(graph.edges[1][..., 1]))
    assert (weights[1].unflatten(-1, (9, 9))[..., 4:] == 0).all()
    assert (biases[0][..., 4:] == 0).all()
    x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    angles = torch.stack([torch.pi * x, 2.5 * torch.pi * x], dim=1)
    places = torch.cat([angles.sin(), angles.cos(), x[:, None]], dim=1)
    torch.testing.assert_close(weights[2][1, :, 4, 4:], places)
    torch.testing.assert_close(biases[2][1, :, 4:], places)
    siren_weights, _ = encoding(*parameters_of(random_graph(SIREN, batch=2, dtype=torch.float64)))
    torch.testing.assert_close(siren_weights[0][1, 3, :, 4:], places[[0, 2]])


def test_sigma_is_the_deviation_of_frequencies() -> None:
    config = replace(TINY, num_frequencies=2000, sigma=7.0)
    with seeded(0, "frequencies"):
        fourier = InputEncoding(config).fourier
    assert fourier is not None
    assert float(fourier.frequencies.std()) == pytest.approx(7.0, rel=0.05)


def test_embeddings_are_added_at_both_ends_in_every_layer() -> None:
    model = build(small_cnn(), replace(CONFIGS["np with embeddings"], num_frequencies=0))
    assert [tuple(weights.shape) for weights in model.embeddings.parameters()][2::3] == [(3, 1), (3, 6)]
    logits = model(random_graph(small_cnn(), batch=2, dtype=torch.float64))
    gradients = torch.autograd.grad(logits.sum(), list(model.embeddings.parameters()), materialize_grads=True)
    assert all(gradient.any() for gradient in gradients)
    embedding = IOEmbedding(small_cnn(), 2)
    graph = random_graph(small_cnn(), batch=2)
    weights, biases = ([torch.cat([x, -x], dim=-1) for x in part] for part in (graph.edges, graph.nodes))
    new_weights, new_biases = embedding(weights, biases)
    torch.testing.assert_close(new_weights[0] - weights[0], embedding.inputs.expand(2, 5, 1, 8))
    torch.testing.assert_close((new_weights[2] - weights[2])[1, :, 3], embedding.outputs.detach())
    torch.testing.assert_close((new_biases[2] - biases[2])[1], embedding.output_biases.detach())
    assert new_weights[1] is weights[1]
    assert new_biases[1] is biases[1]
    with seeded(0, "normal"):
        drawn = IOEmbedding(small_cnn(), 1000).inputs.detach()
    assert abs(float(drawn.std()) - 1) < 0.05


@pytest.mark.parametrize("per", ["entry", "layer"])
def test_standardised_training_networks_have_mean_0_and_deviation_1(per: Standardise) -> None:
    graphs = [random_graph(small_cnn(), batch=size, seed=size, dtype=torch.float64) for size in (5, 3)]
    graphs = [graph.map_weights(lambda tensor: 3 * tensor + 2) for graph in graphs]
    graphs = [replace(graph, nodes=(torch.full_like(graph.nodes[0], 7.0), *graph.nodes[1:])) for graph in graphs]
    standardiser = Standardiser(small_cnn(), per).double()
    assert torch.equal(standardiser(graphs[0])[0][1], graphs[0].edges[1])
    standardiser.fit(iter(graphs))
    (weights, biases), (more_weights, more_biases) = (standardiser(graph) for graph in graphs)
    first_bias, *tensors = map(torch.cat, zip([*biases, *weights], [*more_biases, *more_weights], strict=True))
    assert (first_bias == 0).all()
    for tensor in tensors:
        axes = 0 if per == "entry" else tuple(range(tensor.ndim))
        assert tensor.mean(dim=axes).abs().max() < 1e-9
        assert (tensor.std(dim=axes) - 1).abs().max() < 1e-9


def test_standardising_every_entry_breaks_the_invariance_as_published() -> None:
    graph = random_graph(small_cnn(), batch=3, dtype=torch.float64)
    model = build(small_cnn(), replace(TINY, standardise="entry"))
    assert (model(permute_hidden(graph)) - model(graph)).abs().max() > 1e-4
    with pytest.raises(UsageError, match="no training networks"):
        model.fit([])


def test_dropout_takes_whole_channels_of_weights() -> None:
    model = build(SIREN, replace(TINY, channels=(64,), channel_dropout=0.4))
    graph = random_graph(SIREN, batch=3, dtype=torch.float64)
    whole, _ = model.features(graph)
    with seeded(0, "dropout"):
        weights, biases = model.train().features(graph)
    kept = (weights[1] / whole[1]).nan_to_num()
    alive = whole[1].amax(dim=(1, 2)) > 0
    assert 0.2 < float((kept.amax(dim=(1, 2))[alive] == 0).double().mean()) < 0.6
    torch.testing.assert_close(weights[1], whole[1] * kept.amax(dim=(1, 2), keepdim=True))
    assert kept.amax().item() == pytest.approx(1 / 0.6)
    assert not torch.equal(biases[1], model.eval().features(graph)[1][1])


def beginning_with(first: Timestamp) -> Architecture:
    return replace(small_cnn(), timestamps=(first, *small_cnn().timestamps[1:]))


FIRST = small_cnn().timestamps[0]


@pytest.mark.parametrize(
    ("architectures", "reason"),
    [
        ([SIREN, siren_architecture(2, (5,), 3)], r"differ in depth; .* \(ng-gnn, ng-t\) can"),
        ([SIREN, siren_architecture(2, (5, 6), 3)], "differ in width"),
        ([siren_architecture(2, (), 3)], "no hidden layer"),
        ([residual_cnn()], "residual"),
        ([simple_vit()], "attention"),
        ([beginning_with(replace(FIRST, norm=Norm("batch")))], "norm layers; the DNG-Encoder can"),
        ([beginning_with(replace(FIRST, source_norm=Norm("batch")))], "norm layers"),
        ([], "no networks"),
    ],
)
def test_what_it_cannot_take_it_refuses(architectures: list[Architecture], reason: str) -> None:
    with pytest.raises(UsageError, match=f"nfn-np can't take the zoo: .*{reason}"):
        NFN(architectures, 1, replace(TINY, variant="np"))


def test_kernels_of_other_sizes_are_refused_and_other_activations_are_not() -> None:
    smaller = replace(FIRST, edges_per_pair=1, kernel=(1, 1))
    assert "kernel size" in str(NFN.refusal([small_cnn(), beginning_with(smaller)]))
    assert NFN.refusal([small_cnn(), beginning_with(replace(FIRST, activation=Activation("tanh")))]) is None


def test_configs_are_widened() -> None:
    widened = NFN.presets["small-cnn"].widened(0.5)
    assert (widened.channels, widened.head_dim, widened.num_frequencies) == ((8, 8, 3), 500, 0)
    assert TINY.widened(1.0) == TINY
    assert min(*TINY.widened(1e-4).channels, TINY.widened(1e-4).head_dim) == 1
    with pytest.raises(UsageError, match="io_bands"):
        NFN([SIREN], 1, replace(TINY, io_bands=-1))


@pytest.mark.parametrize(
    ("name", "value"),
    [("channels", ()), ("channels", (3, 0)), ("head_dim", 0), ("head_dropout", 1.0), ("channel_dropout", -0.1)],
)
def test_configs_are_checked(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        replace(TINY, **{name: value})
