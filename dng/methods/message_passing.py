"""Message passing with two-layer MLPs, on a static and on a dynamic neural graph (paper, sections 3.2 and 7).

On the static graph every node hears its sources in every round, and all rounds see the same nodes and edges. On the
dynamic graph a layer's nodes are updated once, at their own timestamp, from sources that are done. Both take the same
functions phi_m and phi_u. A network is given as its layers: `nodes[l]` holds the node vectors of layer l = 0..L and
`edges[l-1]` the edge vectors from layer l-1 to layer l, targets before sources.

Leading axes broadcast. What doesn't depend on a network's input (biases, weights) may have size 1 where the inputs
have many, and stays that small until a message brings an input in.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

Nodes = Sequence[Float[Tensor, "*#batch _nodes _dim"]]
Edges = Sequence[Float[Tensor, "*#batch _targets _sources _dim"]]
Message = Callable[[Tensor, Tensor], Tensor]
"""(sources, edges) -> the messages to the targets, summed over the sources."""
Update = Callable[[Tensor, Tensor], Tensor]
"""(targets, messages) -> the updated targets."""


def message_round(nodes: Nodes, edges: Edges, message: Message, update: Update) -> list[Tensor]:
    """One round on the static graph: all nodes at once, from what they were before (paper, equation 2).

    The inputs have no sources and hear zeros.
    """
    updated = [update(nodes[0], torch.zeros_like(nodes[0]))]
    for sources, targets, edge in zip(nodes, nodes[1:], edges, strict=False):
        updated.append(update(targets, message(sources, edge)))
    return updated


def dynamic_walk(nodes: Nodes, edges: Edges, messages: Sequence[Message], update: Update) -> list[Tensor]:
    """A walk over the dynamic graph: at t = l the nodes of layer l hear the updated nodes of layer l-1."""
    states = [nodes[0]]
    for targets, edge, message in zip(nodes[1:], edges, messages, strict=True):
        states.append(update(targets, message(states[-1], edge)))
    return states


class StaticMessagePassing(nn.Module):
    """Rounds of message passing with weights of their own, and between them a residual update of the edges.

    e_ij += phi_e([e_ij, v_i, v_j]) reads both ends after the round's node update, as the neural graphs of Kofinas et
    al. (2024) do. Behind the last round nothing would read the edges, so they are left alone.
    """

    def __init__(self, dim: int, hidden_dim: int, num_rounds: int) -> None:
        super().__init__()
        self.messages = nn.ModuleList(PairMessage(dim, hidden_dim) for _ in range(num_rounds))
        self.updates = nn.ModuleList(ConcatMLP((dim, dim), hidden_dim, dim) for _ in range(num_rounds))
        self.edge_updates = nn.ModuleList(EdgeUpdate(dim, hidden_dim) for _ in range(num_rounds - 1))

    def forward(self, nodes: Nodes, edges: Edges) -> list[list[Tensor]]:
        """The nodes of every layer after every round: `[k][l]` for rounds k = 0..K-1 and layers l = 0..L."""
        rounds = [message_round(nodes, edges, self.messages[0], self.updates[0])]
        for message, update, edge_update in zip(self.messages[1:], self.updates[1:], self.edge_updates, strict=True):
            last = rounds[-1]
            edges = [edge_update(*ends) for ends in zip(edges, last[1:], last, strict=False)]
            rounds.append(message_round(last, edges, message, update))
        return rounds


class DynamicMessagePassing(nn.Module):
    """A walk with a phi_m per timestamp and one phi_u for all."""

    def __init__(self, dim: int, hidden_dim: int, num_layers: int) -> None:
        super().__init__()
        self.messages = nn.ModuleList(PairMessage(dim, hidden_dim) for _ in range(num_layers))
        self.update = ConcatMLP((dim, dim), hidden_dim, dim)

    def forward(self, nodes: Nodes, edges: Edges) -> list[Tensor]:
        """The nodes of layers 0..L, each at its own timestamp; the inputs as they were given."""
        return dynamic_walk(nodes, edges, list(self.messages), self.update)


class ConcatMLP(nn.Module):
    """Linear-ReLU-Linear of a concatenation, the first layer computed part by part so that parts may broadcast."""

    def __init__(self, in_dims: Sequence[int], hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dims = tuple(in_dims)
        self.first = nn.Linear(sum(in_dims), hidden_dim)
        self.out = nn.Linear(hidden_dim, out_dim)

    def forward(self, *parts: Float[Tensor, "*#shape _in_dim"]) -> Float[Tensor, "*#shape out"]:
        return self.out(self.hidden(*parts))

    def hidden(self, *parts: Float[Tensor, "*#shape _in_dim"]) -> Float[Tensor, "*#shape hidden"]:
        """The hidden layer's activations."""
        weights = self.first.weight.split(self.in_dims, dim=1)
        total = nn.functional.linear(parts[0], weights[0], self.first.bias)
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            total = total + nn.functional.linear(part, weight)
        return total.relu_()


class PairMessage(nn.Module):
    """m_i = sum_j phi_m([v_j, e_ij]), with phi_m a two-layer ReLU MLP."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.mlp = ConcatMLP((dim, dim), hidden_dim, dim)

    def forward(
        self, sources: Float[Tensor, "*#batch sources dim"], edges: Float[Tensor, "*#batch targets sources dim"]
    ) -> Float[Tensor, "*#batch targets dim"]:
        # phi_m ends in a linear map, which may as well be applied to the sum: once per target, not once per edge.
        total = self.mlp.hidden(sources[..., None, :, :], edges).sum(dim=-2)
        return nn.functional.linear(total, self.mlp.out.weight, edges.shape[-2] * self.mlp.out.bias)


class EdgeUpdate(nn.Module):
    """e_ij + phi_e([e_ij, v_i, v_j]), with phi_e a two-layer ReLU MLP of an edge and both of its ends."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.mlp = ConcatMLP((dim, dim, dim), hidden_dim, dim)

    def forward(
        self,
        edges: Float[Tensor, "*#batch targets sources dim"],
        targets: Float[Tensor, "*#batch targets dim"],
        sources: Float[Tensor, "*#batch sources dim"],
    ) -> Float[Tensor, "*#batch targets sources dim"]:
        return edges + self.mlp(edges, targets[..., :, None, :], sources[..., None, :, :])
