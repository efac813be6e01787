from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from zootool.images import load_images


def test_digits_need_no_files_and_have_the_published_splits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ZOO_DATA", raising=False)
    images = load_images("digits")
    assert images.pixels.shape == (1797, 8, 8, 1)
    assert [int((images.split == name).sum()) for name in ("train", "validation", "test")] == [1297, 150, 350]
    assert images.source_index.tolist() == list(range(1797))
    assert images.class_names == tuple("0123456789")
    assert not images.is_partial
    assert list(tmp_path.iterdir()) == []


def test_sixteen_grey_levels_become_eight_bits_by_rounding() -> None:
    images = load_images("digits")
    digits: Any = load_digits()
    for level in range(17):
        found = np.unique(images.pixels[..., 0][digits.images == level])
        assert found.tolist() == [round(level * 255 / 16)]


def test_the_digest_is_the_same_everywhere() -> None:
    assert load_images("digits").digest == "4862e1d056d33806b1d405e199c40e328eb0c2e91577ce86ec6ab188c6de25f3"
