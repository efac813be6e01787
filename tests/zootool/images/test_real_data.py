"""The published sets themselves, where ZOO_DATA names a folder that has them."""

import os
from pathlib import Path

import numpy as np
import pytest

from zootool.catalog import load_catalog
from zootool.images import Images, load_images

DATA = os.environ.get("ZOO_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="ZOO_DATA doesn't name a folder of image sets")


def real(name: str, folder: str) -> Images:
    if not (Path(DATA or "") / folder).is_dir():
        pytest.skip(f"ZOO_DATA has no {folder}")
    return load_images(name)


def counts(images: Images) -> dict[str, int]:
    names, numbers = np.unique(images.split, return_counts=True)
    return dict(zip(names.tolist(), numbers.tolist(), strict=True))


def test_cifar100_is_whole_and_balanced() -> None:
    images = real("cifar100", "cifar-100-binary")
    assert images.pixels.shape == (60_000, 32, 32, 3)
    assert counts(images) == {"train": 45_000, "validation": 5_000, "test": 10_000}
    assert np.array_equal(np.bincount(images.labels), np.full(100, 600))
    assert images.class_names[images.labels[0]] == "cattle"
    assert not images.is_partial


def test_cifar100_names_its_classes_as_published() -> None:
    names = Path(DATA or "") / "cifar-100-binary" / "fine_label_names.txt"
    if not names.is_file():
        pytest.skip("ZOO_DATA has no names of CIFAR-100's classes")
    assert load_catalog().image_set("cifar100").classes == tuple(names.read_text().split())


def test_cifar10_may_be_a_prefix() -> None:
    images = real("cifar10", "cifar-10-batches-bin")
    assert images.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert images.class_names[6] == "frog"
    if images.is_partial:
        num_train = int((images.source_index < 50_000).sum())
        assert counts(images)["validation"] == num_train // 10
        assert images.source_index[num_train] == 50_000


def test_mnist_leaves_its_last_ten_thousand_training_images_out() -> None:
    images = real("mnist", "mnist")
    assert images.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert counts(images) == {"train": 45_000, "validation": 5_000, "": 10_000, "test": 10_000}
    assert set(images.split[50_000:60_000]) == {""}
    assert images.select("test").labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert counts(load_images("mnist", splits="rest"))["test"] == 20_000


def test_svhn_reads_a_prefix_with_digits_as_labels() -> None:
    images = real("svhn", "svhn")
    assert images.labels.min() == 0
    assert images.labels.max() == 9
    if images.is_partial:
        assert counts(images) == {"train": len(images) - len(images) // 10, "validation": len(images) // 10}
