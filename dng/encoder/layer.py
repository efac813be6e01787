"""What the DNG-Encoder learns for one timestamp: message function, node input, memory update, normalisation.

The memory update turns messages and the targets' own features into memories (paper, equation 6).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.encoder.config import EncoderConfig
from dng.encoder.features import FourierFeatures, WhileUnchanged
from dng.encoder.message import AttentionMessage, MultiEdgeMessage, SingleEdgeMessage
from zootool.architecture import Architecture, Timestamp


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


EdgeMessage = SingleEdgeMessage | MultiEdgeMessage


class Layer(nn.Module):
    """The parameters of one timestamp, or of all where the encoder shares them.

    `message` sends along the edges. Without `has_update` the messages are the memories; with it the targets' own
    features come in through `node_input`, which is None in the walks that take the memories of the walk before.
    `norm` is the LayerNorm of new memories; `scale` and `shift` stand in for a norm in front of the layer, and
    `source_norm` follows them where the walk has one.
    """

    def __init__(
        self,
        config: EncoderConfig,
        message: EdgeMessage | AttentionMessage,
        node_input: NodeInput | None,
        has_update: bool = True,
        has_norm: bool = True,
    ) -> None:
        super().__init__()
        self.message = message
        self.node_input = node_input
        self.has_update = has_update
        self.norm = nn.LayerNorm(config.dim) if has_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.register_parameter("scale", None)
        self.register_parameter("shift", None)
        self.source_norm: nn.Module = nn.Identity()

    def learn_source_norm(self, dim: int, normalise: bool) -> None:
        """Give the sources a learned scale and shift, both N(0, 1) at first, and perhaps a LayerNorm behind."""
        self.scale, self.shift = nn.Parameter(torch.randn(dim)), nn.Parameter(torch.randn(dim))
        self.source_norm = nn.LayerNorm(dim) if normalise else nn.Identity()

    def enter(self, sources: Tensor) -> Tensor:
        """The sources' memories as the message function takes them."""
        return sources if self.scale is None else self.source_norm(sources * self.scale + self.shift)

    def leave(self, memories: Tensor) -> Tensor:
        """New memories, normalised."""
        return self.dropout(self.norm(memories))


@dataclass(frozen=True)
class LayerSettings:
    """What all layers of one walk are built from; only the first walk reads the nodes' own features."""

    config: EncoderConfig
    feature_dim: int
    num_edges: int
    is_first_walk: bool

    def node_input(self) -> NodeInput | None:
        """The node input of one layer."""
        if not self.is_first_walk:
            return None
        return NodeInput(self.feature_dim, len(self.config.all_node_features), self.config.dim)

    def message(self) -> EdgeMessage:
        """The message function of one layer."""
        if self.num_edges == 1:
            return SingleEdgeMessage(self.feature_dim, self.config.dim)
        config = self.config
        pads_features = config.padding == "features"
        return MultiEdgeMessage(self.feature_dim, config.dim, config.head_dim, self.num_edges, pads_features)


def plain_layer(settings: LayerSettings) -> Layer:
    """The layer of a timestamp of an MLP or CNN, or of all of them."""
    return Layer(settings.config, settings.message(), settings.node_input())


def transformer_layer(settings: LayerSettings, architecture: Architecture, t: int) -> Layer:
    """The layer of timestamp `t` (1..L) of a transformer.

    Queries, keys, values and attention's outputs have no biases and take their messages as memories, unless the norm
    behind them brings features.
    """
    config, timestamp = settings.config, architecture.timestamps[t - 1]
    follows_attention = t > 1 and not architecture.timestamps[t - 2].traits.has_edges
    is_fc2 = bool(timestamp.residuals) and not follows_attention
    follower = architecture.timestamps[t] if t < architecture.num_layers else None
    feeds_norm = config.norms == "features" and follower is not None and follower.source_norm is not None
    has_features = timestamp.has_bias or feeds_norm
    layer = Layer(
        config,
        _attention(config, timestamp) or settings.message(),
        settings.node_input() if has_features else None,
        has_update=has_features,
        has_norm=config.norm_fc2 or not is_fc2,
    )
    if timestamp.source_norm is not None and config.norms == "learned":
        layer.learn_source_norm(config.dim, normalise=t == architecture.num_layers)
    return layer


def _attention(config: EncoderConfig, timestamp: Timestamp) -> AttentionMessage | None:
    if timestamp.traits.has_edges or timestamp.num_heads is None:
        return None
    return AttentionMessage(timestamp.num_nodes // timestamp.num_heads, config.dim, timestamp.num_heads)
