"""How much of anything one checkpoint may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LoadLimits:
    """Bounds on one checkpoint; the defaults leave room for every published zoo and keep a hostile file cheap.

    Tensors are bounded by the file itself: none is larger than the bytes of its storage there, and all of them
    together, tied ones counted each time, hold at most `max_expansion` times the file's bytes.
    """

    max_file_bytes: int = 64 << 30
    max_pickle_bytes: int = 8 << 20
    max_header_bytes: int = 4 << 20
    """Of a safetensors file."""
    max_opcodes: int = 1_000_000
    max_made_bytes: int = 64 << 20
    """Of what the calls in a pickle make, beyond the pickle's own bytes."""
    max_objects: int = 250_000
    max_depth: int = 64
    max_tensors: int = 50_000
    max_dims: int = 16
    max_name_chars: int = 256
    max_records: int = 100_000
    max_expansion: int = 4
    max_worker_bytes: int = 1 << 30
    """Of a file that torch has to read, and of what it then needs beyond what it takes by itself."""
    max_worker_seconds: float = 60.0
