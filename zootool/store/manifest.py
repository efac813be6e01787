"""manifest.json: the size and SHA-256 of every file of a store, and with it the store's identity."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zootool.errors import FormatError, printable
from zootool.files import canonical_json
from zootool.records import from_plain, parse_json
from zootool.store.schema import DERIVED_FILES, FORMAT_NAME, FORMAT_VERSION, MANIFEST_JSON, FileEntry, check_version

_SAFE_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}){0,7}")
_HEX = re.compile(r"[0-9a-f]{64}")
_MAX_FILE_BYTES = 1 << 53


@dataclass(frozen=True)
class Manifest:
    """Every covered file by its path (with forward slashes), and the id that follows from them."""

    files: Mapping[str, FileEntry]
    zoo_id: str
    format_version: str

    @property
    def num_bytes(self) -> int:
        """Bytes of all covered files."""
        return sum(entry.size for entry in self.files.values())


def manifest_bytes(files: Mapping[str, FileEntry]) -> bytes:
    """The content of manifest.json for these files: canonical, so equal files give equal bytes."""
    return canonical_json(
        {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "files": {path: {"size": entry.size, "sha256": entry.sha256} for path, entry in files.items()},
            "derived": list(DERIVED_FILES),
        }
    )


def parse_manifest(content: bytes, where: str) -> Manifest:
    """manifest.json with its paths and digests checked for form. Raises FormatError."""
    value: Any = parse_json(content, where)
    check_version(value, where)
    plain = value.get("files")
    if not isinstance(plain, dict) or not plain:
        raise FormatError(f"{where} lists no files")
    files = {}
    for path, entry in plain.items():
        parsed = from_plain(FileEntry, entry, f"{where}[{printable(path, 80)}]")
        if not _SAFE_PATH.fullmatch(path) or path == MANIFEST_JSON:
            raise FormatError(f"{where} lists a path that no store has: {printable(path, 80)!r}")
        if not 0 <= parsed.size <= _MAX_FILE_BYTES or not _HEX.fullmatch(parsed.sha256):
            raise FormatError(f"{where}[{path}] has an impossible size or digest")
        files[path] = parsed
    version = value["format_version"]
    # Any byte of the manifest that could differ without harm to a file would give one zoo two ids.
    canonical = manifest_bytes(files) if version == FORMAT_VERSION else canonical_json(value)
    if canonical != content:
        raise FormatError(f"{where} isn't written as a manifest is", hint="convert or fetch the zoo again")
    return Manifest(files, hashlib.sha256(content).hexdigest(), version)


def entry_of(content: bytes) -> FileEntry:
    """The manifest entry of a file with this content."""
    return FileEntry(len(content), hashlib.sha256(content).hexdigest())
