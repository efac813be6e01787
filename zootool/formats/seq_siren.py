"""SIRENs whose layers are called seq.{0,1,2}: two of sines, a linear one, and what is added to the output."""

from collections.abc import Mapping

from zootool.architecture import Architecture
from zootool.errors import FormatError, printable
from zootool.nets.lay_out import renamed
from zootool.nets.siren_architecture import siren_architecture, siren_key_prefix
from zootool.untrusted.lazy_tensor import LazyTensor

OMEGA_0 = 30.0

_MAX_WIDTH = 4096


def seq_siren_architecture(hidden: tuple[int, ...], num_outputs: int, output_offset: float) -> Architecture:
    """A SIREN from two coordinates with the keys seq.{layer}.weight and seq.{layer}.bias."""
    siren = siren_architecture(2, hidden, num_outputs, OMEGA_0, output_offset)
    names = {
        f"{siren_key_prefix(layer, len(hidden))}.{part}": f"seq.{layer}.{part}"
        for layer in range(len(hidden) + 1)
        for part in ("weight", "bias")
    }
    return renamed(siren, names)


def widths_of(tensors: Mapping[str, LazyTensor], shown: object) -> tuple[tuple[int, ...], int]:
    """(hidden widths, outputs) of a SIREN with these tensors. Raises FormatError."""
    biases = [tensors.get(f"seq.{layer}.bias") for layer in range(3)]
    shapes = [() if bias is None else bias.shape for bias in biases]
    if any(len(shape) != 1 or not 1 <= shape[0] <= _MAX_WIDTH for shape in shapes):
        raise FormatError(f"{printable(shown)} has biases seq.0..2 of {shapes}, wanted are three layers")
    return (shapes[0][0], shapes[1][0]), shapes[2][0]
