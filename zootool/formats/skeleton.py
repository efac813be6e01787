"""What every reader stands on: its interface, and the skeleton of those whose zoos have a file for each network."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, printable
from zootool.formats.checked_values import Splits, wanted_steps
from zootool.formats.collection import CollectedImages, Collection
from zootool.formats.options import ReadOptions
from zootool.untrusted.file_stack import Tensors, stack_networks, state_dict_of
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files

TEXT, WHOLE, NUMBER = pa.string(), pa.int64(), pa.float64()
"""The types of most columns."""

_MAX_ENTRIES = 200
_MAX_FOLDERS = 5


class Reader(ABC):
    """A format in which zoos lie on disk. Readers are asked for a source in the order of their ranks."""

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    RANK: ClassVar[int] = 0

    @classmethod
    @abstractmethod
    def detect(cls, path: Path) -> bool:
        """Whether what lies at `path` has this format's names: nothing but names and sizes is looked at."""

    @classmethod
    @abstractmethod
    def read(cls, path: Path, options: ReadOptions) -> Collection:
        """The checkpoints at `path`. Raises BadDataError's children for what isn't as the format says."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network: what is opened for it, its place in the order of networks, which is its own, and its columns."""

    source: Path
    place: tuple[Any, ...]
    row: dict[str, Any]


