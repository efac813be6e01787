"""dng: the DNG-Encoder, INR2JLS and their rivals, on dynamic neural graphs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dng.encoder.config import EncoderConfig
    from dng.encoder.dng_encoder import DNGEncoder
    from dng.models.inr2jls import INR2JLS, INR2JLSConfig
    from dng.runs.load import load
    from zootool.graph import GraphBatch

_HOMES = {
    "DNGEncoder": "dng.encoder.dng_encoder",
    "GraphBatch": "zootool.graph",
    "EncoderConfig": "dng.encoder.config",
    "INR2JLS": "dng.models.inr2jls",
    "INR2JLSConfig": "dng.models.inr2jls",
    "load": "dng.runs.load",
}

__all__ = ["INR2JLS", "DNGEncoder", "EncoderConfig", "GraphBatch", "INR2JLSConfig", "load"]


def __getattr__(name: str) -> Any:
    # Imported when they are used: `import dng` is cheap for those who want one part.
    if name not in _HOMES:
        raise AttributeError(f"module 'dng' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
