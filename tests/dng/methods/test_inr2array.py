from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from dng.methods.inr2array import (
    INR2Array,
    INR2ArrayConfig,
    LatentPool,
    LatentTransformer,
    LatentTransformerConfig,
)
from dng.models.heads import count_parameters
from dng.testing import (
    assert_batch_independent,
    assert_every_parameter_learns,
    assert_gradients,
    permute_hidden,
    permute_inputs,
    permute_outputs,
    permute_uncoupled,
    random_graph,
)
from dng.training.seed import seeded
from tests.dng.graphs import small_cnn
from tests.zootool.nets.modules import Siren
from zootool.architecture import Activation, Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (5, 6), 3, omega_0=8.0, output_offset=0.25)
GREY = siren_architecture(2, (32, 32), 1)
COLOURED = siren_architecture(2, (32, 32), 3)
CONFIG = INR2ArrayConfig(image_side=9, dim=8, num_heads=2, num_blocks=2, ff_dim=12, decoder_dim=10)
Permutation = Callable[[GraphBatch], GraphBatch]
DecoderName = Literal["tensorwise", "joint"]
TRANSFORMER = LatentTransformerConfig(dim=16, num_layers=2, num_heads=4, ff_dim=20)


def inr2array(config: INR2ArrayConfig = CONFIG) -> INR2Array:
    with seeded(0):
        return INR2Array([SIREN], config).eval()


