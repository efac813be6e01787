"""A network family as a dynamic graph: the noun that building, storing and encoding share. Stdlib only."""

from zootool.architecture.checks import check_slots
from zootool.architecture.family import Architecture, signature_of
from zootool.architecture.layers import Activation, LayerKind, Norm, Pooling, Residual, Timestamp, Tokens
from zootool.architecture.slots import ARRAYS, DTYPE_BYTES, ArrayName, ParameterSlot, Role

__all__ = [
    "ARRAYS",
    "DTYPE_BYTES",
    "Activation",
    "Architecture",
    "ArrayName",
    "LayerKind",
    "Norm",
    "ParameterSlot",
    "Pooling",
    "Residual",
    "Role",
    "Timestamp",
    "Tokens",
    "check_slots",
    "signature_of",
]
