"""What a newcomer writes: an entry in datasets.yaml for a set of a known format, and a file for a new format."""

from pathlib import Path

import numpy as np
import pytest

import zootool.images
from tests.zootool.images.published_sets import grey_pixels, idx_bytes, write_files
from zootool.catalog import load_catalog
from zootool.errors import FormatError
from zootool.images import load_images
from zootool.images.published import reader_of

ENTRY = """
image_sets:
  tiny:
    title: Tiny
    shape: [5, 4, 1]
    num_train: 20
    num_test: 10
    classes: ["0", "1", "2"]
    splits: {train: [0, 15], validation: [15, 20], test: [20, 30]}
    source_terms: made up
    redistributable: true
    citation: nobody
    homepage: https://example.org/
    forms:
      - format: FORMAT
        parts:
          - {path: tiny/train, LABELS start: 0, count: 20}
          - {path: tiny/test, LABELS start: 20, count: 10}
"""

PLANES = '''
"""A label and twenty grey pixels per image, byte by byte."""

import numpy as np

from zootool.images.images import Labels, PartContent, Pixels, Reader


def read_planes(part: PartContent) -> tuple[Pixels, Labels]:
    rows = np.frombuffer(part.images, np.uint8).reshape(-1, 21)
    return rows[:, 1:].reshape(-1, 5, 4, 1), rows[:, 0].astype(np.int64)


READERS: dict[str, Reader] = {"planes-5x4": read_planes}
'''

LABELS = np.arange(30) % 3


def catalog_of(tmp_path: Path, format_name: str, labels: str = "") -> Path:
    path = tmp_path / "datasets.yaml"
    path.write_text(ENTRY.replace("FORMAT", format_name).replace("LABELS ", labels))
    return path


def test_a_set_of_a_known_format_is_an_entry(tmp_path: Path) -> None:
    catalog = load_catalog(catalog_of(tmp_path, "idx", "labels: tiny/labels, ").resolve())
    pixels = grey_pixels()[..., 0]
    write_files(tmp_path, {"tiny/train": idx_bytes(pixels[:20]), "tiny/labels": idx_bytes(LABELS[:20])})
    images = load_images("tiny", data_dir=tmp_path, catalog=catalog, partial=True)
    assert np.array_equal(images.pixels, grey_pixels()[:20])
    assert images.labels.tolist() == LABELS[:20].tolist()


def test_a_new_format_is_a_file_and_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planes.py").write_text(PLANES)
    monkeypatch.setattr(zootool.images, "__path__", [*zootool.images.__path__, str(tmp_path)])
    rows = np.concatenate([LABELS[:, None], grey_pixels().reshape(30, 20)], axis=1).astype(np.uint8)
    write_files(tmp_path, {"tiny/train": rows[:20].tobytes(), "tiny/test": rows[20:].tobytes()})
    images = load_images("tiny", data_dir=tmp_path, catalog=load_catalog(catalog_of(tmp_path, "planes-5x4")))
    assert np.array_equal(images.pixels, grey_pixels())
    assert images.labels.tolist() == LABELS.tolist()
    assert images.split.tolist() == ["train"] * 15 + ["validation"] * 5 + ["test"] * 10


def test_every_format_of_the_catalog_is_known() -> None:
    for image_set in load_catalog().image_sets.values():
        for form in image_set.forms:
            assert callable(reader_of(form.format))


@pytest.mark.parametrize("name", ["idy", "cifar10-text", "load", "images", "svhn"])
def test_an_unknown_format_is_named(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {"tiny/train": b"1", "tiny/test": b"2"})
    with pytest.raises(FormatError, match=f"there is no format '{name}' of image files"):
        load_images("tiny", data_dir=tmp_path, catalog=load_catalog(catalog_of(tmp_path, name)))
