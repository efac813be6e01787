"""What an encoder of networks must pass, for tests of ours and for those of anybody else's.

`EncoderSuite` is inherited and collected by pytest; the functions below it are its parts. Networks are drawn at random
with weights as small as trained ones have.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from zootool.architecture import Architecture
from zootool.graph import GraphBatch, residuals_of

Output = Tensor | GraphBatch


class EncoderSuite(ABC):
    """Inherit it, say what to build and for which networks: `class TestMine(EncoderSuite)`.

    `build` gives the module in its initial state for networks of `architecture`: from a `GraphBatch` of B networks to
    a tensor (B, ...), or to the networks changed (an editor). What an editor gives must change places with the
    neurons; codes and logits must not. `difference` is what outputs of other networks must differ by at least.
    """

    difference = 1e-6

    @property
    @abstractmethod
    def architectures(self) -> tuple[Architecture, ...]:
        """Small networks, one of each family that the encoder takes."""

    @abstractmethod
    def build(self, architecture: Architecture) -> nn.Module:
        """The encoder, the same at every call."""

    def test_hidden_neurons_may_change_places(self) -> None:
        for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
            for module, graph in self._cases(dtype):
                moved, orders = permute_hidden(graph), random_orders(graph.architecture)
                with torch.no_grad():
                    output, of_moved = module(graph), module(moved)
                wanted = permute_nodes(output, orders) if isinstance(output, GraphBatch) else output
                torch.testing.assert_close(_rows(of_moved), _rows(wanted), rtol=tolerance, atol=tolerance)

    def test_other_networks_give_other_outputs(self) -> None:
        for module, graph in self._cases(torch.float64):
            with torch.no_grad():
                assert_tells_apart(lambda networks, m=module: _rows(m(networks)), graph, self.difference)

    def test_networks_of_a_batch_do_not_see_each_other(self) -> None:
        for module, graph in self._cases(torch.float64):
            assert_batch_independent(module, graph)

    def test_gradients_are_those_of_finite_differences(self) -> None:
        for module, graph in self._cases(torch.float64):
            assert_gradients(module, graph)

    def _cases(self, dtype: torch.dtype) -> list[tuple[nn.Module, GraphBatch]]:
        return [(self.build(a).to(dtype).eval(), random_graph(a, 3, dtype=dtype)) for a in self.architectures]


def random_graph(
    architecture: Architecture, batch: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> GraphBatch:
    """`batch` networks with weights as small as trained ones have."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return (0.2 * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(-1, 1).to(dtype)

    edges = tuple(draw(batch, t.num_nodes, t.num_sources, t.edges_per_pair) for t in architecture.timestamps)
    nodes = tuple(draw(batch, t.num_nodes, 1) * t.has_bias for t in architecture.timestamps)
    return GraphBatch((architecture,), edges, nodes, residuals=residuals_of(architecture))


def permute_nodes(graph: GraphBatch, orders: list[Tensor]) -> GraphBatch:
    """The same networks with the nodes of timestamp t in `orders[t]`."""
    edges = tuple(edge[:, orders[i + 1]][:, :, orders[i]] for i, edge in enumerate(graph.edges))
    nodes = tuple(node[:, orders[i + 1]] for i, node in enumerate(graph.nodes))
    masks = tuple(
        None if mask is None else mask[:, orders[i + 1]][:, :, orders[i]] for i, mask in enumerate(graph.edge_masks)
    )
    return replace(graph, edges=edges, nodes=nodes, edge_masks=masks)


def random_orders(architecture: Architecture, seed: int = 0) -> list[Tensor]:
    """An order of every hidden layer's neurons or channels; layers tied by residuals share theirs, heads stay whole."""
    generator = torch.Generator().manual_seed(seed)
    counts = architecture.node_counts
    orders = [torch.arange(counts[0])]
    heads = torch.arange(1)
    for t, timestamp in enumerate(architecture.timestamps, start=1):
        if t == architecture.num_layers:
            orders.append(torch.arange(counts[t]))
        elif timestamp.kind == "qkv":
            heads = torch.randperm(timestamp.num_heads or 1, generator=generator)
            orders.append(torch.arange(counts[t]).view(3, len(heads), -1)[:, heads].flatten())
        elif not timestamp.traits.has_edges:
            orders.append(torch.arange(counts[t]).view(len(heads), -1)[heads].flatten())
        elif timestamp.residuals:
            orders.append(orders[timestamp.residuals[0].source])
        else:
            orders.append(torch.randperm(counts[t], generator=generator))
    return orders


def permute_hidden(graph: GraphBatch, seed: int = 0) -> GraphBatch:
    """The same networks with the neurons of every hidden layer in another order."""
    return permute_nodes(graph, random_orders(graph.architecture, seed))


