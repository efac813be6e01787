"""fmnist_inrs: a SIREN per Fashion-MNIST image, `{train,test}/model_{number}.pth`.

The networks are those of mnist-inrs: sines of omega_0 = 30 on [2, 32, 32, 1], 0.5 added to the output. The label is an
entry of the state_dict. `splits.json` lists paths, of which the last two parts count: validation lies under train/.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, printable
from zootool.formats.collection import CollectedImages, Collection
from zootool.formats.folders import first_files
from zootool.formats.mnist_inrs import SHARES
from zootool.formats.options import ReadOptions
from zootool.formats.plain_values import whole_number
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
from zootool.untrusted.file_stack import Tensors, found_in, stack_networks
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files
from zootool.untrusted.lazy_tensor import LazyTensor
from zootool.untrusted.safe_load import Source, load_checkpoint
from zootool.untrusted.state_dicts import StateDict

NAME = "fmnist-inrs"
TITLE = "fmnist_inrs: SIRENs of Fashion-MNIST, train/ and test/"

_FILE = re.compile(r"model_(\d{1,9})\.pth")
_FOLDERS = ("train", "test")
_LABEL = "label"
# Nobody published how these are rendered; they are the networks of mnist-inrs, which are on xy.
_IMAGES = CollectedImages("fashion-mnist", (28, 28, 1), 10, GRIDS["xy"], (0.0, 1.0), assumed=("grid",))


def detect(path: Path) -> bool:
    """Whether there is a folder train or test with files model_*.pth."""
    return any(first_files(path / folder, _FILE) for folder in _FOLDERS)


def read(path: Path, options: ReadOptions) -> Collection:
    """Every network in train/ and test/ by its number; reading the labels opens every file.

    `options.splits` names splits.json where it lies elsewhere.
    """
    files = _find(path, options)
    architecture = seq_siren_architecture((32, 32), 1, output_offset=0.5)
    split, rule, notes = _splits(files, path, options)

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        return stack_networks(architecture, [files[row] for row in rows.tolist()], _weights_of)

    return Collection(
        format=NAME,
        kind="siren",
        table=_table(files, split),
        architectures=(architecture,),
        architecture_index=np.zeros(len(files), np.int64),
        load=load,
        fingerprint=fingerprint_of_files(files),
        image_sets=(_IMAGES,),
        conventions={"omega_0": OMEGA_0, "output_offset": 0.5, "initial_biases": "zero", "splits": rule},
        notes=("the files' numbers aren't said to be indices of images: there is no source_index", *notes),
    )


def _find(path: Path, options: ReadOptions) -> list[Path]:
    found = [
        (folder, int(match[1]), file)
        for folder in _FOLDERS
        if (path / folder).is_dir()
        for file in walk_files(path / folder, options.leaves_out)
        if file.parent.name == folder and (match := _FILE.fullmatch(file.name))
    ]
    if not found:
        raise FormatError(f"{printable(path)} holds no networks of this format", hint="run `zoo show` on it")
    return [file for _, _, file in sorted(found, key=lambda item: (item[0] == "test", item[1], item[2]))]


def _state_dict(source: Source) -> StateDict:
    return found_in(load_checkpoint(source))


def _weights_of(source: Source) -> Tensors:
    """The tensors of the network: the label, which some files have as a tensor, is none of them."""
    return {key: tensor for key, tensor in _state_dict(source).tensors.items() if key != _LABEL}


def _label_of(path: Path) -> int:
    state = _state_dict(path)
    found: Any = state.tensors.get(_LABEL, state.others.get(_LABEL))
    if isinstance(found, LazyTensor):
        found = found.read().reshape(-1).tolist() if found.shape in ((), (1,)) else None
        found = found[0] if found else None
    return whole_number(found, f"{printable(path)}: the label", high=9)


def _splits(files: Sequence[Path], path: Path, options: ReadOptions) -> tuple[list[str | None], str, tuple[str, ...]]:
    names = [(file.parent.name, file.name) for file in files]
    found = find_splits(options.splits, path, "splits.json")
    if found is None:
        training = [name for folder, name in names if folder == "train"]
        drawn, rule = seeded_split(training, SHARES, options.seed) if training else ([], "")
        of_name = dict(zip(training, drawn, strict=True))
        split = ["test" if folder == "test" else of_name[name] for folder, name in names]
        return split, f"the folder test; of train {rule}", ()
    where = printable(found)
    listed = {
        split: [path_tail(entry, 2, where) for entry in list_in(content, "path", where)]
        for split, content in read_splits(found).items()
    }
    published = split_of_each(listed, where)
    split = [published.get(name) for name in names]
    known = sum(value is not None for value in split)
    return split, f"{found.name}, as published", describe_gaps(split, len(published), known, found.name)


def _table(files: Sequence[Path], split: Sequence[str | None]) -> pa.Table:
    ids = [f"{file.parent.name}-{int(file.stem.removeprefix('model_')):06d}" for file in files]
    if len(set(ids)) != len(ids):
        raise FormatError(f"{printable(files[0].parent.parent)} has a network twice", hint="keep one of them")
    return pa.table(
        {
            "net_id": ids,
            "label": pa.array([_label_of(file) for file in files], pa.int64()),
            "split": pa.array(split, pa.string()),
            "run_id": ids,
        }
    )
