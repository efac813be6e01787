"""The Architecture of SIRENs, apart from their module: processes that fit them need no torch."""

from itertools import pairwise

from zootool.architecture import Activation, Architecture, Timestamp
from zootool.nets.lay_out import lay_out, weight_and_bias


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
    timestamps, entries = [], []
    for layer, (num_sources, num_nodes) in enumerate(pairwise((num_inputs, *hidden, num_outputs))):
        omega = first_omega_0 if layer == 0 and first_omega_0 is not None else omega_0
        is_linear = layer == len(hidden) and not sine_output
        activation = Activation() if is_linear else Activation("sine", omega_0=float(omega))
        timestamps.append(Timestamp("linear", num_nodes, num_sources, activation=activation))
        entries += weight_and_bias(siren_key_prefix(layer, len(hidden)), (num_nodes, num_sources), layer + 1)
    return lay_out(num_inputs, timestamps, entries, family="siren", output_offset=output_offset)


def siren_key_prefix(layer: int, num_hidden: int) -> str:
    """The state_dict prefix of layer 0..num_hidden."""
    return f"net.{layer}" if layer == num_hidden else f"net.{layer}.linear"
