import torch

from dng.encoder.config import EncoderConfig
from dng.methods.dynamic_graph import DNG, DNGConfig
from dng.testing import permute_hidden, random_graph
from dng.training.seed import seeded
from tests.dng.graphs import small_cnn
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

ENCODER = EncoderConfig(dim=16, num_frequencies=8, head_dim=4)


def overfit(model: DNG, graph: GraphBatch, targets: torch.Tensor, steps: int = 60) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = model.loss(graph, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_classifier_can_tell_eight_networks_apart() -> None:
    architecture = siren_architecture(2, (8, 8), 1)
    with seeded(0):
        model = DNG([architecture], 4, DNGConfig(ENCODER, 32, 0.0))
    graph, labels = random_graph(architecture, batch=8), torch.arange(8) % 4
    losses = overfit(model, graph, labels)
    assert losses[-1] < 0.1 < losses[0]
    assert torch.equal(model.predict(graph), labels)
    assert torch.equal(model.predict(permute_hidden(graph)), labels)


def test_a_predictor_learns_accuracies_and_stays_in_their_range() -> None:
    architecture = small_cnn()
    with seeded(0):
        model = DNG([architecture], 1, DNGConfig(ENCODER, 32, 0.0))
    model.predicts = "accuracy"
    graph, accuracies = random_graph(architecture, batch=6), torch.tensor([0.1, 0.9, 0.5, 0.3, 0.7, 0.2])
    overfit(model, graph, accuracies, steps=150)
    predicted = model.predict(graph)
    assert (predicted - accuracies).abs().max() < 0.05
    assert ((predicted > 0) & (predicted < 1)).all()
