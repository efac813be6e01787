"""The Architecture of SIRENs, apart from their module: processes that fit them need no torch."""

from itertools import pairwise

from zootool.architecture import Activation, Architecture, ParameterSlot, Timestamp


def siren_architecture(
    num_inputs: int,
    hidden: tuple[int, ...],
    num_outputs: int,
    omega_0: float = 30.0,
    output_offset: float = 0.0,
    *,
    first_omega_0: float | None = None,
    sine_output: bool = False,
) -> Architecture:
    """A SIREN with sine layers of the widths `hidden` and a linear output, or a `sine_output`.

    The first layer may have an omega_0 of its own. The state_dict keys are those of the neural-functional papers' sets:
    `net.{l}.linear.*` for the sine layers and `net.{L-1}.*` for the output.
    """
    widths = (num_inputs, *hidden, num_outputs)
    timestamps, slots = [], []
    edge_start = node_start = 0
    for layer, (num_sources, num_nodes) in enumerate(pairwise(widths)):
        is_output = layer == len(hidden)
        prefix = siren_key_prefix(layer, len(hidden))
        omega = first_omega_0 if layer == 0 and first_omega_0 is not None else omega_0
        activation = Activation() if is_output and not sine_output else Activation("sine", omega_0=float(omega))
        timestamps.append(Timestamp("linear", num_nodes, num_sources, activation=activation))
        weight_shape = (num_nodes, num_sources)
        slots.append(ParameterSlot(f"{prefix}.weight", "edges", edge_start, weight_shape, timestamp=layer + 1))
        slots.append(
            ParameterSlot(f"{prefix}.bias", "nodes", node_start, (num_nodes,), role="bias", timestamp=layer + 1)
        )
        edge_start += num_nodes * num_sources
        node_start += num_nodes
    return Architecture(num_inputs, tuple(timestamps), tuple(slots), family="siren", output_offset=output_offset)


def siren_key_prefix(layer: int, num_hidden: int) -> str:
    """The state_dict prefix of layer 0..num_hidden."""
    return f"net.{layer}" if layer == num_hidden else f"net.{layer}.linear"
