"""The memory update: how a target turns its message and its own feature into a memory (paper, equation 6)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.features import FourierFeatures


class GRUUpdate(nn.Module):
    """s_i = GRU(input = C g(b_i), hidden = m_i), one GRU for all timestamps.

    The message is the hidden state and the node feature the input: s = (1 - z) n + z m. The paper's text names the
    arguments the other way round; this order is the one behind its numbers (method, section 3).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        # torch starts every GRU weight uniformly in +-1/sqrt(dim), which is what the method asks for.
        self.cell = nn.GRUCell(dim, dim)

    def forward(
        self,
        features: FourierFeatures,
        node_input: nn.Linear,
        biases: Float[Tensor, "batch targets"],
        messages: Float[Tensor, "batch targets dim"],
    ) -> Float[Tensor, "batch targets dim"]:
        if not features.can_expand(biases):
            return self.update(node_input(features(biases)), messages)
        # The GRU's input map is linear in C g(b), and so in the few polynomials of b: composed, one small product.
        weight = self.cell.weight_ih @ features.expanded_weight(node_input)
        from_nodes = features.basis(biases).flatten(1).T @ weight.T + self.cell.bias_ih
        hidden = messages.flatten(0, 1)
        from_hidden = torch.addmm(self.cell.bias_hh, hidden, self.cell.weight_hh.T)
        return _gru(from_nodes, from_hidden, hidden).view_as(messages)

    def update(
        self, node_inputs: Float[Tensor, "batch targets dim"], messages: Float[Tensor, "batch targets dim"]
    ) -> Float[Tensor, "batch targets dim"]:
        """The GRU as it is written, for node inputs of the memories' width."""
        return self.cell(node_inputs.flatten(0, 1), messages.flatten(0, 1)).view_as(messages)


def _gru(from_input: Tensor, from_hidden: Tensor, hidden: Tensor) -> Tensor:
    """A GRU's step from its two products, with torch's order of the gates: reset, update, new."""
    input_reset, input_update, input_new = from_input.chunk(3, dim=1)
    hidden_reset, hidden_update, hidden_new = from_hidden.chunk(3, dim=1)
    reset = torch.sigmoid(input_reset + hidden_reset)
    update = torch.sigmoid(input_update + hidden_update)
    new = torch.tanh(torch.addcmul(input_new, reset, hidden_new))
    return torch.lerp(new, hidden, update)
