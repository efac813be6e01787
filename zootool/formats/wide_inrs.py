"""SIRENs of other widths: `ckpts/{label:02d}/{image:06d}_{seed:07d}.ckpt` = `{image_idx, params}`.

The layers are seq.{0,1,2} with sines of omega_0 = 30, nothing is added to the output, and the targets are the images
scaled by the mean and standard deviation of ImageNet. `{start}_{end}.json` holds PSNR: `image` and its keys count from
0 within that range of its split, so an image's place is start + image, and test images count on from the training
images. The first coordinate is a pixel's column. Where a source doesn't say which images it shows, neither does the
zoo.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.columns.splits import seeded_split
from zootool.errors import FormatError, printable
from zootool.formats.collection import CollectedImages, Collection
from zootool.formats.folders import first_files, first_folders
from zootool.formats.options import ReadOptions
from zootool.formats.plain_values import finite_number, whole_number
from zootool.formats.seq_siren import OMEGA_0, seq_siren_architecture, widths_of
from zootool.nets.rendering import GRIDS
from zootool.untrusted.bounded_text import read_json
from zootool.untrusted.file_stack import Tensors, found_in, stack_networks
from zootool.untrusted.folder_walk import fingerprint_of_files, walk_files
from zootool.untrusted.lazy_tensor import LazyTensor
from zootool.untrusted.safe_load import Source, load_checkpoint

NAME = "wide-inrs"
TITLE = "SIRENs of other widths, ckpts/{label}/{image}_{seed}.ckpt"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_FOLDER = re.compile(r"\d{2,3}")
_FILE = re.compile(r"(\d{6})_(\d{7})\.ckpt")
_RANGE = re.compile(r"(\d{1,9})_(\d{1,9})\.json")
NUM_TRAINING_IMAGES = 50_000
_SPLIT_FOLDERS = ("train", "training", "val", "validation", "test", "testing")
_IMAGE_SETS = {"cifar100": ((32, 32, 3), 100), "cifar10": ((32, 32, 3), 10)}


@dataclass(frozen=True, slots=True)
class InrFile:
    """A network's file and what its path says."""

    path: Path
    label: int
    image: int
    seed: int


def detect(path: Path) -> bool:
    """Whether there is a folder ckpts/{label} with files {image}_{seed}.ckpt."""
    return any(first_files(folder, _FILE) for folder in first_folders(path / "ckpts", _FOLDER)[:5])


def read(path: Path, options: ReadOptions) -> Collection:
    """Every network below `path`/ckpts, by image and seed. Splits are drawn by image."""
    files = _find(path, options)
    hidden, num_outputs = widths_of(_weights_of(files[0].path), files[0].path)
    architecture = seq_siren_architecture(hidden, num_outputs, output_offset=0.0)
    split, rule = seeded_split([f"{file.image:06d}" for file in files], seed=options.seed)
    ranges = [(int(m[1]), int(m[2])) for file in _reports(path) if (m := _RANGE.fullmatch(file.name))]
    first, where, odd = _first_index(path, ranges, files)
    psnr, notes = _psnr(path, files)

    def load(rows: np.ndarray) -> dict[str, np.ndarray]:
        return stack_networks(architecture, [files[row].path for row in rows.tolist()], _weights_of)

    return Collection(
        format=NAME,
        kind="siren",
        table=_table(files, first, split, psnr),
        architectures=(architecture,),
        architecture_index=np.zeros(len(files), np.int64),
        load=load,
        fingerprint=fingerprint_of_files([file.path for file in files]),
        image_sets=_image_sets(path),
        conventions={
            "omega_0": OMEGA_0,
            "output_offset": 0.0,
            "target": "(pixel / 255 - mean) / std per channel",
            "target_mean": list(IMAGENET_MEAN),
            "target_std": list(IMAGENET_STD),
            "source_index": where,
            "splits": f"by image: {rule}",
        },
        notes=(*odd, *notes),
    )


def _find(path: Path, options: ReadOptions) -> list[InrFile]:
    folder = path / "ckpts"
    found = [
        InrFile(file, int(file.parent.name), int(match[1]), int(match[2]))
        for file in (walk_files(folder, options.leaves_out) if folder.is_dir() else ())
        if (match := _FILE.fullmatch(file.name)) and _FOLDER.fullmatch(file.parent.name)
    ]
    if not found:
        raise FormatError(f"{printable(path)} holds no networks of this format", hint="run `zoo show` on it")
    files = sorted(found, key=lambda file: (file.image, file.seed))
    for first, second in pairwise(files):
        if (first.image, first.seed) == (second.image, second.seed):
            raise FormatError(
                f"{printable(first.path)} and {printable(second.path)} have one number of an image and one seed",
                hint="keep one of them, or make two folders of two ranges of images",
            )
    return files


