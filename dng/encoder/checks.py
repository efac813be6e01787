"""What an encoder can't take, said before it fails somewhere deep."""

from dng.encoder.config import EncoderConfig
from dng.encoder.layer import is_transformer
from zootool.architecture import Architecture
from zootool.errors import UsageError, did_you_mean
from zootool.graph import GraphBatch


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
