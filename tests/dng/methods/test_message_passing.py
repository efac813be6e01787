from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from dng.methods.message_passing import (
    ConcatMLP,
    DynamicMessagePassing,
    EdgeUpdate,
    PairMessage,
    StaticMessagePassing,
    dynamic_walk,
    message_round,
)
from dng.testing import assert_every_parameter_learns
from dng.training.seed import seeded

DIM, COUNTS = 4, (2, 5, 3)


def random_network(batch: tuple[int, ...] = (2,), dtype: torch.dtype = torch.float64) -> tuple[list, list]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, DIM, generator=generator, dtype=torch.float64).to(dtype)

    nodes = [draw(count) for count in COUNTS]
    return nodes, [draw(targets, sources) for sources, targets in pairwise(COUNTS)]


def build(kind: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    with seeded(0, kind):
        network = StaticMessagePassing(DIM, 6, num_rounds=2) if kind == "static" else DynamicMessagePassing(DIM, 6, 2)
    return network.to(dtype)


def last_layers(network: nn.Module, nodes: list[Tensor], edges: list[Tensor]) -> list[Tensor]:
    found = network(nodes, edges)
    return found[-1] if isinstance(found[-1], list) else found


@pytest.mark.parametrize("x", [0.0, 4.0, -2.5])
def test_static_rounds_add_w2_b1_once_more_and_the_dynamic_walk_does_not(x: float) -> None:
    # The paper's scalar example: w1 = 3, b1 = 2, w2 = 5, b2 = 1, and functions that are exact: w v, then addition.
    nodes = [torch.full((1, 1), value) for value in (x, 2.0, 1.0)]
    edges = [torch.full((1, 1, 1), value) for value in (3.0, 5.0)]

    def message(sources: Tensor, edges: Tensor) -> Tensor:
        return (edges * sources).sum(dim=-2)

    first = message_round(nodes, edges, message, torch.add)
    assert first[1].item() == 2 + 3 * x
    assert first[2].item() == 11
    second = message_round(first, edges, message, torch.add)
    forward_pass = 1 + 5 * (2 + 3 * x)
    assert second[2].item() == forward_pass + 10
    assert dynamic_walk(nodes, edges, [message, message], torch.add)[2].item() == forward_pass


def test_a_message_is_the_sum_of_an_mlp_over_the_sources() -> None:
    message = PairMessage(DIM, 6).double()
    (nodes, edges), mlp = random_network(), message.mlp
    found = message(nodes[0], edges[0])
    assert found.shape == (2, 5, DIM)
    for target in range(5):
        pairs = [torch.cat([nodes[0][:, source], edges[0][:, target, source]], dim=-1) for source in range(2)]
        expected = sum(mlp.out(torch.relu(mlp.first(pair))) for pair in pairs)
        torch.testing.assert_close(found[:, target], expected, rtol=0, atol=1e-12)


def test_an_edge_is_moved_by_an_mlp_of_itself_and_both_ends() -> None:
    update = EdgeUpdate(DIM, 6).double()
    (nodes, edges), mlp = random_network(), update.mlp
    found = update(edges[1], nodes[2], nodes[1])
    for target, source in [(0, 0), (2, 4)]:
        ends = torch.cat([edges[1][:, target, source], nodes[2][:, target], nodes[1][:, source]], dim=-1)
        expected = edges[1][:, target, source] + mlp.out(torch.relu(mlp.first(ends)))
        torch.testing.assert_close(found[:, target, source], expected, rtol=0, atol=1e-12)


def test_two_rounds_with_an_edge_update_between_them() -> None:
    network = StaticMessagePassing(DIM, 6, num_rounds=2).double()
    nodes, edges = random_network()
    first, second = network(nodes, edges)
    # The edges read their ends as the first round left them.
    moved = [network.edge_updates[0](edges[i], first[i + 1], first[i]) for i in range(2)]
    for layer in (1, 2):
        heard = network.messages[0](nodes[layer - 1], edges[layer - 1])
        torch.testing.assert_close(first[layer], network.updates[0](nodes[layer], heard))
        heard = network.messages[1](first[layer - 1], moved[layer - 1])
        torch.testing.assert_close(second[layer], network.updates[1](first[layer], heard))
    torch.testing.assert_close(second[0], network.updates[1](first[0], torch.zeros_like(first[0])))


def test_parts_broadcast_as_if_they_had_been_expanded() -> None:
    mlp = ConcatMLP((3, 2), 5, 4).double()
    wide, narrow = torch.randn(7, 6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    whole = torch.cat([wide, narrow.expand(7, -1, -1)], dim=-1)
    torch.testing.assert_close(mlp(wide, narrow), mlp.out(torch.relu(mlp.first(whole))), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_what_does_not_depend_on_the_inputs_may_stay_small(kind: str) -> None:
    network = build(kind)
    nodes, edges = random_network(batch=(2, 1))
    nodes[0] = torch.randn(2, 3, COUNTS[0], DIM, dtype=torch.float64)
    found = last_layers(network, nodes, edges)
    expanded = [edge.expand(2, 3, -1, -1, -1) for edge in edges]
    expected = last_layers(network, [node.expand(2, 3, -1, -1) for node in nodes], expanded)
    assert found[2].shape == (2, 3, COUNTS[2], DIM)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_permuting_hidden_nodes_permutes_their_states_alone(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    network = build(kind, dtype)
    nodes, edges = random_network(dtype=dtype)
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = last_layers(
        network, [nodes[0], nodes[1][:, order], nodes[2]], [edges[0][:, order], edges[1][:, :, order]]
    )
    expected = last_layers(network, nodes, edges)
    expected[1] = expected[1][:, order]
    for one, other in zip(permuted, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    network = build(kind)
    assert_every_parameter_learns(network, last_layers(network, *random_network())[-1].square().mean())


def test_an_input_travels_one_layer_per_round_and_the_whole_way_in_a_walk() -> None:
    nodes, edges = random_network()
    changed = [nodes[0] + 1, *nodes[1:]]
    static, dynamic = build("static"), build("dynamic")
    before, after = static(nodes, edges), static(changed, edges)
    assert not torch.equal(before[0][1], after[0][1])
    assert torch.equal(before[0][2], after[0][2])
    assert not torch.equal(before[1][2], after[1][2])
    assert not torch.equal(dynamic(nodes, edges)[2], dynamic(changed, edges)[2])