def permute_inputs(graph: GraphBatch, seed: int = 0) -> GraphBatch:
    """The networks with their inputs in another order."""
    return permute_nodes(graph, _orders(graph, lambda t, last: t == 0, seed))


def permute_outputs(graph: GraphBatch, seed: int = 0) -> GraphBatch:
    """The networks with their outputs in another order."""
    return permute_nodes(graph, _orders(graph, lambda t, last: t == last, seed))


def permute_uncoupled(graph: GraphBatch, seed: int = 0) -> GraphBatch:
    """Other networks: the neurons of hidden layers change places, but the next layer's edges stay where they were."""
    orders = _orders(graph, lambda t, last: 0 < t < last, seed)
    edges = tuple(edge[:, orders[i + 1]] for i, edge in enumerate(graph.edges))
    nodes = tuple(node[:, orders[i + 1]] for i, node in enumerate(graph.nodes))
    return replace(graph, edges=edges, nodes=nodes)


def shuffle_within_tensors(graph: GraphBatch, seed: int = 0) -> GraphBatch:
    """Other networks: the numbers of every weight and every bias tensor in any order."""
    generator = torch.Generator().manual_seed(seed)

    def shuffled(tensor: Tensor) -> Tensor:
        order = torch.randperm(tensor[0].numel(), generator=generator)
        return tensor.flatten(1)[:, order].view(tensor.shape)

    return graph.map_weights(shuffled)


def assert_tells_apart(function: Callable[[GraphBatch], Tensor], graph: GraphBatch, difference: float) -> None:
    """Networks with inputs, outputs or uncoupled neurons in another order give outputs that differ by more than that.

    Where residual connections or attention tie what is moved uncoupled, that is a change as well.
    """
    outputs = function(graph)
    permutations = [permute_uncoupled, permute_outputs] + [permute_inputs] * (graph.architecture.num_inputs > 1)
    for permute in permutations:
        assert (function(permute(graph)) - outputs).abs().max() > difference, permute.__name__


def assert_every_parameter_learns(module: nn.Module, loss: Tensor) -> None:
    """All parameters have gradients of the loss, none of which is zero everywhere."""
    loss.backward()
    without = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def assert_gradients(module: nn.Module, graph: GraphBatch, directions: int = 3, step: float = 1e-5) -> None:
    """A scalar of the output grows along random directions of all parameters as its gradient says (float64)."""
    module.double().eval()
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    generator = torch.Generator().manual_seed(0)
    outputs = _flat(module(graph))
    weights = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((outputs * weights).sum(), parameters, materialize_grads=True)
    for _ in range(directions):
        direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
        expected = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
        values = []
        for sign in (1, -1):
            _move(parameters, direction, sign * step)
            with torch.no_grad():
                values.append(float((_flat(module(graph)) * weights).sum()))
            _move(parameters, direction, -sign * step)
        measured = (values[0] - values[1]) / (2 * step)
        assert abs(measured - expected) <= 1e-5 * max(1.0, abs(expected)), f"{measured} by differences, not {expected}"


def assert_batch_independent(module: nn.Module, graph: GraphBatch, tolerance: float = 1e-10) -> None:
    """A network's output is the same alone and among others (float64, in evaluation mode)."""
    module.double().eval()
    with torch.no_grad():
        together = _rows(module(graph))
        for index in range(len(graph)):
            alone = _rows(module(graph.map_weights(lambda tensor, i=index: tensor[i : i + 1])))
            torch.testing.assert_close(alone[0], together[index], rtol=0, atol=tolerance)


def assert_equal_graphs(left: GraphBatch, right: GraphBatch, tolerance: float = 1e-9) -> None:
    """All weights and biases agree."""
    for a, b in zip((*left.edges, *left.nodes), (*right.edges, *right.nodes), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def _orders(graph: GraphBatch, chosen: Callable[[int, int], bool], seed: int) -> list[Tensor]:
    # Rolled by one: an order drawn at random may be the one that was there, and test nothing.
    counts, generator = graph.architecture.node_counts, torch.Generator().manual_seed(seed)
    orders = []
    for t, count in enumerate(counts):
        order = torch.arange(count)
        if chosen(t, len(counts) - 1) and count > 1:
            order = torch.randperm(count, generator=generator)
            order = order.roll(1) if bool((order == torch.arange(count)).all()) else order
        orders.append(order)
    return orders


def _move(parameters: list[nn.Parameter], direction: list[Tensor], step: float) -> None:
    with torch.no_grad():
        for parameter, change in zip(parameters, direction, strict=True):
            parameter.add_(change, alpha=step)


def _rows(output: Output) -> Tensor:
    if isinstance(output, Tensor):
        return output.flatten(1)
    return torch.cat([tensor.flatten(1) for tensor in (*output.edges, *output.nodes)], dim=1)


def _flat(output: Output) -> Tensor:
    return _rows(output).flatten()
