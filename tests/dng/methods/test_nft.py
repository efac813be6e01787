from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dng.methods.nft import NFT, LayerEmbeddings, NeuralFeatures, NFTConfig, raw_features
from dng.models.heads import count_parameters
from dng.testing import (
    assert_batch_independent,
    assert_every_parameter_learns,
    assert_gradients,
    assert_tells_apart,
    permute_hidden,
    random_graph,
)
from dng.training.seed import seeded
from tests.dng.graphs import residual_cnn, simple_vit, small_cnn
from zootool.architecture import Activation, Architecture, Norm
from zootool.errors import UsageError
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (5, 6), 3)
CONFIG = NFTConfig(dim=8, num_heads=2, num_blocks=2, ff_dim=12, head_dim=40)
ARCHITECTURES = [SIREN, small_cnn()]
NAMES = ["siren", "cnn"]
SMALL_ZOO_CNN = cnn_architecture(CnnConfig())


def nft(architecture: Architecture) -> NFT:
    with seeded(0):
        return NFT([architecture], 4, CONFIG).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_logits_know_no_order_of_hidden_neurons(
    architecture: Architecture, dtype: torch.dtype, tolerance: float
) -> None:
    model = nft(architecture).to(dtype)
    graph = random_graph(architecture, batch=3, dtype=dtype)
    logits = model(graph)
    assert logits.shape == (3, 4)
    assert (logits[0] - logits[1]).abs().max() > 100 * tolerance
    torch.testing.assert_close(model(permute_hidden(graph)), logits, rtol=0, atol=tolerance)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
def test_logits_tell_other_networks_apart(architecture: Architecture) -> None:
    graph = random_graph(architecture, batch=2, dtype=torch.float64)
    assert_tells_apart(nft(architecture).double(), graph, difference=1e-5)


def zero_features(architecture: Architecture) -> NeuralFeatures:
    def zeros(tensor: Tensor) -> Tensor:
        return tensor.new_zeros((*tensor.shape[:-1], 8 * tensor.shape[-1]))

    return raw_features(random_graph(architecture, 2, dtype=torch.float64)).each([zeros] * 6)


def test_embeddings_tell_inputs_and_outputs_apart_and_nothing_else() -> None:
    with seeded(0):
        embeddings = LayerEmbeddings(SIREN, 8).double()
    zero = zero_features(SIREN)
    added = embeddings(zero)
    layers, biases, inputs, outputs = embeddings.layers, embeddings.biases, embeddings.inputs, embeddings.outputs
    torch.testing.assert_close(added.weights[0], (layers[0] + inputs).expand(2, 5, 2, 8))
    torch.testing.assert_close(added.weights[1], layers[1].expand(2, 6, 5, 8))
    torch.testing.assert_close(added.weights[2], (layers[2] + outputs)[:, None].expand(2, 3, 6, 8))
    torch.testing.assert_close(added.biases[0], biases[0].expand(2, 5, 8))
    torch.testing.assert_close(added.biases[2], (biases[2] + outputs).expand(2, 3, 8))


def test_a_kernels_edges_share_an_embedding() -> None:
    with seeded(0):
        embeddings = LayerEmbeddings(small_cnn(), 8).double()
    added = embeddings(zero_features(small_cnn()))
    by_edge = added.weights[0].unflatten(-1, (4, 8))
    torch.testing.assert_close(by_edge, (embeddings.layers[0] + embeddings.inputs[0]).expand(2, 5, 1, 4, 8))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
