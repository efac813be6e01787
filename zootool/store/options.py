"""How a store is written."""

from dataclasses import dataclass
from typing import Literal

from zootool.store.layout import CHUNK_BYTES, SHARD_BYTES


@dataclass(frozen=True)
class WriteOptions:
    """How a store is written. `workers` and `mark_bytes` don't change a byte of it; the others not what is read back.

    Each time that about `mark_bytes` more are written, an interrupted write has a place to go on from.

    `zstd_level` None stores chunks as they are. `nonfinite="keep"` stores networks with NaN or infinite parameters
    and marks them in the column `is_finite`; "refuse" raises NumericalError.
    """

    workers: int = 2
    zstd_level: int | None = None
    nonfinite: Literal["refuse", "keep"] = "refuse"
    chunk_bytes: int = CHUNK_BYTES
    shard_bytes: int = SHARD_BYTES
    mark_bytes: int = 256 << 20
