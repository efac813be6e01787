"""dng: the DNG-Encoder, INR2JLS and their rivals, on dynamic neural graphs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dng.config import EncoderConfig
    from dng.encoder import DNGEncoder
    from dng.graph import DynamicGraph
    from dng.inr2jls import INR2JLS, INR2JLSConfig
    from dng.runs import load

_HOMES = {
    "DNGEncoder": "dng.encoder",
    "DynamicGraph": "dng.graph",
    "EncoderConfig": "dng.config",
    "INR2JLS": "dng.inr2jls",
    "INR2JLSConfig": "dng.inr2jls",
    "load": "dng.runs",
}

__all__ = ["INR2JLS", "DNGEncoder", "DynamicGraph", "EncoderConfig", "INR2JLSConfig", "load"]


def __getattr__(name: str) -> Any:
    # Imported when they are used: `import dng` is cheap for those who want one part.
    if name not in _HOMES:
        raise AttributeError(f"module 'dng' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
