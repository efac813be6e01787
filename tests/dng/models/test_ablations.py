import pytest
import torch

from dng.encoder.config import EncoderConfig
from dng.models.ablations import MemoryDecoder, ReconstructionConfig, WeightDecoder, render_mlps
from dng.models.heads import CodeClassifier, LatentClassifier, count_parameters
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.models.model import Representation
from dng.testing import permute_hidden, random_graph
from dng.training.seed import seeded
from tests.dng.graphs import small_cnn
from tests.zootool.nets.modules import Siren
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (8, 8), 3, omega_0=5.0, output_offset=0.25)
ENCODER = EncoderConfig(dim=12, num_frequencies=4)
CONFIG = ReconstructionConfig(8, 3, ENCODER, hidden_dim=16, latent_dim=10, generator_dim=14)


@pytest.mark.parametrize("kind", [MemoryDecoder, WeightDecoder])
def test_codes_and_images_have_their_shapes(kind: type[Representation]) -> None:
    with seeded(0):
        model = kind(SIREN, CONFIG)
    graph = random_graph(SIREN, batch=4)
    assert model.encode(graph).shape == (4, 36 if kind is MemoryDecoder else 10)
    assert model.reconstruct(graph).shape == (4, 3, 8, 8)


@pytest.mark.parametrize("kind", [MemoryDecoder, WeightDecoder])
def test_permuting_hidden_neurons_changes_no_code_or_image(kind: type[Representation]) -> None:
    with seeded(0):
        model = kind(SIREN, CONFIG).double()
    graph = random_graph(SIREN, batch=2, dtype=torch.float64)
    moved = permute_hidden(graph)
    torch.testing.assert_close(model.encode(moved), model.encode(graph), rtol=0, atol=1e-11)
    torch.testing.assert_close(model.reconstruct(moved), model.reconstruct(graph), rtol=0, atol=1e-9)


def test_rendered_weights_are_what_the_network_computes() -> None:
    sirens = [Siren(2, (8, 8), 3, omega_0=5.0, output_offset=0.25) for _ in range(2)]
    states = [list(siren.state_dict().values()) for siren in sirens]
    weights = torch.stack([torch.cat([w.flatten() for w in state[::2]]) for state in states])
    biases = torch.stack([torch.cat(state[1::2]) for state in states])
    axis = torch.linspace(-1, 1, 6)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    expected = torch.stack([siren(grid).permute(2, 0, 1) for siren in sirens])
    torch.testing.assert_close(render_mlps(SIREN, weights, biases, side=6), expected, rtol=0, atol=1e-5)


def test_the_weight_decoders_loss_reaches_both_decoders_through_the_rendering() -> None:
    with seeded(0):
        model = WeightDecoder(SIREN, CONFIG)
    model.loss(random_graph(SIREN, batch=2), torch.zeros(2, 3, 8, 8)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_memory_decoder_decodes_each_channel_from_its_own_memory() -> None:
    with seeded(0):
        model = MemoryDecoder(SIREN, CONFIG)
    memories = model.encoder(random_graph(SIREN, batch=2))
    expected = model.decoder(memories[:, 1]).view(2, 8, 8)
    torch.testing.assert_close(model.reconstruct(random_graph(SIREN, batch=2))[:, 1], expected)


def test_what_cannot_be_rendered_is_refused() -> None:
    with pytest.raises(UsageError, match="conv layer"):
        WeightDecoder(small_cnn(), ReconstructionConfig(8, 3, ENCODER))
    with pytest.raises(UsageError, match="3 output channels, the images 1"):
        MemoryDecoder(SIREN, ReconstructionConfig(8, 1, ENCODER))


def test_noise_is_added_in_training_only_and_stays_in_range() -> None:
    grey = siren_architecture(2, (4,), 1)
    model = INR2JLS(grey, INR2JLSConfig(8, 1, ENCODER, num_views=1, noise=0.06))
    images = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    assert torch.equal(model.eval().target_views(images)[:, 0], images)
    with seeded(0):
        noisy = model.train().target_views(images.expand(2000, -1, -1, -1))[:, 0]
    assert noisy.abs().max() <= 1
    middle = noisy[..., 3:5, :] - images[..., 3:5, :]
    # 0.06 in [0, 1] is 0.12 in [-1, 1].
    assert middle.std().item() == pytest.approx(0.12, rel=0.02)


def test_the_joint_classifier_sees_all_views_at_once() -> None:
    with seeded(0):
        joint = LatentClassifier(4, 2, 5, dim=16, joint_views=6).eval()
        latents = torch.randn(3, 6, 4, 2, 2)
    assert joint(latents).shape == (3, 1, 5)
    first = joint.blocks[0]
    assert isinstance(first, torch.nn.Conv2d)
    assert first.in_channels == 24
    assert joint.predict(latents).shape == (3,)


def test_the_code_classifiers_size() -> None:
    assert count_parameters(CodeClassifier(36, 10)) == 36 * 256 + 256 + 256 * 256 + 256 + 2570