def test_gradients_are_those_of_differences(architecture: Architecture) -> None:
    assert_gradients(nft(architecture), random_graph(architecture, batch=2, dtype=torch.float64), step=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
def test_every_parameter_learns(architecture: Architecture) -> None:
    model = nft(architecture)
    assert_every_parameter_learns(model, model(random_graph(architecture, batch=3)).square().sum())


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
def test_networks_are_read_one_by_one(architecture: Architecture) -> None:
    assert_batch_independent(nft(architecture), random_graph(architecture, batch=3, dtype=torch.float64))


def test_dropout_acts_in_training_alone() -> None:
    model = nft(SIREN)
    graph = random_graph(SIREN, batch=2)
    assert torch.equal(model(graph), model(graph))
    assert {m.p for m in model.blocks.modules() if isinstance(m, nn.Dropout)} == {0.1}
    assert {m.p for m in model.head.modules() if isinstance(m, nn.Dropout)} == {0.5}
    model.train()
    assert not torch.equal(model(graph), model(graph))


def test_the_presets_have_the_published_blocks() -> None:
    with torch.device("meta"):
        inr = NFT([siren_architecture(2, (32, 32), 1)], 10, NFT.presets["inr"])
        cnn = NFT([SMALL_ZOO_CNN], 1, NFT.presets["small-cnn"])
    assert len(inr.blocks) == len(cnn.blocks) == 4
    # Per block: qkv, and for each of six tensors two norms and a feed-forward twice as wide.
    block = 257 * 768 + 6 * (4 * 256 + 257 * 512 + 513 * 256)
    head = 7 * 256 * 1000 + 1000 + 1001 * 1000 + 10010
    # Embeddings: weights and biases of three layers, two inputs, one output.
    assert count_parameters(inr) == 4 * block + 6 * 512 + (3 + 3 + 2 + 1) * 256 + head
    assert count_parameters(inr) == 9_933_354
    assert count_parameters(cnn) == 2_954_089


@pytest.mark.parametrize("name", sorted(NFT.presets))
@pytest.mark.parametrize("target", [1_000_000, 3_700_000, 6_000_000])
def test_any_budget_can_be_met(name: str, target: int) -> None:
    architecture = SMALL_ZOO_CNN if name == "small-cnn" else siren_architecture(2, (32, 32), 1)

    def size(factor: float) -> int:
        with torch.device("meta"):
            return count_parameters(NFT([architecture], 10, NFT.presets[name].widened(factor)))

    low, high = 0.1, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    assert min(abs(size(factor) / target - 1) for factor in (low, high)) < 0.05


def test_widening_keeps_heads_whole() -> None:
    wide = NFTConfig(dim=16, num_heads=4, ff_dim=32, head_dim=100).widened(1.3)
    # The square of 1.3 is 20 / 16 times 1.352.
    assert (wide.dim, wide.ff_dim, wide.head_dim, wide.num_heads, wide.num_blocks) == (20, 43, 135, 4, 4)
    assert NFTConfig().widened(1e-4) == NFTConfig(dim=4, ff_dim=1, head_dim=1)
    assert NFTConfig().widened(1.0) == NFTConfig()
    with pytest.raises(UsageError, match=r"dim \(=10\) must be at least 2 and divisible by num_heads \(=4\)"):
        NFTConfig(dim=10, num_heads=4)


def with_norm() -> Architecture:
    first, *rest = small_cnn().timestamps
    return Architecture(1, (replace(first, norm=Norm("batch")), *rest))


@pytest.mark.parametrize(
    ("architectures", "reason"),
    [
        ([residual_cnn(3), residual_cnn(4)], "differ in depth"),
        ([SIREN, siren_architecture(2, (5, 7), 3)], "differ in width"),
        ([residual_cnn(3)], "have residual connections"),
        ([simple_vit(dim=8, depth=1, heads=2, dim_head=4, mlp=12)], "have attention"),
        ([with_norm()], "have norm layers"),
    ],
)
def test_zoos_of_unlike_networks_are_refused(architectures: list[Architecture], reason: str) -> None:
    message = f"nft can't take the zoo: its networks {reason}; the DNG-Encoder"
    with pytest.raises(UsageError, match=message):
        NFT(architectures, 4)


def test_activations_may_differ() -> None:
    tanh = Architecture(1, tuple(replace(t, activation=Activation("tanh")) for t in small_cnn().timestamps))
    assert NFT.refusal([small_cnn(), tanh]) is None