def _first_index(
    path: Path, ranges: Sequence[tuple[int, int]], files: Sequence[InrFile]
) -> tuple[int | None, str, tuple[str, ...]]:
    """The place of image 0 in its set, None where that can't be known; how it is known; and what is odd about it."""
    if len(ranges) > 1:
        return None, "unknown", (
            f"images are counted from 0 within each of {len(ranges)} ranges: which ones they are isn't known",
        )  # fmt: skip
    start, end = ranges[0] if ranges else (0, 0)
    words = re.split(r"[^a-z]+", path.absolute().name.lower())
    is_test = _set_name(path) is not None and not {"test", "testing"}.isdisjoint(words)
    beyond = sum(file.image >= end - start for file in files) if ranges else 0
    notes = [f"{beyond:,} networks are of images beyond the range {start}_{end}"] if beyond else []
    where = f"the image's number from {start:,} on, in the {'test' if is_test else 'training'} images"
    return start + NUM_TRAINING_IMAGES * is_test, where, tuple(notes)


def _weights_of(source: Source) -> Tensors:
    loaded = load_checkpoint(source)
    if isinstance(source, Path) and isinstance(loaded.value, dict):
        _check_image(loaded.value.get("image_idx"), source)
    return found_in(loaded, "params").tensors


def _check_image(found: Any, path: Path) -> None:
    """The image that the file says it shows is the one that its name says."""
    if isinstance(found, LazyTensor):
        found = found.read().reshape(-1).tolist()[0] if found.shape in ((), (1,)) else None
    match = _FILE.fullmatch(path.name)
    where = f"{printable(path)}: image_idx"
    if match is None or whole_number(found, where) != int(match[1]):
        raise FormatError(f"{where} is {printable(found, 20)}, its name says another image", hint="rename the file")


def _psnr(path: Path, files: Sequence[InrFile]) -> tuple[list[float | None] | None, tuple[str, ...]]:
    """PSNR by network from a file {start}_{end}.json: an object by image, or a list, both from 0 on."""
    by_image: dict[int, float | None] = {}
    notes = []
    reports = [file for file in _reports(path) if _RANGE.fullmatch(file.name)]
    for report in reports:
        match = _RANGE.fullmatch(report.name)
        content = read_json(report)
        content = content.get("psnr", content) if isinstance(content, dict) else content
        if match and isinstance(content, list) and len(content) == int(match[2]) - int(match[1]):
            pairs: Iterable[tuple[Any, Any]] = enumerate(content)
        elif isinstance(content, dict):
            pairs = content.items()
        else:
            notes.append(f"{printable(report.name, 60)} says nothing by image: its PSNR is left out")
            continue
        where = printable(report)
        by_image |= {whole_number(image, where): finite_number(value, where) for image, value in pairs}
    if not by_image:
        return None, tuple(notes)
    if len(reports) > 1:
        return None, (*notes, "PSNR is given by image within several ranges: it is left out")
    several = len({file.image for file in files}) < len(files)
    if several:
        return None, (*notes, "PSNR is given by image, but images have several networks: it is left out")
    return [by_image.get(file.image) for file in files], tuple(notes)


def _reports(path: Path) -> list[Path]:
    return [file for folder in (path, path / "ckpts") for file in sorted(folder.iterdir()) if file.is_file()]


def _image_sets(path: Path) -> tuple[CollectedImages, ...]:
    image_set = _set_name(path)
    if image_set is None:
        return (CollectedImages("unstated"),)
    shape, num_classes = _IMAGE_SETS[image_set]
    return (CollectedImages(image_set, shape, num_classes, GRIDS["xy"], assumed=("source_index",)),)


def _set_name(path: Path) -> str | None:
    """The image set that the folder's name says, or its parent's where the folder is a split."""
    whole = path.absolute()
    named = whole.parent if whole.name.lower() in _SPLIT_FOLDERS else whole
    found = re.search(r"cifar[-_]?(100|10)(?!\d)", named.name.lower())
    return None if found is None else f"cifar{found[1]}"


def _table(
    files: Sequence[InrFile], first: int | None, split: np.ndarray, psnr: Sequence[float | None] | None
) -> pa.Table:
    ids = [f"{file.image:06d}-{file.seed:07d}" for file in files]
    copies: list[int] = []
    for place, file in enumerate(files):
        copies.append(copies[-1] + 1 if place and files[place - 1].image == file.image else 0)
    columns = {
        "net_id": pa.array(ids),
        "source_index": pa.array([None if first is None else first + file.image for file in files], pa.int64()),
        "copy": pa.array(copies, pa.int32()),
        "label": pa.array([file.label for file in files], pa.int64()),
        "split": pa.array(split.tolist(), pa.string()),
        "run_id": pa.array(ids),
        "seed": pa.array([file.seed for file in files], pa.int64()),
    }
    return pa.table(columns if psnr is None else columns | {"psnr": pa.array(psnr, pa.float64())})
