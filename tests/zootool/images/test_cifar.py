import io
import pickle

import numpy as np
import pytest

from tests.zootool.images.published_sets import cifar_records, colour_pixels, some_labels
from zootool.errors import FormatError
from zootool.images.cifar import read_cifar_pickle, read_cifar_records


def a_batch(pixels: np.ndarray, labels: list[int], key: bytes = b"labels") -> bytes:
    """A batch as Python 2 pickled it: protocol 2, byte strings as keys."""
    batch = {
        b"data": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)),
        key: labels,
        b"batch_label": b"training batch 1 of 5",
        b"filenames": [b"a.png"] * len(pixels),
    }
    return pickle.dumps(batch, protocol=2)


@pytest.mark.parametrize("num_label_bytes", [1, 2])
def test_records_give_pixels_and_the_last_label(num_label_bytes: int) -> None:
    pixels, labels = read_cifar_records(
        cifar_records(colour_pixels(), some_labels(), num_label_bytes), "x.bin", num_label_bytes
    )
    assert np.array_equal(pixels, colour_pixels())
    assert np.array_equal(labels, some_labels())
    assert labels.dtype == np.int64


@pytest.mark.parametrize("length", [0, 1, 3072, 2 * 3073 - 1])
def test_a_truncated_file_of_records_is_named_with_its_size(length: int) -> None:
    content = cifar_records(colour_pixels(), some_labels())[:length]
    with pytest.raises(FormatError, match=rf"x\.bin has {length} bytes.*truncated"):
        read_cifar_records(content, "x.bin", 1)


@pytest.mark.parametrize("key", [b"labels", b"fine_labels"])
def test_a_pickled_batch_is_read(key: bytes) -> None:
    content = a_batch(colour_pixels(), some_labels().tolist(), key)
    pixels, labels = read_cifar_pickle(content, "data_batch_1", key)
    assert np.array_equal(pixels, colour_pixels())
    assert np.array_equal(labels, some_labels())


def test_a_batch_as_numpy_1_under_python_2_wrote_it_is_read() -> None:
    # Python 2 wrote byte strings with the opcode U, and the module of arrays under its old name.
    data = colour_pixels()[:1].transpose(0, 3, 1, 2).reshape(1, -1).tobytes()
    content = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T\x00\x0c\x00\x00" + data + b"tbU\x06labels]K\x07au."
    )
    pixels, labels = read_cifar_pickle(content, "data_batch_1", b"labels")
    assert np.array_equal(pixels, colour_pixels()[:1])
    assert labels.tolist() == [7]


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        ([], "not a CIFAR batch"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "not a CIFAR batch"),
        ({b"data": [1], b"labels": [1]}, "got list"),
        ({b"data": np.zeros((1, 3071), np.uint8), b"labels": [1]}, r"got uint8 \(1, 3071\)"),
        ({b"data": np.zeros((1, 3072), np.int64), b"labels": [1]}, "got int64"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1, 2]}, "1 images and 2 labels"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]}, "list of labels"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1.5]}, "list of labels"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": 3}, "list of labels"),
    ],
)
def test_another_content_is_a_format_error(batch: object, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        read_cifar_pickle(pickle.dumps(batch, protocol=2), "data_batch_1", b"labels")


def test_a_truncated_pickle_is_a_format_error() -> None:
    content = a_batch(colour_pixels(), some_labels().tolist())
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        with pytest.raises(FormatError, match="data_batch_1 is not a readable pickle"):
            read_cifar_pickle(io.BytesIO(content).read(length), "data_batch_1", b"labels")
