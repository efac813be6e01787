import torch

from dng.encoder.config import EncoderConfig
from dng.encoder.dng_encoder import DNGEncoder
from dng.encoder.trace import events, trace
from dng.training.seed import seeded
from tests.dng.graphs import random_graph, residual_cnn, simple_vit
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (4, 5), 3)


def test_events_of_an_mlp_are_those_of_equation_3() -> None:
    first, second, third = events(SIREN)
    assert (first.nodes_added, first.nodes_deleted) == ((1,), ())
    assert (first.edges_added, first.edges_deleted) == ((1,), ())
    assert (second.nodes_added, second.nodes_deleted) == ((2,), (0,))
    assert (second.edges_added, second.edges_deleted) == ((2,), (1,))
    assert (third.nodes_added, third.nodes_deleted) == ((3,), (1,))
    assert [event.snapshot for event in (first, second, third)] == [(0, 1), (1, 2), (2, 3)]
    assert [(event.num_nodes, event.num_edges) for event in (first, second, third)] == [(4, 8), (5, 20), (3, 15)]


def test_a_residual_adds_its_source_again() -> None:
    third = events(residual_cnn(depth=3))[2]
    assert third.snapshot == (1, 2, 3)
    fourth = events(residual_cnn(depth=4))[3]
    # Layer 1 was deleted before; layer 2 comes back for the second residual.
    assert fourth.nodes_added == (4,)
    assert fourth.nodes_deleted == (1,)
    assert fourth.snapshot == (2, 3, 4)


def test_a_vit_of_two_blocks_has_twelve_events() -> None:
    walk = events(simple_vit())
    assert len(walk) == 12
    assert walk[3].nodes_added == (1, 4)
    assert sum(event.num_edges for event in walk) == 26_432


def test_the_trace_ends_with_the_encoders_output() -> None:
    with seeded(0):
        encoder = DNGEncoder(SIREN, EncoderConfig(dim=6, num_frequencies=3))
    graph = random_graph(SIREN, batch=2)
    walk = trace(encoder, graph)
    assert [tuple(step.memory.shape) for step in walk] == [(2, 4, 6), (2, 5, 6), (2, 3, 6)]
    assert torch.equal(walk[-1].memory, encoder(graph))