@pytest.mark.parametrize("latent_side", [2, 4, 8])
@pytest.mark.parametrize("decoder", ["tensorwise", "joint"])
def test_latents_and_images_have_their_shapes(latent_side: int, decoder: DecoderName) -> None:
    model = inr2array(replace(CONFIG, latent_side=latent_side, decoder=decoder))
    graph = random_graph(SIREN, batch=3)
    assert model.encode(graph).shape == (3, latent_side, latent_side, 8)
    assert model.reconstruct(graph).shape == (3, 3, 9, 9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_latents_know_no_order_of_hidden_neurons(dtype: torch.dtype, tolerance: float) -> None:
    model = inr2array().to(dtype)
    graph = random_graph(SIREN, batch=3, dtype=dtype)
    latents = model.encode(graph)
    assert (latents[0] - latents[1]).abs().max() > 100 * tolerance
    torch.testing.assert_close(model.encode(permute_hidden(graph)), latents, rtol=0, atol=tolerance)


@pytest.mark.parametrize("permute", [permute_uncoupled, permute_inputs, permute_outputs])
def test_latents_tell_other_networks_apart(permute: Permutation) -> None:
    model = inr2array().double()
    graph = random_graph(SIREN, batch=2, dtype=torch.float64)
    assert (model.encode(permute(graph)) - model.encode(graph)).abs().max() > 1e-5


@pytest.mark.parametrize(("permute", "table"), [(permute_inputs, "inputs"), (permute_outputs, "outputs")])
def test_only_the_embeddings_tell_inputs_and_outputs_apart(permute: Permutation, table: str) -> None:
    model = inr2array().double()
    graph = random_graph(SIREN, batch=2, dtype=torch.float64)
    with torch.no_grad():
        model.get_parameter(f"encoder.embeddings.{table}").zero_()
    torch.testing.assert_close(model.encode(permute(graph)), model.encode(graph), rtol=0, atol=1e-11)


def test_networks_are_read_one_by_one() -> None:
    graph = random_graph(SIREN, batch=3, dtype=torch.float64)
    assert_batch_independent(inr2array(), graph)


@pytest.mark.parametrize("decoder", ["tensorwise", "joint"])
def test_gradients_are_those_of_differences(decoder: DecoderName) -> None:
    # A small step: what a SIREN renders bends fast.
    graph = random_graph(SIREN, batch=2, dtype=torch.float64)
    assert_gradients(inr2array(replace(CONFIG, decoder=decoder)), graph, step=1e-6)


@pytest.mark.parametrize("decoder", ["tensorwise", "joint"])
def test_every_parameter_learns(decoder: DecoderName) -> None:
    model = inr2array(replace(CONFIG, decoder=decoder))
    assert_every_parameter_learns(model, model.loss(random_graph(SIREN, batch=3), torch.zeros(3, 3, 9, 9)))


def test_encoder_and_classifier_have_the_published_sizes() -> None:
    with torch.device("meta"):
        model = INR2Array([GREY], INR2Array.presets["inr"])
        classifier = LatentTransformer(256, 10)
    assert count_parameters(model.encoder) == 21_200_640
    assert count_parameters(classifier) == 38_260_746
    assert len(model.get_parameter("encoder.pool.latents")) == 16
    assert INR2Array.presets["inr"].num_heads == LatentTransformerConfig().num_heads == 4


def test_decoders_have_the_published_sizes() -> None:
    with torch.device("meta"):
        grey = INR2Array([GREY], INR2Array.presets["inr"])
        coloured = INR2Array([COLOURED], INR2Array.presets["inr-rgb"])
    assert count_parameters(grey.decoder) == 1_094_049
    # Three layers of one MLP, six scales and the 1,251 numbers of a SIREN.
    assert count_parameters(coloured.decoder) == 2 * 257 * 256 + 257 * 1251 + 6 + 1251 == 454_348


def test_the_pool_is_one_head_of_cross_attention_and_a_gated_feed_forward() -> None:
    with seeded(1):
        pool, entries = LatentPool(8, 3, 5).double(), torch.randn(2, 11, 8, dtype=torch.float64)
        for norm in (pool.latent_norm, pool.entry_norm, pool.ff_norm):
            nn.init.normal_(norm.weight)
    keys, values = pool.key_value(pool.entry_norm(entries)).split(8, dim=-1)
    scores = pool.query(pool.latent_norm(pool.latents)) @ keys.transpose(1, 2) / 8**0.5
    middle = pool.latents + pool.out(torch.softmax(scores, dim=-1) @ values)
    up, gate = pool.ff_in(pool.ff_norm(middle)).split(5, dim=-1)
    expected = middle + pool.ff_out(up * nn.functional.gelu(gate))
    torch.testing.assert_close(pool(entries), expected)
    assert pool.query.bias is None
    assert pool.key_value.bias is None


def test_the_target_is_what_the_input_sirens_render() -> None:
    sirens = [Siren(2, (5, 6), 3, omega_0=8.0, output_offset=0.25) for _ in range(2)]
    states = [list(siren.state_dict().values()) for siren in sirens]
    graph = random_graph(SIREN, batch=2)
    edges = tuple(torch.stack([state[2 * t] for state in states])[..., None] for t in range(3))
    nodes = tuple(torch.stack([state[2 * t + 1] for state in states])[..., None] for t in range(3))
    graph = replace(graph, edges=edges, nodes=nodes)
    axis = torch.linspace(-1, 1, 9)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    images = torch.stack([siren(grid).permute(2, 0, 1) for siren in sirens])
    model = inr2array()
    torch.testing.assert_close(model.rendered(graph), images, rtol=0, atol=1e-5)
    expected = (model.reconstruct(graph) - images).square().mean()
    torch.testing.assert_close(model.loss(graph, torch.full_like(images, 7)), expected)


def test_one_sirens_rendering_can_be_learned() -> None:
    model = inr2array(replace(CONFIG, latent_side=2)).train()
    graph = random_graph(SIREN, batch=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(100):
        loss = model.loss(graph, torch.zeros(1, 3, 9, 9))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # More than the colours' means.
    assert losses[-1] < 0.25 * model.rendered(graph).var(dim=(2, 3)).mean()
    assert losses[-1] < 0.5 * losses[0]


def test_the_classifier_reads_the_first_latent_after_all_have_met() -> None:
    with seeded(5):
        model, latents = LatentTransformer(8, 5, TRANSFORMER).double().eval(), torch.randn(3, 4, 4, 8).double()
    logits = model(latents)
    assert logits.shape == (3, 5)
    assert torch.equal(model.predict(latents), logits.argmax(dim=1))
    moved = latents.flip(2)
    assert (model(moved) - logits).abs().max() > 1e-5
    tokens = model.embed(latents.flatten(1, 2)) + model.positions[:16]
    torch.testing.assert_close(logits, model.head(model.layers(tokens)[:, 0]))
    with torch.no_grad():
        alone = torch.cat([model(one[None]) for one in latents])
    torch.testing.assert_close(alone, logits)


def test_the_classifiers_layers_normalise_first() -> None:
    with seeded(6):
        layer, tokens = LatentTransformer(8, 5, TRANSFORMER).layers[0].double().eval(), torch.randn(2, 4, 16).double()
    assert isinstance(layer, nn.TransformerEncoderLayer)
    normed = layer.norm1(tokens)
    middle = tokens + layer.self_attn(normed, normed, normed)[0]
    expected = middle + layer.linear2(nn.functional.gelu(layer.linear1(layer.norm2(middle))))
    torch.testing.assert_close(layer(tokens), expected)
    assert {m.p for m in layer.modules() if isinstance(m, nn.Dropout)} == {layer.self_attn.dropout} == {0.1}


def test_the_classifier_learns() -> None:
    with seeded(6):
        model, latents = LatentTransformer(8, 5, TRANSFORMER), torch.randn(6, 2, 2, 8)
        model.loss(latents, torch.arange(6) % 5).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    with pytest.raises(UsageError, match="100 latents, but positions for 64: raise max_latents"):
        model(torch.randn(1, 10, 10, 8))


def test_widening() -> None:
    wide = CONFIG.widened(1.6)
    assert (wide.dim, wide.num_heads, wide.ff_dim, wide.decoder_dim, wide.image_side) == (12, 2, 20, 16, 9)
    assert replace(CONFIG, dim=6, num_heads=3).widened(1.5).dim == 12
    assert INR2Array.presets["inr"].widened(1.0) == INR2Array.presets["inr"]
    assert LatentTransformerConfig().widened(1.0) == LatentTransformerConfig()
    for factor, target in ((0.5, 1 / 4), (1.3, 1.69)):
        with torch.device("meta"):
            size = count_parameters(INR2Array([GREY], INR2Array.presets["inr"].widened(factor)))
            full = count_parameters(INR2Array([GREY], INR2Array.presets["inr"]))
        assert size / full == pytest.approx(target, rel=0.05)


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match=r"dim \(=9\) must be at least 2 and divisible by num_heads \(=2\)"):
        replace(CONFIG, dim=9)
    with pytest.raises(UsageError, match=r"dim \(=9\) must be even"):
        replace(CONFIG, dim=9, num_heads=3)
    with pytest.raises(UsageError, match="a grid of side 10 can't cover an image of side 9"):
        replace(CONFIG, latent_side=10)


def with_activations(*names: str) -> Architecture:
    timestamps = zip(SIREN.timestamps, names, strict=True)
    return replace(SIREN, timestamps=tuple(replace(t, activation=Activation(name)) for t, name in timestamps))


def without_biases() -> Architecture:
    return replace(SIREN, timestamps=tuple(replace(t, has_bias=False) for t in SIREN.timestamps), slots=())


@pytest.mark.parametrize(
    ("architectures", "reason"),
    [
        ([SIREN, siren_architecture(2, (5,), 3)], "its networks differ in depth"),
        ([small_cnn()], "its networks aren't SIRENs"),
        ([with_activations("sine", "relu", "none")], "its networks aren't SIRENs"),
        ([with_activations("sine", "sine", "sine")], "its networks aren't SIRENs"),
        ([without_biases()], "its networks aren't SIRENs"),
        ([SIREN, replace(SIREN, output_offset=0.5)], "its SIRENs differ in omega_0 or output offset"),
        ([SIREN, siren_architecture(2, (5, 6), 3, output_offset=0.25)], "its SIRENs differ in omega_0"),
        ([siren_architecture(3, (5, 6), 3)], "its SIRENs have 3 inputs, not 2"),
    ],
)
def test_what_is_no_zoo_of_sirens_is_refused(architectures: list[Architecture], reason: str) -> None:
    message = f"inr2array can't take the zoo: {reason}.*; the DNG-Encoder"
    with pytest.raises(UsageError, match=message):
        INR2Array(architectures, CONFIG)
