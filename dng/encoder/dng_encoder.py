"""The DNG-Encoder: a walk over a dynamic neural graph, one memory update per timestamp (paper, section 5).

Deviations from the paper's text, all settled by the runs behind its tables: the message is the GRU's hidden state
(see `dng.encoder.layer`); each timestamp has a LayerNorm of its own while all share one GRU; residual connections add
to the target's updated memory instead of sending a message (`EncoderConfig.residual`).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.encoder.config import EncoderConfig, check_graph, check_settings, is_transformer
from dng.encoder.features import FourierFeatures
from dng.encoder.layer import GRUUpdate, Layer, LayerSettings, plain_layer, transformer_layer
from dng.encoder.message import AttentionMessage
from zootool.architecture import Architecture
from zootool.graph import BatchResidual, GraphBatch

KnownOfNodes = Sequence[Float[Tensor, "batch _targets node_dim"]] | None


class DNGEncoder(nn.Module):
    """Encodes networks into the memories of their output nodes, (B, n_L, d).

    The inputs' memories are learnable vectors. At timestamp t the sources send messages along the edges, and the
    targets update their memories from them and from their own features. `architecture` is the one family that the
    encoder is for, or with `config.shared` any with the same inputs and outputs as those it will see.
    """

    def __init__(self, architecture: Architecture, config: EncoderConfig) -> None:
        super().__init__()
        check_settings(architecture, config)
        self.architecture = architecture
        self.config = config
        self.num_edges = config.max_edges or max(architecture.edges_per_pair)
        self.inputs = nn.Parameter(torch.randn(architecture.num_inputs, config.dim))
        self.features = FourierFeatures(config.num_frequencies, config.sigma, config.expansion_range)
        settings = LayerSettings(config, self.features.out_dim, self.num_edges, is_first_walk=True)
        later = replace(settings, is_first_walk=False)
        walks = [settings] + [later] * (config.rnn_layers - 1)
        self.walks = nn.ModuleList(Walk(architecture, walk) for walk in walks)

    @property
    def out_dim(self) -> int:
        """n_L d, the width of a flattened output."""
        return self.architecture.node_counts[-1] * self.config.dim

    @property
    def node_dim(self) -> int:
        """The width of a node's features, the Fourier features of all its scalars."""
        return self.features.out_dim * len(self.config.all_node_features)

    def forward(self, graph: GraphBatch, known: KnownOfNodes = None) -> Float[Tensor, "batch outputs dim"]:
        return self.memories(graph, known)[-1]

    def memories(self, graph: GraphBatch, known: KnownOfNodes = None) -> list[Float[Tensor, "batch _nodes dim"]]:
        """The memories of all nodes: of the inputs, then of each timestamp 1..L.

        `known` is what else is known of the nodes of timestamps 1..L, (B, n_t, node_dim) each: it is added to their
        features in the first walk.
        """
        self.check(graph)
        inputs = self.inputs.expand(len(graph), -1, -1)
        memories: list[Tensor] | None = None
        for walk in self.walks:
            memories = walk(self.features, graph, inputs, memories, known)
        assert memories is not None, "a config has at least one walk"
        return memories

    def check(self, graph: GraphBatch) -> None:
        """Raise UsageError where `graph` holds networks that this encoder wasn't built for."""
        check_graph(self.architecture, self.config, self.num_edges, graph)


