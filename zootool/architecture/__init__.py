"""A network family as a dynamic graph: the noun that building, storing and encoding share.

Imports zootool's errors and records; loads the standard library alone, so that models can use it without zarr, pandas
or torch: what computes or traces imports torch when it is called.
"""

from zootool.architecture.family import Architecture, signature_of
from zootool.architecture.kinds import LayerKind
from zootool.architecture.layers import Residual, Timestamp, Tokens
from zootool.architecture.slots import ARRAYS, DTYPE_BYTES, ArrayName, ParameterSlot, Role, check_slots
from zootool.architecture.steps import Activation, Norm, Pooling

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
