import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from zootool.images import Images
from zootool.images.images import assign_splits


def some_images() -> Images:
    return Images(
        name="tiny",
        pixels=np.arange(6 * 2 * 2 * 1, dtype=np.uint8).reshape(6, 2, 2, 1),
        labels=np.array([0, 1, 0, 1, 0, 1]),
        source_index=np.array([0, 1, 2, 3, 10, 11]),
        split=np.array(["train", "train", "validation", "", "test", "test"]),
        class_names=("a", "b"),
        is_partial=False,
        source_terms="made up",
    )


def test_the_digest_is_of_shape_and_pixels_alone() -> None:
    images = some_images()
    assert images.digest == hashlib.sha256(b"[6,2,2,1]" + bytes(range(24))).hexdigest()
    assert replace(images, labels=images.labels[::-1].copy(), name="x").digest == images.digest
    assert replace(images, pixels=images.pixels.reshape(6, 4, 1, 1)).digest != images.digest
    assert replace(images, pixels=np.asfortranarray(images.pixels)).digest == images.digest


@pytest.mark.parametrize(
    ("split", "limit", "indices"),
    [
        (None, None, [0, 1, 2, 3, 10, 11]),
        ("train", None, [0, 1]),
        (None, 3, [0, 1, 2]),
        (None, 0, []),
        ("test", 1, [10]),
        (None, (1, 1, 1), [0, 2, 10]),
        (None, [5, 0, 1], [0, 1, 10]),
        ("test", (1, 1, 2), [10, 11]),
    ],
)
def test_select_keeps_the_order_and_the_full_sets_indices(split: Any, limit: Any, indices: list[int]) -> None:
    chosen = some_images().select(split, limit)
    assert chosen.source_index.tolist() == indices
    assert chosen.pixels[:, 0, 0, 0].tolist() == [4 * [0, 1, 2, 3, 10, 11].index(i) for i in indices]


@pytest.mark.parametrize("limit", [-1, (1, 2), (1, -1, 0)])
def test_a_senseless_limit_is_a_value_error(limit: Any) -> None:
    with pytest.raises(ValueError, match="limit must"):
        some_images().select(limit=limit)


@pytest.mark.parametrize(
    "changes",
    [
        {"pixels": np.zeros((6, 2, 2), np.uint8)},
        {"pixels": np.zeros((6, 2, 2, 1), np.float32)},
        {"labels": np.zeros(5, np.int64)},
        {"labels": np.zeros(6, np.int32)},
        {"source_index": np.zeros((6, 1), np.int64)},
        {"split": np.array(["training"] * 6)},
        {"split": np.zeros(6)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|holds"):
        replace(some_images(), **changes)


def test_splits_go_by_index_and_leave_out_what_they_do_not_name() -> None:
    split = assign_splits(np.array([0, 2, 3, 4, 9]), {"train": (0, 3), "validation": (3, 4), "test": (9, 12)})
    assert split.tolist() == ["train", "train", "validation", "", "test"]


def test_a_prefix_gives_its_last_tenth_to_validation() -> None:
    indices = np.concatenate([np.arange(25), np.arange(100, 103)])
    split = assign_splits(indices, {"train": (0, 90), "validation": (90, 100), "test": (100, 110)})
    assert split.tolist() == ["train"] * 23 + ["validation"] * 2 + ["test"] * 3


def test_a_prefix_of_fewer_than_ten_images_has_no_validation() -> None:
    split = assign_splits(np.arange(9), {"train": (0, 90), "validation": (90, 100)})
    assert split.tolist() == ["train"] * 9
