import pytest
import torch

from dng.encoder.config import EncoderConfig
from dng.models.heads import LatentClassifier, count_parameters
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.models.views import six_views, to_unit_range
from dng.testing import permute_hidden, random_graph
from dng.training.seed import seeded
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (8, 8), 1)
TINY = INR2JLSConfig(8, 1, EncoderConfig(dim=12, num_frequencies=4), latent_dim=6, hidden_dim=10, decoder_dim=5)


def build(config: INR2JLSConfig = TINY) -> INR2JLS:
    with seeded(0):
        return INR2JLS(SIREN, config)


@pytest.mark.parametrize(
    ("side", "channels", "total", "encoding"), [(28, 1, 5_017_473, 4_488_832), (32, 3, 6_120_323, 5_583_488)]
)
def test_published_parameter_counts(side: int, channels: int, total: int, encoding: int) -> None:
    model = INR2JLS(siren_architecture(2, (32, 32), channels), INR2JLSConfig(side, channels))
    assert count_parameters(model) == total
    assert count_parameters(model.encoder) + count_parameters(model.generator) == encoding


def test_published_size_with_the_classifier() -> None:
    assert 5_583_488 + count_parameters(LatentClassifier(128, 8, 10)) == 6_670_218


def test_shapes() -> None:
    model = build()
    graph = random_graph(SIREN, batch=3)
    assert model.encode(graph).shape == (3, 6, 6, 2, 2)
    assert model(graph).shape == (3, 6, 1, 8, 8)


def test_the_split_first_layer_is_the_layer_on_the_concatenation() -> None:
    generator = build().generator.double()
    memory = torch.randn(4, 12, dtype=torch.float64)
    count = len(generator.spatial)
    pairs = torch.cat([generator.spatial.expand(4, -1, -1), memory[:, None].expand(-1, count, -1)], dim=-1)
    plain = generator.out(torch.relu(generator.hidden(pairs)))
    expected = plain.view(4, 6, 2, 2, 6).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(generator(memory), expected, rtol=0, atol=1e-12)


def test_permuting_hidden_neurons_changes_no_reconstruction() -> None:
    model = build().double()
    graph = random_graph(SIREN, batch=2, dtype=torch.float64)
    torch.testing.assert_close(model(permute_hidden(graph)), model(graph), rtol=0, atol=1e-12)


def test_the_six_views_in_their_order() -> None:
    image = torch.tensor([[[[1, 2], [3, 4]]]])
    views = six_views(image)[0, :, 0].tolist()
    assert views == [
        [[1, 2], [3, 4]],
        [[2, 1], [4, 3]],
        [[3, 4], [1, 2]],
        [[2, 4], [1, 3]],
        [[3, 1], [4, 2]],
        [[4, 3], [2, 1]],
    ]


def test_pixels_span_minus_one_to_one() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1)
    assert to_unit_range(pixels).flatten().tolist() == [-1.0, 1.0]
    assert to_unit_range(pixels).shape == (1, 1, 1, 2)


def test_views_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        six_views(torch.zeros(1, 1, 2, 3))
    with pytest.raises(ValueError, match="multiple of 4"):
        INR2JLSConfig(30, 1)
    with pytest.raises(UsageError, match="1 output channels, the images 3"):
        INR2JLS(SIREN, INR2JLSConfig(8, 3))


@pytest.mark.parametrize("side", [2, 7, 8])
def test_the_classifier_sums_the_views_logits(side: int) -> None:
    with seeded(0):
        classifier = LatentClassifier(6, side, 5, dim=16).eval()
        latents = torch.randn(3, 6, 6, side, side)
    logits = classifier(latents)
    assert logits.shape == (3, 6, 5)
    assert torch.equal(classifier.predict(latents), logits.sum(1).argmax(-1))
    # Every view goes through alone: another view's latents don't matter.
    torch.testing.assert_close(classifier(latents[:, 2:3]), logits[:, 2:3])


def test_the_label_counts_once_per_view() -> None:
    with seeded(0):
        classifier = LatentClassifier(6, 2, 5, dim=16).eval()
        latents = torch.randn(2, 6, 6, 2, 2)
    labels = torch.tensor([1, 4])
    log_probabilities = classifier(latents).log_softmax(-1)
    expected = -(log_probabilities[0, :, 1].sum() + log_probabilities[1, :, 4].sum()) / 12
    torch.testing.assert_close(classifier.loss(latents, labels), expected)
