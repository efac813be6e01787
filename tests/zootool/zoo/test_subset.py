from pathlib import Path

import numpy as np
import pytest

from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block, write_small_store
from tests.zootool.store.unit_folders import write_unit_folder
from zootool.conversion.convert import convert, images_of
from zootool.errors import MissingError, UsageError
from zootool.images import load_images
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture
from zootool.store import WriteOptions, write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.schema import ImageSource
from zootool.zoo import open_zoo, verify
from zootool.zoo.export import subset


def test_a_subset_holds_the_selected_networks_bit_for_bit(tmp_path: Path) -> None:
    siren, cnn = siren_architecture(2, (8, 4), 1), cnn_architecture(CnnConfig())
    write_small_store(
        tmp_path / "x.zoo", random_block(siren, 20, 0), random_block(cnn, 6, 1), random_block(siren, 5, 2)
    )
    selected = open_zoo(tmp_path / "x.zoo").select(split="test")
    subset(selected, tmp_path / "y.zoo", options=SMALL_CHUNKS)
    again = open_zoo(tmp_path / "y.zoo")
    assert verify(tmp_path / "y.zoo", "deep").passed
    assert again.info.name == "y"
    assert again.info.provenance["subset_of"]["id"] == selected.id
    for column in ("net_id", "digest", "label"):
        assert again.nets[column].tolist() == selected.nets[column].tolist()


def test_an_empty_selection_is_no_zoo(tmp_path: Path) -> None:
    write_small_store(tmp_path / "x.zoo")
    with pytest.raises(MissingError, match="no network of small is selected"):
        subset(open_zoo(tmp_path / "x.zoo").select(label=77), tmp_path / "y.zoo")


def test_images_travel_with_the_networks(tmp_path: Path) -> None:
    images = load_images("digits")
    write_unit_folder(tmp_path / "units", units=(4, 3), digest=images.digest)
    convert(tmp_path / "units", tmp_path / "x.zoo", with_images=True, options=SMALL_CHUNKS)
    zoo = open_zoo(tmp_path / "x.zoo")
    subset(zoo.select(split="test"), tmp_path / "y.zoo")
    again = open_zoo(tmp_path / "y.zoo")
    assert again.store.images is not None
    assert len(again.store.images) == len(again) == 1
    (batch,) = again.loader(8, images=True)
    assert batch.images is not None
    np.testing.assert_array_equal(batch.images.numpy(), images.pixels[[3]])
    assert verify(tmp_path / "x.zoo", "deep").passed


def test_images_that_may_not_be_passed_on_are_refused(tmp_path: Path) -> None:
    source = ImageSource("cifar10", terms="no licence stated")
    with pytest.raises(UsageError, match="the terms of cifar10 don't allow"):
        images_of(MemorySource(SourceInfo("x", sources=(source,)), [random_block(siren_architecture(2, (3,), 1), 1)]))


def test_networks_that_are_not_finite_stay_in_a_subset(tmp_path: Path) -> None:
    block = random_block(siren_architecture(2, (3,), 1), 6)
    next(iter(block.tensors.values()))[2] = np.nan
    source = MemorySource(SourceInfo("strange"), [block])
    write_store(tmp_path / "x.zoo", source, WriteOptions(nonfinite="keep"))
    subset(open_zoo(tmp_path / "x.zoo"), tmp_path / "y.zoo")
    assert open_zoo(tmp_path / "y.zoo").nets["is_finite"].tolist() == [True, True, False, True, True, True]
