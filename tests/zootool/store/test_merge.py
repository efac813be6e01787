from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block
from zootool.errors import FormatError, UsageError
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture
from zootool.store import Store, open_store, write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.layout import WriteOptions
from zootool.store.merge import merge_stores
from zootool.store.schema import ImageSource
from zootool.store.stored_images import ImagesByKey
from zootool.zoo import open_zoo, verify

SIREN = siren_architecture(2, (8, 4), 1)
CNN = cnn_architecture(CnnConfig())


def stored(path: Path, *blocks: Block, image_set: str = "digits", images: ImagesByKey | None = None) -> Store:
    info = SourceInfo(path.stem, sources=(ImageSource(image_set),), recipe={"steps": len(blocks)})
    write_store(path, MemorySource(info, blocks), SMALL_CHUNKS, images=images)
    return open_store(path)


def drawn(brightness: int, height: int = 3) -> ImagesByKey:
    """Images (height, 2, 1) that show their source index, on top of a brightness."""
    return lambda keys: np.broadcast_to(keys[:, None, None, None] + brightness, (len(keys), height, 2, 1)).astype(
        np.uint8
    )


def test_images_come_along_by_source(tmp_path: Path) -> None:
    a = stored(tmp_path / "a.zoo", random_block(SIREN, 3, 0), images=drawn(0))
    b = stored(tmp_path / "b.zoo", random_block(SIREN, 2, 1), image_set="mnist", images=drawn(100))
    c = stored(tmp_path / "c.zoo", random_block(SIREN, 5, 2), images=drawn(0))
    merged = merge_stores([a, b, c], tmp_path / "d.zoo", "d", SMALL_CHUNKS)
    assert not merged.lost_images
    zoo = open_zoo(tmp_path / "d.zoo")
    (batch,) = zoo.loader(16, images=True)
    assert batch.images is not None
    assert batch.images[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 0, 1, 2, 3, 4]
    assert zoo.store.images is not None
    assert len(zoo.store.images) == 7
    assert verify(tmp_path / "d.zoo", "deep").passed


def test_networks_that_are_not_finite_come_along(tmp_path: Path) -> None:
    block = random_block(SIREN, 3, 0)
    next(iter(block.tensors.values()))[2] = np.nan
    write_store(tmp_path / "a.zoo", MemorySource(SourceInfo("a"), [block]), WriteOptions(nonfinite="keep"))
    b = stored(tmp_path / "b.zoo", random_block(SIREN, 2, 1))
    merge_stores([open_store(tmp_path / "a.zoo"), b], tmp_path / "c.zoo", "c")
    assert open_zoo(tmp_path / "c.zoo").nets["is_finite"].tolist() == [True, True, False, True, True]
    assert verify(tmp_path / "c.zoo", "deep").passed


@pytest.mark.parametrize("other", [None, drawn(0, height=4)], ids=["no images", "other shape"])
def test_images_that_stay_behind_are_reported(tmp_path: Path, other: ImagesByKey | None) -> None:
    a = stored(tmp_path / "a.zoo", random_block(SIREN, 3, 0), images=drawn(0))
    b = stored(tmp_path / "b.zoo", random_block(SIREN, 2, 1), image_set="mnist", images=other)
    assert merge_stores([a, b], tmp_path / "c.zoo", "c").lost_images
    assert open_store(tmp_path / "c.zoo").images is None


def test_a_merge_holds_all_networks_with_their_origin(tmp_path: Path) -> None:
    a = stored(tmp_path / "a.zoo", random_block(SIREN, 7, 0), random_block(CNN, 2, 1, "cnn"))
    block = random_block(SIREN, 5, 2)
    table = block.table.drop_columns(["psnr"]).append_column("loss", pa.array([0.5] * 5))
    b = stored(tmp_path / "b.zoo", Block(SIREN, block.tensors, table), image_set="mnist")
    merged = merge_stores([a, b], tmp_path / "c.zoo", "both", SMALL_CHUNKS)
    assert (merged.num_networks, merged.num_duplicates) == (14, 0)
    assert verify(tmp_path / "c.zoo", "deep").passed
    zoo = open_zoo(tmp_path / "c.zoo")
    assert [segment.count for segment in zoo.info.segments] == [12, 2]
    assert zoo.nets["origin"].tolist() == ["a"] * 7 + ["b"] * 5 + ["a"] * 2
    assert zoo.nets["source"].tolist() == [0] * 7 + [1] * 5 + [0] * 2
    assert [source.name for source in zoo.info.sources] == ["digits", "mnist"]
    assert zoo.nets["psnr"].isna().sum() == 5
    assert zoo.nets["loss"].isna().sum() == 9
    assert [entry["id"] for entry in zoo.info.provenance["merged"]] == [a.zoo_id, b.zoo_id]
    for key, tensor in zoo.state_dict(9).items():
        assert tensor.numpy().tobytes() == block.tensors[key][2].tobytes()


def test_equal_networks_are_kept_and_counted(tmp_path: Path) -> None:
    a = stored(tmp_path / "a.zoo", random_block(SIREN, 4, 0))
    b = stored(tmp_path / "b.zoo", random_block(SIREN, 4, 0), random_block(SIREN, 2, 1))
    merged = merge_stores([a, b], tmp_path / "c.zoo", "c")
    assert (merged.num_networks, merged.num_duplicates) == (10, 4)
    names = open_zoo(tmp_path / "c.zoo").nets["net_id"].tolist()
    assert names[:5] == ["a/net-0-0", "a/net-0-1", "a/net-0-2", "a/net-0-3", "b/net-0-0"]


def test_merges_of_merges_keep_origins_and_sources(tmp_path: Path) -> None:
    a = stored(tmp_path / "a.zoo", random_block(SIREN, 2, 0))
    b = stored(tmp_path / "b.zoo", random_block(SIREN, 2, 1), image_set="mnist")
    c = stored(tmp_path / "c.zoo", random_block(SIREN, 2, 2), image_set="mnist")
    merge_stores([a, b], tmp_path / "ab.zoo", "ab")
    merge_stores([c, open_store(tmp_path / "ab.zoo")], tmp_path / "cab.zoo", "cab")
    zoo = open_zoo(tmp_path / "cab.zoo")
    assert zoo.nets["origin"].tolist() == ["c", "c", "a", "a", "b", "b"]
    assert [zoo.info.sources[i].name for i in zoo.nets["source"]] == ["mnist"] * 2 + ["digits"] * 2 + ["mnist"] * 2


def test_one_zoo_twice_and_contradicting_columns_are_refused(tmp_path: Path) -> None:
    a = stored(tmp_path / "a.zoo", random_block(SIREN, 2, 0))
    with pytest.raises(UsageError, match="different names"):
        merge_stores([a, a], tmp_path / "c.zoo", "c")
    block = random_block(SIREN, 2, 1)
    table = block.table.set_column(2, "label", pa.array([[1], [2]]))
    b = stored(tmp_path / "b.zoo", Block(SIREN, block.tensors, table))
    with pytest.raises(FormatError, match="don't go together"):
        merge_stores([a, b], tmp_path / "c.zoo", "c")