class FileReader(Reader):
    """A reader of zoos that have a file for each network; an object of it reads one source.

    A format declares its class variables and `network`, which turns a file's path into a network. The methods behind
    that are for what else it knows, in the order in which they are called. The rest is done here: the order of
    networks, two files of one network, none at all, training steps, split, table, architectures and loading.
    """

    KIND: ClassVar[str] = ""
    COLUMNS: ClassVar[pa.Schema]
    """The table's columns, which are filled from the networks' rows."""
    FOLDERS: ClassVar[tuple[str, ...]] = ()
    """The folders of a source that networks lie below, where that isn't the source itself."""
    PARTS: ClassVar[tuple[str, ...]]
    """Patterns of the last parts of a network's path; `network` gets the match of all of them, joined by "/"."""
    GROUP: ClassVar[str | None] = None
    """The column whose equal values mean one architecture, where a zoo has several."""
    RUN: ClassVar[tuple[str, str]] = ("run", "run_id")
    """What splits are drawn by, and its column."""
    SHARES: ClassVar[tuple[float, float, float]] = (0.8, 0.1, 0.1)
    """Of training, validation and testing, where splits are drawn."""
    IMAGES: ClassVar[tuple[CollectedImages, ...]] = ()
    CONVENTIONS: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    NOTHING: ClassVar[tuple[str, str]] = ("holds no networks of this format", "run `zoo show` on it")
    TWICE: ClassVar[tuple[str, str]] = ("are one network", "keep one of them")
    """What is wrong with two files of one place, with columns in braces, and what to do about it."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path = path
        self.options = options
        self.shown = printable(path)
        self.networks: list[Network] = []
        self.architectures: tuple[Architecture, ...] = ()

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether files lie as the format's PARTS say, in the source or one of its FOLDERS."""
        return any(holds(path / folder, *cls.PARTS) for folder in cls.FOLDERS or ("",))

    @classmethod
    def read(cls, path: Path, options: ReadOptions) -> Collection:
        """The networks at `path`; of `options.steps` alone where the format has training steps."""
        self = cls(path, options)
        self.networks = self._ordered(self.find())
        self.complete()
        if "training_step" in cls.COLUMNS.names:
            places = wanted_steps(self.column("training_step"), options.steps)
            self.networks = [self.networks[place] for place in places.tolist()]
        splits = self.splits()
        for network, split in zip(self.networks, splits.of_each, strict=True):
            network.row["split"] = split
        index = self._find_architectures()
        networks, architectures = self.networks, self.architectures
        about: dict[str, Any] = {"kind": cls.KIND, "image_sets": cls.IMAGES, "notes": ()} | self.about()
        conventions = about.pop("conventions", cls.CONVENTIONS)
        return Collection(
            format=cls.NAME,
            table=self.table(),
            architectures=architectures,
            architecture_index=index,
            load=lambda rows: self.load(architectures[index[rows[0]]], [networks[row] for row in rows.tolist()]),
            fingerprint=self.fingerprint(),
            conventions={**conventions, "splits": splits.rule},
            notes=(*splits.notes, *about.pop("notes")),
            **about,
        )

    def find(self) -> Iterable[Network]:
        """The networks in any order: of every file whose path ends as PARTS say."""
        pattern = re.compile("(?s:.*/)?" + "/".join(self.PARTS))
        for folder in self.folders():
            for file in walk_files(folder, self.options.leaves_out):
                match = pattern.fullmatch(file.as_posix())
                network = None if match is None else self.network(file, match)
                if network is not None:
                    yield network

    def folders(self) -> list[Path]:
        """The folders that networks lie below."""
        named = [self.path / name for name in self.FOLDERS]
        return [folder for folder in named if folder.is_dir()] if named else [self.path]

    def network(self, file: Path, match: re.Match[str]) -> Network | None:
        """The network in a file with the format's name, None for one that is none. Raises FormatError."""
        raise NotImplementedError

    def complete(self) -> None:
        """Fill in the networks' rows what their paths don't say, such as their training steps."""

    def splits(self) -> Splits:
        """The networks' splits, here drawn by run."""
        noun, column = self.RUN
        of_each, rule = seeded_split(self.column(column), self.SHARES, self.options.seed)
        return Splits(of_each.tolist(), f"by {noun}: {rule}")

    def column(self, name: str) -> list[Any]:
        """A column of the networks' rows."""
        return [network.row.get(name) for network in self.networks]

    def architecture(self, network: Network) -> Architecture:
        """The architecture of a network, and of all others of its group. Raises FormatError."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """What else is known of the networks, by the names of `Collection`'s fields: notes beside the splits' own,
        assumptions, and what isn't declared as the same for all sources, such as image_sets."""
        return {}

    def fingerprint(self) -> str:
        """What changes when the source does."""
        return fingerprint_of_files([network.source for network in self.networks])

    def table(self) -> pa.Table:
        """The networks' columns."""
        return pa.Table.from_pylist([network.row for network in self.networks], self.COLUMNS)

    def load(self, architecture: Architecture, networks: Sequence[Network]) -> dict[str, np.ndarray]:
        """The tensors of networks of one architecture, stacked: state_dict key -> (networks, *shape)."""
        return stack_networks(architecture, networks, self.tensors, [str(network.source) for network in networks])

    def tensors(self, network: Network) -> Tensors:
        """A network's tensors by their keys."""
        return state_dict_of(network.source)

    def _ordered(self, networks: Iterable[Network]) -> list[Network]:
        found = sorted(networks, key=lambda network: network.place)
        if not found:
            raise FormatError(f"{self.shown} {self.NOTHING[0]}", hint=self.NOTHING[1])
        for first, second in pairwise(found):
            if first.place == second.place:
                problem, hint = self.TWICE
                files = f"{printable(first.source)} and {printable(second.source)}"
                raise FormatError(f"{files} {problem.format_map(first.row)}", hint=hint)
        return found

    def _find_architectures(self) -> np.ndarray:
        """Make the architecture of each group from its first network; returns which one each network has."""
        numbers: dict[Architecture, int] = {}
        of_group: dict[Any, int] = {}
        index = np.empty(len(self.networks), np.int64)
        for place, network in enumerate(self.networks):
            group = self.GROUP and network.row[self.GROUP]
            if group not in of_group:
                of_group[group] = numbers.setdefault(self.architecture(network), len(numbers))
            index[place] = of_group[group]
        self.architectures = tuple(numbers)
        return index


def holds(path: Path, part: str, *parts: str) -> bool:
    """Whether there are files below `path` whose path from there is as these patterns say, part by part.

    Enough is looked at to tell formats apart, however many files there are: the first entries of each folder.
    """
    if not parts:
        return any(re.fullmatch(part, entry.name) and entry.is_file() for entry in _entries(path))
    return any(holds(folder, *parts) for folder in first_folders(path, part)[:_MAX_FOLDERS])


def first_folders(path: Path, pattern: str = r"(?s:.+)") -> list[Path]:
    """Folders among the first entries of a folder, those whose whole name matches."""
    return [entry for entry in _entries(path) if re.fullmatch(pattern, entry.name) and entry.is_dir()]


def _entries(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [Path(entry.path) for entry in islice(entries, _MAX_ENTRIES)]
    except OSError:
        return []
