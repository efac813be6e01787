"""Every choice that makes a DNG-Encoder, in one record, and what an encoder with it can take."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from zootool.architecture import Architecture
from zootool.errors import UsageError, did_you_mean
from zootool.graph import GraphBatch

ResidualForm = Literal["linear", "plain", "message"]
NormForm = Literal["learned", "features"]

NORM_FEATURES = ("scale", "shift", "source_scale", "source_shift")
"""The node features that norms give to the nodes that they normalise: those of their own layer, and in front of the
next."""

ACTIVATIONS = ("relu", "gelu", "tanh", "sigmoid", "leaky_relu", "none")
"""The activations of the CNN Wild Park, in the order of the embedding's rows."""


@dataclass(frozen=True)
class EncoderConfig:
    """The DNG-Encoder's widths and options (method, sections 2, 3 and 5).

    `dim` is the memories' width d, `num_frequencies` and `sigma` those of the Fourier features. Where layers have
    several edges per pair, each has a head of width `head_dim`, and all layers are padded to `max_edges` of them (by
    default the most that the architecture has). With `shared` all timestamps share one set of weights, so that one
    encoder takes networks of different depths and widths.

    `node_features` are the names whose Fourier features make a node's input: ("bias", "scale", "shift") for networks
    with norms. `activations` names the rows of a learned embedding of each layer's activation, added to the nodes'
    features; () is none. `positional` adds a learned row per timestamp.

    `norms` is how the networks' norms enter: "learned" puts a learned scale and shift of the memories in the place of
    each that a transformer has in front of a layer, "features" makes every norm's scale and shift features of the nodes
    that it normalises.

    `residual` is the form of residual connections: "linear" adds R s_source to the target's memory, "plain" adds
    s_source itself, "message" sends it along an edge with the learned feature theta * r (the paper's F.1).
    `dropout` acts on every memory behind its LayerNorm. `rnn_layers` is the number of walks, each with its own
    weights, whose node inputs are the memories of the walk before. `norm_fc2=False` leaves out the LayerNorm behind a
    transformer's second feed-forward layer, as the published runs did.

    Two options are those of the published runs on the small CNN zoo (`PUBLISHED_SMALL_CNN_ENCODER`), off by default.
    `output_activation="network"` gives an output layer, which has no activation, the row of the layer in front of it.
    `padding="features"` pads layers with fewer edges per pair by zero vectors behind the Fourier features, so that the
    bias of A goes along edges that aren't there; without it they send nothing.

    `expansion_range` bounds the weights for which the features are computed by polynomials (see
    `dng.encoder.features`); 0 turns that off.
    """

    dim: int = 512
    num_frequencies: int = 128
    sigma: float = 3.0
    head_dim: int = 32
    max_edges: int | None = None
    shared: bool = False
    node_features: tuple[str, ...] = ("bias",)
    activations: tuple[str, ...] = ()
    positional: bool = False
    norms: NormForm = "learned"
    residual: ResidualForm = "linear"
    dropout: float = 0.0
    rnn_layers: int = 1
    norm_fc2: bool = True
    expansion_range: float = 1.0
    output_activation: Literal["network"] | None = None
    padding: Literal["features"] | None = None

    def __post_init__(self) -> None:
        for name in ("dim", "head_dim", "rnn_layers"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be in [0, 1), got {self.dropout}")
        if not self.node_features:
            raise UsageError("node_features must name at least one feature", hint='the default is ("bias",)')

    @property
    def all_node_features(self) -> tuple[str, ...]:
        """`node_features`, and those of norms where they are features."""
        added = NORM_FEATURES if self.norms == "features" else ()
        return self.node_features + tuple(name for name in added if name not in self.node_features)

    def covering(self, architectures: Collection[Architecture]) -> "EncoderConfig":
        """The same encoder with room for the activations and edges per pair of `architectures`, where it has limits."""
        largest = max(max(architecture.edges_per_pair) for architecture in architectures)
        max_edges = None if self.max_edges is None else max(self.max_edges, largest)
        if not self.activations:
            return replace(self, max_edges=max_edges)
        found = {t.activation.name for architecture in architectures for t in architecture.timestamps} - {"none"}
        more = sorted(found - set(self.activations))
        return replace(self, max_edges=max_edges, activations=(*self.activations, *more))


INR_ENCODER = EncoderConfig()
SMALL_CNN_ENCODER = EncoderConfig(dim=128, sigma=1.0, head_dim=32, activations=("relu", "tanh"))
PUBLISHED_SMALL_CNN_ENCODER = replace(SMALL_CNN_ENCODER, output_activation="network", padding="features")
HETEROGENEOUS_CNN_ENCODER = EncoderConfig(
    dim=64, num_frequencies=64, sigma=1.0, head_dim=16, max_edges=49, shared=True, activations=ACTIVATIONS, dropout=0.2
)
VIT_ENCODER = EncoderConfig(dim=32, num_frequencies=32, sigma=1.0, residual="plain")


def is_transformer(architecture: Architecture) -> bool:
    """Whether the walk is that of a transformer (method, section 3)."""
    return any(not timestamp.traits.has_edges for timestamp in architecture.timestamps)


def check_settings(architecture: Architecture, config: EncoderConfig) -> None:
    """Raise UsageError where `config` can't encode `architecture` at all."""
    if config.shared and is_transformer(architecture):
        raise UsageError("a transformer's timestamps differ in kind and can't share their weights", hint="shared=False")
    _check_edges(architecture, config.max_edges or max(architecture.edges_per_pair))
    _check_activations(architecture, config)


def check_graph(built: Architecture, config: EncoderConfig, num_edges: int, graph: GraphBatch) -> None:
    """Raise UsageError where a batch holds networks that the encoder wasn't built for."""
    for given in graph.architectures:
        if given is built:
            continue
        if config.shared:
            _check_ends(built, given)
        elif _shape(built) != _shape(given):
            raise UsageError(
                f"the encoder was built for node counts {built.node_counts} and {built.edges_per_pair} edges per "
                f"pair, the networks have {given.node_counts} and {given.edges_per_pair}",
                hint="train an encoder on this zoo, or select the networks of its architecture",
            )
        _check_edges(given, num_edges)
        _check_activations(given, config)


def _shape(architecture: Architecture) -> tuple[object, ...]:
    kinds = tuple(timestamp.kind for timestamp in architecture.timestamps)
    return architecture.node_counts, architecture.edges_per_pair, kinds


def _check_ends(built: Architecture, given: Architecture) -> None:
    wanted, got = (built.num_inputs, built.node_counts[-1]), (given.num_inputs, given.node_counts[-1])
    if wanted != got:
        raise UsageError(
            f"the encoder was built for networks with {wanted[0]} inputs and {wanted[1]} outputs, "
            f"these have {got[0]} and {got[1]}",
            hint="train an encoder on this zoo",
        )
    if is_transformer(given):
        raise UsageError("an encoder with shared weights can't take a transformer", hint="train one with shared=False")


def _check_edges(architecture: Architecture, num_edges: int) -> None:
    largest = max(architecture.edges_per_pair)
    if largest > num_edges:
        raise UsageError(
            f"a layer has {largest} edges per pair of nodes, the encoder takes at most {num_edges}",
            hint=f"build the encoder with max_edges={largest}, or leave these networks out",
        )


def _check_activations(architecture: Architecture, config: EncoderConfig) -> None:
    for timestamp in architecture.timestamps:
        name = timestamp.activation.name
        # A layer without an activation needs no row: it may have one, and else nothing is added to its nodes.
        if config.activations and name not in (*config.activations, "none"):
            raise UsageError(
                f"a layer has the activation {name!r}, the encoder has no embedding of it",
                hint=did_you_mean(name, config.activations),
            )
