"""Tiny stores that say where they come from."""

from pathlib import Path

from tests.zootool.servers import ServedFolder
from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block
from zootool.nets.siren import siren_architecture
from zootool.share.address import Address
from zootool.store import write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.schema import ImageSource

DIGITS = ImageSource("digits", shape=(8, 8, 1), grid="linspace(-1, 1), ij", target=(-1.0, 1.0), terms="CC BY 4.0")


def write_zoo(
    path: Path,
    seed: int = 0,
    licence: str | None = "CC-BY-4.0",
    sources: tuple[ImageSource, ...] = (DIGITS,),
    tool: str | None = "zootool",
    count: int = 20,
) -> str:
    """`count` + 10 SIRENs 2-8-4-1 in several shards; returns the id."""
    architecture = siren_architecture(2, (8, 4), 1)
    blocks = (random_block(architecture, count, seed), random_block(architecture, 10, seed + 1))
    provenance = {"tool": tool} if tool else {}
    info = SourceInfo("small", "siren", sources, {"omega_0": 30.0}, provenance, licence)
    return write_store(path, MemorySource(info, blocks), SMALL_CHUNKS)


def contents(folder: Path, *without: str) -> dict[str, bytes]:
    """Every file below a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if name not in without}


def remote(served: ServedFolder) -> Address:
    """Where x.zoo is served."""
    return Address(f"{served.url}/x.zoo")


def flipped(content: bytes) -> bytes:
    """One bit of it is another."""
    return content[:20] + bytes([content[20] ^ 1]) + content[21:]
