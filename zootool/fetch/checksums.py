"""Comparing files with what their publisher states about them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from zootool.catalog import PublishedFile
from zootool.errors import IntegrityError

_BLOCK_BYTES = 1 << 20


def check_digest(chunks: Iterable[bytes], shown: str, *, md5: str | None = None, sha256: str | None = None) -> None:
    """Compare with the SHA-256, or where none is known with the MD5. Raises IntegrityError."""
    wanted = sha256 or md5
    if wanted is None:
        return
    kind = "sha256" if sha256 else "md5"
    digest = hashlib.new(kind, usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    if digest.hexdigest() != wanted:
        raise IntegrityError(
            f"{shown} has {kind} {digest.hexdigest()}, the published file has {wanted}",
            hint="the copy is damaged or another file: delete it and get it again",
        )


def check_file(path: Path, published: PublishedFile) -> None:
    """Compare a file on disk with what its publisher states. Raises IntegrityError."""
    size = path.stat().st_size
    if published.size is not None and size != published.size:
        raise IntegrityError(
            f"{path} has {size} bytes, the published file has {published.size}",
            hint="delete it and get it again",
        )
    with path.open("rb") as source:
        blocks = iter(lambda: source.read(_BLOCK_BYTES), b"")
        check_digest(blocks, str(path), md5=published.md5, sha256=published.sha256)
