"""Tiny image sets in their published formats, and a catalog that names them."""

import gzip
import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from zootool.catalog import Catalog
from zootool.validation import validate

NUM_TRAIN, NUM_TEST = 20, 10
COUNTS = {"batch_1": (0, 10), "batch_2": (10, 10), "test": (20, 10)}


def colour_pixels() -> np.ndarray:
    """30 random images of 32 x 32 x 3."""
    return np.random.default_rng(0).integers(0, 256, (NUM_TRAIN + NUM_TEST, 32, 32, 3), np.uint8)


def grey_pixels() -> np.ndarray:
    """30 random images of 5 x 4 x 1."""
    return np.random.default_rng(1).integers(0, 256, (NUM_TRAIN + NUM_TEST, 5, 4, 1), np.uint8)


def some_labels() -> np.ndarray:
    """30 labels 0..9."""
    return np.arange(NUM_TRAIN + NUM_TEST) * 7 % 10


def cifar_records(pixels: np.ndarray, labels: np.ndarray, num_label_bytes: int = 1) -> bytes:
    """Binary records; the coarse label of two label bytes is 255 - fine, so that a mix-up shows."""
    columns = [labels[:, None]] if num_label_bytes == 1 else [255 - labels[:, None], labels[:, None]]
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    return np.concatenate([*columns, planes], axis=1).astype(np.uint8).tobytes()


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def an_entry(form: dict[str, Any], shape: tuple[int, int, int], **changes: Any) -> dict[str, Any]:
    """An image set of 20 training and 10 test images with one published form."""
    return {
        "title": "Tiny",
        "shape": shape,
        "num_train": NUM_TRAIN,
        "num_test": NUM_TEST,
        "classes": [str(i) for i in range(10)],
        "splits": {"train": [0, 15], "validation": [15, 20], "test": [20, 30]},
        "other_splits": {"rest": {"train": [0, 10], "validation": [10, 12], "test": [12, 30]}},
        "source_terms": "made up",
        "redistributable": True,
        "citation": "nobody",
        "homepage": "https://example.org/",
        "forms": [form],
        **changes,
    }


def colour_form(**changes: Any) -> dict[str, Any]:
    """Three files of CIFAR-10 records, published in one archive."""
    parts = [
        {"path": f"tiny/{name}.bin", "archive": "tiny.tar.gz", "start": start, "count": count}
        for name, (start, count) in COUNTS.items()
    ]
    files = [{"path": "tiny.tar.gz", "urls": ["https://example.org/tiny.tar.gz"], "md5": "0" * 32}]
    return {"format": "cifar10-binary", "files": files, "parts": parts, **changes}


def grey_form() -> dict[str, Any]:
    """Two pairs of IDX files."""
    parts = [
        {"path": f"grey/{name}-images", "labels": f"grey/{name}-labels", "start": start, "count": count}
        for name, start, count in (("train", 0, 20), ("test", 20, 10))
    ]
    return {"format": "idx", "parts": parts}


def a_catalog(**entries: dict[str, Any]) -> Catalog:
    """A catalog of these image sets."""
    return validate(Catalog, {"image_sets": entries}, "test catalog")


def colour_members() -> dict[str, bytes]:
    """The content of the three files of `colour_form`."""
    pixels, labels = colour_pixels(), some_labels()
    return {
        f"tiny/{name}.bin": cifar_records(pixels[start : start + count], labels[start : start + count])
        for name, (start, count) in COUNTS.items()
    }


def write_files(folder: Path, contents: dict[str, bytes]) -> None:
    """Write each content to its path below `folder`."""
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    """A tar.gz of these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def gzipped(contents: dict[str, bytes]) -> dict[str, bytes]:
    """The same files, each gzipped."""
    return {f"{path}.gz": gzip.compress(content) for path, content in contents.items()}
