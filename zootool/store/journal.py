"""How far an interrupted write of a store has come, so that the next attempt goes on from there.

The unfinished folder holds `.journal/`: mark.json, written last, says how many blocks are in, where each array's open
shard ends, and what the begun chunks hold; rows-N.arrow are the table's rows since the mark before. Everything that a
mark counts on has reached the disk before it, and is believed by its SHA-256 alone. What was written after the last
mark is cut off again.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from zootool.errors import FormatError
from zootool.files import canonical_json, fsync_folder, sha256_file, write_atomic, write_json_atomic
from zootool.records import from_plain, parse_json, to_plain
from zootool.store.schema import FileEntry

JOURNAL = ".journal"
MARK = f"{JOURNAL}/mark.json"


@dataclass(frozen=True)
class ArrayMark:
    """An array's writer between two items.

    `chunks` are (offset, stored bytes) of the finished chunks of the shard that is open, `open` is the entry of the
    file that they make, `begun` the bytes of the chunk that isn't finished, in base64.
    """

    num_shards: int = 0
    entries: dict[str, FileEntry] = field(default_factory=dict)
    chunks: tuple[tuple[int, int], ...] = ()
    open: FileEntry | None = None
    begun: str = ""


@dataclass(frozen=True)
class Mark:
    """A store's writer between two blocks; `fingerprint` is that of what is being written, and how."""

    fingerprint: str
    num_blocks: int = 0
    parts: tuple[FileEntry, ...] = ()
    arrays: dict[str, ArrayMark] = field(default_factory=dict)


class Journal:
    """The marks of an unfinished store in `folder`. A journal about anything else is wiped, with the whole folder.

    So is one whose files aren't what it says. Without a fingerprint nothing is recorded.
    """

    def __init__(self, folder: Path, fingerprint: str | None) -> None:
        self._folder = folder
        self.is_kept = fingerprint is not None
        found = self._read() if self.is_kept else None
        if found is None or found.fingerprint != fingerprint or not self._is_intact(found):
            _empty(folder)
            found = None
        self.mark = found or Mark(fingerprint or "")

    def rows(self) -> Iterator[pa.Table]:
        """The rows that the mark covers, in the pieces in which they were appended."""
        for number in range(len(self.mark.parts)):
            with pa.OSFile(str(self._part(number)), "rb") as source, pa.ipc.open_stream(source) as stream:
                for batch in stream:
                    yield pa.Table.from_batches([batch])

    def write(self, num_blocks: int, arrays: Mapping[str, ArrayMark], rows: Sequence[pa.Table]) -> None:
        """Record that `num_blocks` blocks are on the disk, `rows` being those since the last mark."""
        (self._folder / JOURNAL).mkdir(exist_ok=True)
        parts = self.mark.parts
        if rows:
            path = self._part(len(parts))
            write_atomic(path, lambda sink: _write_stream(sink, rows))
            parts += (FileEntry(path.stat().st_size, sha256_file(path)),)
        self.mark = Mark(self.mark.fingerprint, num_blocks, parts, dict(arrays))
        plain = to_plain(self.mark)
        write_json_atomic(self._folder / MARK, plain | {"sha256": _digest_of(plain)})

    def remove(self) -> None:
        """Forget everything: the store is about to be finished."""
        if (self._folder / JOURNAL).exists():
            # The mark goes first: without it nobody takes up what a crash leaves from here on.
            (self._folder / MARK).unlink(missing_ok=True)
            fsync_folder(self._folder / JOURNAL)
            shutil.rmtree(self._folder / JOURNAL)

    def _read(self) -> Mark | None:
        try:
            plain = parse_json((self._folder / MARK).read_bytes(), MARK)
            said = plain.pop("sha256", None) if isinstance(plain, dict) else None
            return from_plain(Mark, plain, MARK) if said == _digest_of(plain) else None
        except (FileNotFoundError, FormatError):
            return None

    def _is_intact(self, mark: Mark) -> bool:
        """Whether every file begins with what was recorded of it; behind that, open shards may have more."""
        files = {self._part(number): entry for number, entry in enumerate(mark.parts)}
        for name, array in mark.arrays.items():
            files |= {self._folder / name / path: entry for path, entry in array.entries.items()}
            if array.open is not None:
                files[self._folder / name / "c" / str(array.num_shards)] = array.open
        return all(
            path.is_file() and path.stat().st_size >= entry.size and sha256_file(path, entry.size) == entry.sha256
            for path, entry in files.items()
        )

    def _part(self, number: int) -> Path:
        return self._folder / JOURNAL / f"rows-{number}.arrow"


def _digest_of(plain: Any) -> str:
    return hashlib.sha256(canonical_json(plain)).hexdigest()


def _write_stream(sink: object, rows: Sequence[pa.Table]) -> None:
    # A stream may change its dictionaries from piece to piece, so each piece comes back as it was.
    with pa.ipc.new_stream(sink, rows[0].schema) as stream:
        for table in rows:
            stream.write_table(table)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
