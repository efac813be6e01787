import numpy as np
import pytest

from tests.zootool.images.published_sets import grey_pixels, idx_bytes, some_labels
from zootool.errors import FormatError
from zootool.images.idx import read_idx_pair

IMAGES = idx_bytes(grey_pixels()[..., 0])
LABELS = idx_bytes(some_labels())


def test_a_pair_of_files_gives_pixels_and_labels() -> None:
    pixels, labels = read_idx_pair(IMAGES, LABELS, "t10k")
    assert np.array_equal(pixels, grey_pixels())
    assert np.array_equal(labels, some_labels())
    assert labels.dtype == np.int64


@pytest.mark.parametrize(
    ("images", "labels", "problem"),
    [
        (IMAGES[:-1], LABELS, r"t10k has 615 bytes, its header \(30, 5, 4\) asks for 616.*truncated"),
        (IMAGES + b"\0", LABELS, "has 617 bytes"),
        (IMAGES[:10], LABELS, "starts with 00000803"),
        (b"", LABELS, "starts with nothing"),
        (LABELS, LABELS, "starts with 00000801, an IDX file of 3 axes of bytes starts with 00000803"),
        (b"\x1f\x8b\x08\x00" + IMAGES, LABELS, "starts with 1f8b0800"),
        (b"\0\0\x0d\x03" + IMAGES[4:], LABELS, "starts with 00000d03"),
        (IMAGES, LABELS[:-1], "the labels of t10k has 37 bytes"),
        (IMAGES, idx_bytes(some_labels()[:-1]), "t10k has 30 images, its label file 29 labels"),
        (IMAGES[:4] + b"\xff" * 12 + IMAGES[16:], LABELS, "asks for 79228162"),
    ],
)
def test_a_damaged_file_is_a_format_error(images: bytes, labels: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        read_idx_pair(images, labels, "t10k")
