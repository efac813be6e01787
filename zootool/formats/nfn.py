"""SIREN sets of the neural-functional papers: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, one file per network.

`siren_{set}_wts/randinit_smaller[_aug{i}]_{label}s/net{index}.pth`: `_aug{i}` is copy i + 1, the folder without it is
copy 0; the index counts the training images, then the test images. The label stands in the folder's name alone. Splits
go by index.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.errors import FormatError, printable
from zootool.formats.collection import CollectedImages, Collection, Load
from zootool.formats.folders import first_files, first_folders
from zootool.formats.options import ReadOptions
from zootool.nets.rendering import GRIDS
from zootool.nets.siren_architecture import siren_architecture
from zootool.untrusted.file_stack import stack_networks, state_dict_of
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files

NAME = "nfn-siren"
TITLE = "SIRENs of the neural-functional papers, a file per network"

# The published pattern `_(\d)s` reads the label 42 as 2; the whole name has to match.
_FOLDER = re.compile(r"randinit_smaller(?:_aug(\d{1,6}))?_(\d{1,3})s")
_FILE = re.compile(r"net(\d{1,9})\.pth")


@dataclass(frozen=True)
class SirenSet:
    """An image set of these papers: where training ends and testing begins among the indices, and the output."""

    image_set: str
    num_training: int
    first_test: int
    shape: tuple[int, int, int]
    num_classes: int


SETS = {
    "mnist": SirenSet("mnist", 45_000, 50_000, (28, 28, 1), 10),
    "fashion": SirenSet("fashion-mnist", 55_000, 60_000, (28, 28, 1), 10),
    "cifar": SirenSet("cifar10", 45_000, 50_000, (32, 32, 3), 10),
    "cifar100": SirenSet("cifar100", 45_000, 50_000, (32, 32, 3), 100),
}


@dataclass(frozen=True, slots=True)
class SirenFile:
    """A network's file and what its path says."""

    path: Path
    copy: int
    label: int
    index: int


def detect(path: Path) -> bool:
    """Whether there are folders randinit_smaller_*s, with .pth files in one of them."""
    return looks_like(path, _FILE)


def read(path: Path, options: ReadOptions) -> Collection:
    """Every network below `path`, by copy and index. `options` change nothing."""
    files = find_sirens(path, _FILE, options)
    known = set_of(path, _num_outputs(files[0].path))
    architecture = siren_architecture(2, (32, 32), known.shape[2])

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        return stack_networks(architecture, [files[row].path for row in rows.tolist()])

    return collection_of(NAME, known, files, architecture, load)


def collection_of(
    name: str, known: SirenSet, files: Sequence[SirenFile], architecture: Architecture, load: Load
) -> Collection:
    """The networks of these files, whichever form they are in."""
    return Collection(
        format=name,
        kind="siren",
        table=_table(files, known),
        architectures=(architecture,),
        architecture_index=np.zeros(len(files), np.int64),
        load=load,
        fingerprint=fingerprint_of_files([file.path for file in files]),
        image_sets=(CollectedImages(known.image_set, known.shape, known.num_classes, GRIDS["ij"], (-1.0, 1.0)),),
        conventions={"omega_0": 30.0, "output_offset": 0.0, "splits": "by index, as published"},
        notes=_notes(files, known),
    )


def find_sirens(path: Path, pattern: re.Pattern[str], options: ReadOptions) -> list[SirenFile]:
    """The files whose folder and name have the format's form, by copy and index. Raises FormatError."""
    found = [_siren_file(file, pattern) for file in walk_files(path, options.leaves_out)]
    files = sorted((file for file in found if file is not None), key=lambda file: (file.copy, file.index))
    if not files:
        raise FormatError(f"{printable(path)} holds no networks of this format", hint="run `zoo show` on it")
    for first, second in pairwise(files):
        if (first.copy, first.index) == (second.copy, second.index):
            raise FormatError(
                f"{printable(first.path)} and {printable(second.path)} are both copy {first.copy} of image "
                f"{first.index}",
                hint="keep one of them",
            )
    return files


def _siren_file(file: Path, pattern: re.Pattern[str]) -> SirenFile | None:
    folder, name = _FOLDER.fullmatch(file.parent.name), pattern.fullmatch(file.name)
    if folder is None or name is None:
        return None
    return SirenFile(file, 0 if folder[1] is None else int(folder[1]) + 1, int(folder[2]), int(name[1]))


def looks_like(path: Path, pattern: re.Pattern[str]) -> bool:
    """Whether `path` or a folder in it is named as the format says and holds such files."""
    candidates = [path] if _FOLDER.fullmatch(Path(os.path.abspath(path)).name) else first_folders(path, _FOLDER)
    return any(first_files(folder, pattern) for folder in candidates[:5])


def set_of(path: Path, num_outputs: int) -> SirenSet:
    """The set that the name of `path`, or of the folder that it is in, says. Raises FormatError."""
    whole = Path(os.path.abspath(path))
    for part in (whole.name, whole.parent.name):
        match = re.search(r"siren_(mnist|fashion|cifar100|cifar)(?:_|$)", part)
        if match and SETS[match[1]].shape[2] == num_outputs:
            return SETS[match[1]]
    raise FormatError(
        f"{printable(path)} doesn't say which images these SIRENs of {num_outputs} channels show",
        hint="rename it as published: siren_mnist_wts, siren_fashion_wts, siren_cifar_wts or siren_cifar100_wts",
    )


def _num_outputs(path: Path) -> int:
    bias = state_dict_of(path).get("net.2.bias")
    if bias is None or len(bias.shape) != 1:
        raise FormatError(f"{printable(path)} has no bias net.2.bias, so it is no SIREN of this format")
    return bias.shape[0]


def _table(files: Sequence[SirenFile], known: SirenSet) -> pa.Table:
    index = np.array([file.index for file in files], np.int64)
    split = np.where(index < known.num_training, "train", np.where(index < known.first_test, "validation", "test"))
    ids = [f"{file.index:06d}-{file.copy:02d}" for file in files]
    return pa.table(
        {
            "net_id": ids,
            "source_index": index,
            "copy": np.array([file.copy for file in files], np.int32),
            "label": np.array([file.label for file in files], np.int64),
            "split": split.tolist(),
            "run_id": ids,
        }
    )


def _notes(files: Sequence[SirenFile], known: SirenSet) -> tuple[str, ...]:
    notes = []
    labels = {}
    for file in files:
        labels.setdefault(file.index, set()).add(file.label)
    contradicting = sum(len(found) > 1 for found in labels.values())
    if contradicting:
        notes.append(f"{contradicting:,} images have copies under different labels")
    beyond = sum(file.label >= known.num_classes for file in files)
    if beyond:
        notes.append(f"{beyond:,} networks have a label beyond the {known.num_classes} classes")
    if known.image_set == "mnist" and any(file.index >= 60_000 for file in files):
        notes.append("the test split is everything from 50,000 on, as the public loaders have it: 20,000 if complete")
    return tuple(notes)
