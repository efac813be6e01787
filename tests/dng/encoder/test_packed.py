from dataclasses import replace

import pytest
import torch

from dng.encoder.config import EncoderConfig
from dng.encoder.dng_encoder import DNGEncoder
from dng.encoder.packed import encode_packed, pack
from dng.testing import random_graph
from dng.training.seed import seeded
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from zootool.architecture import Residual
from zootool.errors import UsageError
from zootool.graph import BatchResidual, GraphBatch
from zootool.nets.siren import siren_architecture

SHARED = EncoderConfig(
    dim=12, num_frequencies=4, head_dim=3, max_edges=9, shared=True, activations=("relu", "gelu", "tanh")
)


def mixed_batches(dtype: torch.dtype) -> list[GraphBatch]:
    """Depths 3 to 6, widths 4 to 6, with and without residuals, kernels of 4 and 9."""
    architectures = [small_cnn(), residual_cnn(depth=3), residual_cnn(depth=5, width=4), residual_cnn(depth=4)]
    return [random_graph(a, batch=i + 1, seed=i, dtype=dtype) for i, a in enumerate(architectures)]


@pytest.mark.parametrize(
    "config",
    [
        SHARED,
        replace(SHARED, residual="message"),
        replace(SHARED, residual="plain"),
        replace(SHARED, rnn_layers=2),
        replace(SHARED, output_activation="network", padding="features"),
    ],
    ids=["linear", "message", "plain", "two walks", "as published"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_packed_networks_are_encoded_like_bucketed_ones(
    config: EncoderConfig, dtype: torch.dtype, tolerance: float
) -> None:
    with seeded(0):
        encoder = DNGEncoder(residual_cnn(), config).to(dtype)
    batches = mixed_batches(dtype)
    expected = torch.cat([encoder(batch) for batch in batches])
    torch.testing.assert_close(encode_packed(encoder, pack(batches)), expected, rtol=0, atol=tolerance)


def test_gradients_are_those_of_bucketed_networks() -> None:
    with seeded(0):
        encoder = DNGEncoder(residual_cnn(), SHARED).double()
    batches = mixed_batches(torch.float64)
    weights = torch.linspace(-1, 1, 10 * 3 * 12, dtype=torch.float64).view(10, 3, 12)
    grads = []
    for out in (torch.cat([encoder(batch) for batch in batches]), encode_packed(encoder, pack(batches))):
        encoder.zero_grad()
        (out * weights).sum().backward()
        grads.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    for bucketed, packed in zip(*grads, strict=True):
        torch.testing.assert_close(packed, bucketed, rtol=0, atol=1e-10)


def test_masks_and_residuals_of_single_networks_are_kept() -> None:
    """A bucket whose networks differ in kernel and residuals, as the loader makes them."""
    architecture = residual_cnn(depth=3, width=4)
    graph = random_graph(architecture, batch=3, dtype=torch.float64)
    mask = torch.ones_like(graph.edges[1], dtype=torch.bool)
    mask[1, ..., 4:] = False
    only_first = BatchResidual(3, Residual(source=1), torch.tensor([True, False, False]))
    graph = replace(graph, edge_masks=(None, mask, None, None), residuals=(only_first,))
    with seeded(0):
        encoder = DNGEncoder(residual_cnn(), SHARED).double()
    out = encoder(graph)
    torch.testing.assert_close(encode_packed(encoder, pack([graph])), out, rtol=0, atol=1e-12)
    changed = replace(graph, edges=(graph.edges[0], torch.where(mask, graph.edges[1], 5.0), *graph.edges[2:]))
    torch.testing.assert_close(encoder(changed), out, rtol=0, atol=1e-12)
    without = encoder(replace(graph, residuals=()))
    assert (without - out).abs().amax(dim=(1, 2)).gt(1e-6).tolist() == [True, False, False]


def test_an_unshared_encoder_packs_batches_of_its_own_architecture() -> None:
    architecture = siren_architecture(2, (6, 6), 1)
    with seeded(0):
        encoder = DNGEncoder(architecture, EncoderConfig(dim=8, num_frequencies=4))
    batches = [random_graph(architecture, batch=2, seed=1), random_graph(architecture, batch=3, seed=2)]
    expected = torch.cat([encoder(batch) for batch in batches])
    torch.testing.assert_close(encode_packed(encoder, pack(batches)), expected, rtol=0, atol=1e-5)


def test_what_cannot_be_packed_or_encoded_is_named() -> None:
    with pytest.raises(UsageError, match="transformers can't be packed"):
        pack([random_graph(simple_vit(dim=8, depth=1, heads=2, dim_head=4, mlp=8), batch=1)])
    encoder = DNGEncoder(residual_cnn(), replace(SHARED, max_edges=9))
    with pytest.raises(UsageError, match="1 inputs and 3 outputs, these have 2 and 3"):
        encode_packed(encoder, pack([random_graph(siren_architecture(2, (4,), 3), batch=1)]))
