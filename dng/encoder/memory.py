"""The memory update: how targets turn their messages and their own features into memories (paper, equation 6)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.encoder.features import FourierFeatures
from dng.encoder.unchanged import WhileUnchanged


class GRUUpdate(nn.Module):
    """s = GRU(input = C g(b), hidden = m), one GRU for all timestamps.

    The message is the hidden state and the node feature the input: s = (1 - z) n + z m. The paper's text names the
    arguments the other way round; this order is the one behind its numbers (method, section 3).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        # torch starts every GRU weight uniformly in +-1/sqrt(dim), which is what the method asks for.
        self.cell = nn.GRUCell(dim, dim)

    def forward(
        self, node_inputs: Float[Tensor, "*shape dim"], messages: Float[Tensor, "*shape dim"]
    ) -> Float[Tensor, "*shape dim"]:
        memory = self.cell(node_inputs.reshape(-1, node_inputs.shape[-1]), messages.reshape(-1, messages.shape[-1]))
        return memory.view(messages.shape)

    def from_gates(
        self, gate_inputs: Float[Tensor, "*shape gates"], messages: Float[Tensor, "*shape dim"]
    ) -> Float[Tensor, "*shape dim"]:
        """The same step where the input's part of the gates, W_ih x + b_ih, is known already."""
        from_hidden = nn.functional.linear(messages, self.cell.weight_hh, self.cell.bias_hh)
        input_reset, input_update, input_new = gate_inputs.chunk(3, dim=-1)
        hidden_reset, hidden_update, hidden_new = from_hidden.chunk(3, dim=-1)
        reset = torch.sigmoid(input_reset + hidden_reset)
        update = torch.sigmoid(input_update + hidden_update)
        new = torch.tanh(torch.addcmul(input_new, reset, hidden_new))
        return torch.lerp(new, messages, update)


class NodeInput(nn.Module):
    """C (g(b) + e): what a node's own scalars, and an embedding e of its layer, bring to the update.

    `num_scalars` scalars per node, side by side in the order of the encoder's `node_features`.
    """

    def __init__(self, feature_dim: int, num_scalars: int, dim: int) -> None:
        super().__init__()
        self.num_scalars = num_scalars
        self.linear = nn.Linear(num_scalars * feature_dim, dim)
        self._gates = WhileUnchanged()

    def forward(
        self,
        update: GRUUpdate,
        features: FourierFeatures,
        scalars: Float[Tensor, "*shape scalars"],
        embedding: Tensor | None,
        messages: Float[Tensor, "*shape dim"],
    ) -> Float[Tensor, "*shape dim"]:
        """The memories. `embedding` broadcasts against (*shape, scalars x features)."""
        if not features.can_expand(scalars):
            vectors = features(scalars).flatten(-2)
            return update(self.linear(vectors if embedding is None else vectors + embedding), messages)
        # The GRU's input map is linear in C g(b), and so in a few polynomials of b: composed, one small product.
        gates_of = update.cell.weight_ih
        basis = features.basis(scalars.flatten(0, -2).T).transpose(0, 1).flatten(0, 1)
        weight = features.expanded_weight(self.linear, self._gates, self.num_scalars, then=gates_of)
        gates = (basis.T @ weight.T + update.cell.bias_ih).view(*scalars.shape[:-1], -1)
        if embedding is not None:
            gates = gates + embedding @ (gates_of @ self.linear.weight).T
        return update.from_gates(gates, messages)