class Walk(nn.Module):
    """One pass over the timestamps, with the weights that belong to it."""

    def __init__(self, architecture: Architecture, settings: LayerSettings) -> None:
        super().__init__()
        self.config = config = settings.config
        self.layers = nn.ModuleList(_layers(architecture, settings))
        self.update = GRUUpdate(config.dim)
        node_dim = settings.feature_dim * len(config.all_node_features)
        reads_nodes = settings.is_first_walk
        self.activations = _table(len(config.activations), node_dim) if reads_nodes else None
        self.positions = _table(architecture.num_layers, node_dim) if reads_nodes and config.positional else None
        has_residuals = config.shared or any(t.residuals for t in architecture.timestamps)
        self.residual = nn.Linear(config.dim, config.dim) if has_residuals and config.residual == "linear" else None
        is_message = has_residuals and config.residual == "message"
        self.residual_feature = nn.Parameter(torch.randn(settings.feature_dim)) if is_message else None

    def forward(
        self,
        features: FourierFeatures,
        graph: GraphBatch,
        inputs: Tensor,
        before: list[Tensor] | None,
        known: KnownOfNodes = None,
    ) -> list[Tensor]:
        memories = [inputs]
        for t in range(1, graph.architecture.num_layers + 1):
            own = None if before is None else before[t]
            memories.append(self._step(features, graph, memories, t, own, None if known is None else known[t - 1]))
        return memories

    def layer(self, t: int) -> Layer:
        """The layer of timestamp `t`."""
        found = self.layers[0 if self.config.shared else t - 1]
        assert isinstance(found, Layer)
        return found

    def embedding(self, graph: GraphBatch, t: int) -> Tensor | None:
        """What is added to the node features of timestamp `t`: (node_dim,), or (B, 1, node_dim) where it differs."""
        parts = []
        if self.activations is not None:
            rows = [self._row(architecture, t) for architecture in graph.architectures]
            # The last row is that of layers without an activation and without an embedding of that.
            table = torch.cat([self.activations, torch.zeros_like(self.activations[:1])])
            parts.append(table[rows[0]] if len(rows) == 1 else _by_network(graph, table[rows]))
        if self.positions is not None:
            parts.append(self.positions[t - 1])
        return sum(parts[1:], parts[0]) if parts else None

    def _row(self, architecture: Architecture, t: int) -> int:
        """The row of the activation of timestamp `t`, -1 where it has none."""
        names, last = self.config.activations, architecture.num_layers
        name = architecture.timestamps[t - 1].activation.name
        if self.config.output_activation == "network" and name == "none" and 1 < t == last:
            name = architecture.timestamps[t - 2].activation.name
        return names.index(name) if name in names else -1

    def _step(
        self,
        features: FourierFeatures,
        graph: GraphBatch,
        memories: list[Tensor],
        t: int,
        before: Tensor | None,
        known: Tensor | None,
    ) -> Tensor:
        layer = self.layer(t)
        messages = self._messages(features, graph, memories, t)
        if not layer.has_update:
            memory = messages
        elif layer.node_input is None:
            assert before is not None, "only walks behind the first one have no node inputs"
            memory = self.update(before, messages)
        else:
            scalars = node_scalars(graph, t, self.config.all_node_features)
            embedding = self.embedding(graph, t)
            if known is not None:
                embedding = known if embedding is None else embedding + known
            memory = layer.node_input(self.update, features, scalars, embedding, messages)
        return self._add_residuals(layer.leave(memory), graph, memories, t)

    def _messages(self, features: FourierFeatures, graph: GraphBatch, memories: list[Tensor], t: int) -> Tensor:
        layer = self.layer(t)
        message, sources = layer.message, layer.enter(memories[t - 1])
        if isinstance(message, AttentionMessage):
            return message(sources)
        messages = message(features, graph.edges[t - 1], sources, graph.mask(t))
        if self.residual_feature is None:
            return messages
        for edges in graph.residuals_into(t):
            feature = self.residual_feature * (t - edges.residual.source)
            sent = message.along_feature(feature, memories[edges.residual.source])
            messages = _add_shifted(messages, sent, edges)
        return messages

    def _add_residuals(self, memory: Tensor, graph: GraphBatch, memories: list[Tensor], t: int) -> Tensor:
        if self.residual_feature is not None:
            return memory
        for edges in graph.residuals_into(t):
            source = memories[edges.residual.source]
            memory = _add_shifted(memory, source if self.residual is None else self.residual(source), edges)
        return memory


def _layers(architecture: Architecture, settings: LayerSettings) -> list[Layer]:
    if settings.config.shared:
        return [plain_layer(settings)]
    timestamps = range(1, architecture.num_layers + 1)
    if is_transformer(architecture):
        return [transformer_layer(settings, architecture, t) for t in timestamps]
    return [plain_layer(settings) for _ in timestamps]


def _by_network(graph: GraphBatch, by_architecture: Float[Tensor, "architectures dim"]) -> Float[Tensor, "batch 1 dim"]:
    assert graph.architecture_index is not None, "a batch of several architectures says which is whose"
    return by_architecture[graph.architecture_index][:, None]


def _table(num_rows: int, dim: int) -> nn.Parameter | None:
    return nn.Parameter(torch.randn(num_rows, dim)) if num_rows else None


def node_scalars(graph: GraphBatch, t: int, wanted: tuple[str, ...]) -> Float[Tensor, "batch nodes scalars"]:
    """The node features of timestamp `t` in the encoder's order; a scale or variance that is missing is 1, else 0."""
    names, nodes = graph.names(t), graph.nodes[t - 1]
    if names == wanted:
        return nodes
    columns = []
    for name in wanted:
        missing = torch.full_like(nodes[..., 0], float(name.endswith(("scale", "running_var"))))
        columns.append(nodes[..., names.index(name)] if name in names else missing)
    return torch.stack(columns, dim=-1)


def _add_shifted(
    targets: Float[Tensor, "batch targets dim"], added: Float[Tensor, "batch sources dim"], edges: BatchResidual
) -> Float[Tensor, "batch targets dim"]:
    """`targets` with node i of `added` on node i + offset, in the networks that have the connection."""
    offset = edges.residual.offset
    count = min(added.shape[1], targets.shape[1] - offset, edges.residual.count or added.shape[1])
    added = added[:, :count]
    if edges.networks is not None:
        added = added * edges.networks[:, None, None]
    return targets + nn.functional.pad(added, (0, 0, offset, targets.shape[1] - offset - count))
