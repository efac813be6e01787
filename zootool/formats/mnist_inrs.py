"""mnist-inrs: a SIREN per MNIST image, a folder per network.

`mnist_png_{training|testing}_{label}_{image id}/checkpoints/model_final.pth`. Sines of omega_0 = 30 on [2, 32, 32, 1],
and 0.5 added to the output, for images in [0, 1]. The first coordinate is a pixel's column, since the publishers render
on numpy's default meshgrid. `mnist_splits.json` lists absolute paths of its writer's machine.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, printable
from zootool.formats.collection import CollectedImages, Collection
from zootool.formats.folders import first_files, first_folders
from zootool.formats.options import ReadOptions
from zootool.formats.published import (
    describe_gaps,
    find_splits,
    list_in,
    path_tail,
    read_splits,
    split_of_each,
)
from zootool.formats.seq_siren import OMEGA_0, seq_siren_architecture
from zootool.nets.rendering import GRIDS
from zootool.untrusted.file_stack import stack_networks
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files

NAME = "mnist-inrs"
TITLE = "mnist-inrs: SIRENs of MNIST, a folder per network"

NUM_TRAINING_IMAGES = 60_000
# As many as the published split has: 5,000 of the 60,000 training images.
SHARES = (11 / 12, 1 / 12, 0.0)

_FOLDER = re.compile(r"mnist_png_(training|testing)_(\d{1,3})_(\d{1,9})")
_FILE = re.compile(r"model_final\.pth")
_SPLITS = "mnist_splits.json"


@dataclass(frozen=True, slots=True)
class InrFolder:
    """A network's file and what its folder's name says. The rest of the path doesn't count: it may say "train"."""

    path: Path
    is_test: bool
    label: int
    image: int

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.parent.parent.name

    @property
    def source_index(self) -> int:
        """The image's place in training and test images, one behind the other."""
        return self.image + (NUM_TRAINING_IMAGES if self.is_test else 0)


def detect(path: Path) -> bool:
    """Whether there are folders mnist_png_* with checkpoints in one of them."""
    return any(first_files(folder / "checkpoints", _FILE) for folder in first_folders(path, _FOLDER)[:5])


def read(path: Path, options: ReadOptions) -> Collection:
    """Every network below `path`, by source image. `options.splits` names mnist_splits.json where it lies elsewhere."""
    files = _find(path, options)
    architecture = seq_siren_architecture((32, 32), 1, output_offset=0.5)
    split, rule, notes = _splits(files, path, options)

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        return stack_networks(architecture, [files[row].path for row in rows.tolist()])

    return Collection(
        format=NAME,
        kind="siren",
        table=_table(files, split),
        architectures=(architecture,),
        architecture_index=np.zeros(len(files), np.int64),
        load=load,
        fingerprint=fingerprint_of_files([file.path for file in files]),
        image_sets=(CollectedImages("mnist", (28, 28, 1), 10, GRIDS["xy"], (0.0, 1.0)),),
        conventions={
            "omega_0": OMEGA_0,
            "output_offset": 0.5,
            "initial_biases": "zero",
            "source_index": "the image's id; test images count on from 60,000",
            "splits": rule,
        },
        notes=notes,
    )


def _find(path: Path, options: ReadOptions) -> list[InrFolder]:
    files: dict[int, InrFolder] = {}
    for file in walk_files(path, options.leaves_out):
        match = _FOLDER.fullmatch(file.parent.parent.name)
        if match is None or file.parent.name != "checkpoints" or not _FILE.fullmatch(file.name):
            continue
        found = InrFolder(file, match[1] == "testing", int(match[2]), int(match[3]))
        if found.label > 9 or (not found.is_test and found.image >= NUM_TRAINING_IMAGES):
            raise FormatError(f"{printable(file)}: MNIST has no such label or image", hint="remove this folder")
        if files.setdefault(found.source_index, found) is not found:
            other = printable(files[found.source_index].path)
            raise FormatError(f"{printable(file)} and {other} are of one image", hint="keep one of them")
    if not files:
        raise FormatError(f"{printable(path)} holds no networks of this format", hint="run `zoo show` on it")
    return [files[index] for index in sorted(files)]


def _splits(
    files: Sequence[InrFolder], path: Path, options: ReadOptions
) -> tuple[list[str | None], str, tuple[str, ...]]:
    """The split of every network, the rule, and what is odd about it."""
    found = find_splits(options.splits, path, _SPLITS) or find_splits(None, path.absolute().parent, _SPLITS)
    if found is None:
        training = [file.name for file in files if not file.is_test]
        names, rule = seeded_split(training, SHARES, options.seed) if training else ([], "")
        of_name = dict(zip(training, names, strict=True))
        return [of_name.get(file.name, "test") for file in files], f"testing folders; of the others {rule}", ()
    published = _published(found)
    split = [published.get(file.name) for file in files]
    known = sum(value is not None for value in split)
    return split, f"{found.name}, as published", describe_gaps(split, len(published), known, found.name)


def _published(path: Path) -> dict[str, str]:
    where = printable(path)
    names = {
        split: [_network_of(entry, where) for entry in list_in(content, "path", where)]
        for split, content in read_splits(path).items()
    }
    return split_of_each(names, where)


def _network_of(entry: object, where: str) -> str:
    parts = [part for part in path_tail(entry, 3, where) if _FOLDER.fullmatch(part)]
    if not parts:
        raise FormatError(f"{where} lists {printable(entry, 120)!r}, which names no network of this format")
    return parts[-1]


def _table(files: Sequence[InrFolder], split: Sequence[str | None]) -> pa.Table:
    ids = [f"{file.source_index:06d}" for file in files]
    return pa.table(
        {
            "net_id": ids,
            "source_index": pa.array([file.source_index for file in files], pa.int64()),
            "label": pa.array([file.label for file in files], pa.int64()),
            "split": pa.array(split, pa.string()),
            "run_id": ids,
        }
    )
