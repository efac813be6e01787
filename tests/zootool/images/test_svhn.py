import io
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from tests.zootool.images.published_sets import colour_pixels
from zootool.errors import FormatError
from zootool.images.svhn import read_svhn_head, read_svhn_mat

LABELS = np.arange(30) % 10


def a_mat(**changes: Any) -> bytes:
    """A .mat as published: axes height, width, channels, image; the digit 0 is class 10."""
    variables = {
        "X": colour_pixels().transpose(1, 2, 3, 0),
        "y": np.where(LABELS == 0, 10, LABELS).astype(np.uint8)[:, None],
        **changes,
    }
    sink = io.BytesIO()
    savemat(sink, {name: value for name, value in variables.items() if value is not None}, do_compression=True)
    return sink.getvalue()


def a_head(**changes: Any) -> bytes:
    arrays: dict[str, Any] = {"train_images": colour_pixels(), "train_labels": LABELS.astype(np.uint8), **changes}
    sink = io.BytesIO()
    kept: dict[str, Any] = {name: value for name, value in arrays.items() if value is not None}
    np.savez_compressed(sink, **kept)
    return sink.getvalue()


def test_a_published_file_gives_the_digits_with_ten_as_zero() -> None:
    pixels, labels = read_svhn_mat(a_mat(), "train_32x32.mat", 30)
    assert np.array_equal(pixels, colour_pixels())
    assert np.array_equal(labels, LABELS)
    assert labels.dtype == np.int64


def short_name(value: object) -> str:
    """A case's name: the contents themselves hold the time of their writing, and names must not change."""
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (a_mat()[: len(a_mat()) // 2], r"y \(N, 1\), got .* and None"),
        (a_mat()[:100], r"not a readable \.mat"),
        (b"", r"not a readable \.mat"),
        (b"MATLAB 5.0" + bytes(500), r"not a readable \.mat"),
        (a_mat(X=None), r"X must be \(32, 32, 3, N\)"),
        (a_mat(y=None), r"y \(N, 1\)"),
        (a_mat(X=colour_pixels()), r"got \(30, 32, 32, 3\)"),
        (a_mat(y=np.ones((29, 1), np.uint8)), r"and \(29, 1\)"),
        (a_mat(X=np.zeros((32, 32, 3, 31), np.uint8), y=np.ones((31, 1), np.uint8)), "holds 31 images, at most 30"),
        (a_mat(y=np.zeros((30, 1), np.uint8)), r"y must be 1\.\.10, got 0\.\.0"),
        (a_mat(y=np.full((30, 1), 11, np.uint8)), r"got 11\.\.11"),
        (a_mat(X=np.zeros((32, 32, 3, 30))), "got float64 and uint8"),
        (a_mat(y=np.ones((30, 1))), "got uint8 and float64"),
    ],
    ids=short_name,
)
def test_another_mat_is_a_format_error(content: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=r"train_32x32\.mat") as caught:
        read_svhn_mat(content, "train_32x32.mat", 30)
    assert caught.match(problem)


def test_a_prefix_is_read() -> None:
    pixels, labels = read_svhn_head(a_head(), "train_head.npz", 40)
    assert np.array_equal(pixels, colour_pixels())
    assert np.array_equal(labels, LABELS)
    assert labels.dtype == np.int64


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (a_head()[:-50], r"is not an \.npz"),
        (b"", r"is not an \.npz"),
        (a_head(train_labels=None), r"is not an \.npz"),
        (a_head(train_labels=np.array([{}] * 30)), r"is not an \.npz"),
        (a_head(train_labels=LABELS[:-1]), r"and int64 \(29,\)"),
        (a_head(train_labels=LABELS / 2), "float64"),
        (a_head(train_images=colour_pixels()[..., 0]), r"uint8 \(30, 32, 32\)"),
        (a_head(extra=np.zeros(10**6)), "too many for 40 images"),
    ],
    ids=short_name,
)
def test_another_npz_is_a_format_error(content: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        read_svhn_head(content, "train_head.npz", 40)
