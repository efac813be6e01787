"""The memory update: how a target turns its message and its own feature into a memory (paper, equation 6)."""

from jaxtyping import Float
from torch import Tensor, nn


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
        self, node_inputs: Float[Tensor, "batch targets dim"], messages: Float[Tensor, "batch targets dim"]
    ) -> Float[Tensor, "batch targets dim"]:
        memory = self.cell(node_inputs.flatten(0, 1), messages.flatten(0, 1))
        return memory.view(messages.shape)
