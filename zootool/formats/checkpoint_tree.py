"""The files of a zoo, wherever they lie: below a folder, or in a zip file that is read in place."""

from collections.abc import Mapping
from pathlib import Path

from zootool.errors import printable
from zootool.formats.options import ReadOptions
from zootool.untrusted.archives import ZipArchive
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files
from zootool.untrusted.safe_load import Source


class CheckpointTree:
    """Files by their path within a folder or zip file, parts joined by "/". Nothing is extracted."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._options = options
        self._archive = None if path.is_dir() else ZipArchive(path)
        self._files: Mapping[str, Path] = {}
        if self._archive is None:
            self._files = {file.relative_to(path).as_posix(): file for file in walk_files(path, options.leaves_out)}
        self._path = path
        self.shown = printable(path)

    @property
    def names(self) -> list[str]:
        """Every file's path, sorted; what archives leave beside their content is passed over."""
        found = self._files if self._archive is None else self._archive
        kept = (name for name in found if "__MACOSX" not in name.split("/"))
        return sorted(name for name in kept if self._archive is None or not self._options.leaves_out(Path(name)))

    def open(self, name: str) -> Source:
        """A file for `load_checkpoint`."""
        return self._files[name] if self._archive is None else self._archive.open(name)

    @property
    def fingerprint(self) -> str:
        """Changes when the files do."""
        if self._archive is not None:
            return fingerprint_of_files([self._path])
        return fingerprint_of_files([self._files[name] for name in self.names])
