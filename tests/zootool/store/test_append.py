import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block, write_small_store
from zootool.errors import FormatError, IntegrityError, UsageError
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture
from zootool.store import open_store, write_store
from zootool.store.append import append_store
from zootool.store.blocks import Block, MemorySource, PackedBlock, SourceInfo
from zootool.store.schema import ImageSource
from zootool.zoo import open_zoo, verify

SIREN = siren_architecture(2, (8, 4), 1)


def source_of(*blocks: Block, name: str = "more") -> MemorySource:
    return MemorySource(SourceInfo(name), blocks)


def test_appended_networks_lie_behind_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    old_id = write_store(path, source_of(random_block(SIREN, 20, 0)), SMALL_CHUNKS)
    more = random_block(SIREN, 11, 2)
    appended = append_store(path, source_of(more), SMALL_CHUNKS)
    assert (appended.num_added, appended.num_known) == (11, 0)
    zoo = open_zoo(path)
    assert (zoo.id, len(zoo), zoo.info.parent) == (appended.zoo_id, 31, old_id)
    assert len(zoo.info.segments) == 1
    assert verify(path, "deep").passed
    for key, tensor in zoo.state_dict(25).items():
        assert tensor.numpy().tobytes() == more.tensors[key][5].tobytes()
    assert os.listdir(tmp_path) == ["x.zoo"]


def test_an_append_holds_what_a_single_convert_holds(tmp_path: Path) -> None:
    first, second = random_block(SIREN, 20, 0), random_block(SIREN, 11, 2)
    write_store(tmp_path / "whole.zoo", source_of(first, second), SMALL_CHUNKS)
    write_store(tmp_path / "grown.zoo", source_of(first), SMALL_CHUNKS)
    append_store(tmp_path / "grown.zoo", source_of(second), SMALL_CHUNKS)
    whole, grown = open_store(tmp_path / "whole.zoo"), open_store(tmp_path / "grown.zoo")
    for name in ("edges", "nodes"):
        files = [path for path in whole.manifest.files if path.startswith(name)]
        assert files
        assert {path: whole.manifest.files[path] for path in files} == {
            path: entry for path, entry in grown.manifest.files.items() if path.startswith(name)
        }


def test_full_shards_are_shared_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    write_small_store(path)
    before = {shard: shard.stat().st_ino for shard in (path / "edges" / "c").iterdir()}
    append_store(path, source_of(random_block(SIREN, 5, 3)), SMALL_CHUNKS)
    shared = [shard for shard, inode in before.items() if shard.stat().st_ino == inode]
    assert len(shared) == len(before) - 1 > 1


def test_a_store_of_less_than_a_shard_gets_full_chunks(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    write_store(path, source_of(random_block(SIREN, 2, 0)))
    small = open_store(path).arrays["edges"].layout.chunk
    append_store(path, source_of(random_block(SIREN, 50, 1)))
    assert open_store(path).arrays["edges"].layout.chunk == 26 * small
    assert verify(path, "deep").passed


def test_readers_keep_the_version_that_they_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    write_small_store(path)
    zoo, copy = open_zoo(path), open_zoo(path)
    before = [zoo.graph(i).edges[0] for i in range(30)]
    append_store(path, source_of(random_block(SIREN, 50, 3)), SMALL_CHUNKS)
    assert len(copy) == 30
    assert len(copy.nets["label"]) == 30
    assert all(copy.graph(i).edges[0].equal(edges) for i, edges in enumerate(before))
    assert len(open_zoo(path)) == 80


def test_known_networks_are_compared_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    old = write_small_store(path)
    mixed = random_block(SIREN, 20, 0)
    again = append_store(path, source_of(*old), SMALL_CHUNKS)
    assert (again.num_added, again.num_known, again.zoo_id) == (0, 30, open_zoo(path).id)
    ids = ["new-0", *mixed.table["net_id"].to_pylist()[1:]]
    table = mixed.table.set_column(0, "net_id", pa.array(ids))
    appended = append_store(path, source_of(Block(SIREN, mixed.tensors, table)), SMALL_CHUNKS)
    assert (appended.num_added, appended.num_known) == (1, 19)
    assert open_zoo(path).nets["net_id"].iloc[-1] == "new-0"


def test_a_known_name_with_other_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    block = write_small_store(path)[0]
    changed = {key: tensor + np.float32(1) for key, tensor in block.tensors.items()}
    with pytest.raises(IntegrityError, match="net-0-0 is in the store already, with other weights"):
        append_store(path, source_of(Block(SIREN, changed, block.table)), SMALL_CHUNKS)
    assert len(open_zoo(path)) == 30


def test_other_architectures_and_columns_may_follow(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    write_small_store(path)
    config = CnnConfig((1, 3), (3,), (1,), (0,), ("relu",), (None,), 2)
    block = random_block(cnn_architecture(config), 4, 1, "cnn")
    table = block.table.drop_columns(["psnr"]).append_column("test_accuracy", pa.array([0.5] * 4))
    append_store(path, source_of(Block(block.architecture, block.tensors, table)), SMALL_CHUNKS)
    zoo = open_zoo(path)
    assert [segment.count for segment in zoo.info.segments] == [30, 4]
    assert zoo.nets["psnr"].isna().sum() == 4
    assert zoo.nets["test_accuracy"].isna().sum() == 30
    assert verify(path, "deep").passed
    for key, tensor in zoo.state_dict(32).items():
        assert tensor.numpy().tobytes() == block.tensors[key][2].tobytes()


def test_networks_of_other_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    write_small_store(path)
    other = MemorySource(SourceInfo("more", sources=(ImageSource("mnist"),)), [random_block(SIREN, 2, 9)])
    with pytest.raises(UsageError, match="other images"):
        append_store(path, other)


def test_columns_of_contradicting_types_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    write_small_store(path)
    block = random_block(SIREN, 2, 9)
    table = block.table.set_column(2, "label", pa.array([[1], [2]]))
    with pytest.raises(FormatError, match="don't go together"):
        append_store(path, source_of(Block(SIREN, block.tensors, table)))
    assert len(open_zoo(path)) == 30
    assert os.listdir(tmp_path) == ["x.zoo"]


def test_of_two_appends_at_a_time_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    write_small_store(path)

    class Meddling(MemorySource):
        """Appends something else while it is being read."""

        def read(self, index: int) -> PackedBlock:
            if len(open_zoo(path)) == 30:
                append_store(path, source_of(random_block(SIREN, 1, 7)), SMALL_CHUNKS)
            return super().read(index)

    with pytest.raises(UsageError, match="replaced by another version meanwhile"):
        append_store(path, Meddling(SourceInfo("slow"), [random_block(SIREN, 3, 8)]), SMALL_CHUNKS)
    assert len(open_zoo(path)) == 31


def drawn_images(keys: np.ndarray) -> np.ndarray:
    """An image (3, 2, 1) for every key that shows the key."""
    return np.broadcast_to(keys[:, None, None, None] % 251, (len(keys), 3, 2, 1)).astype(np.uint8)


def test_images_grow_with_the_networks(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    write_store(path, source_of(random_block(SIREN, 6, 0)), SMALL_CHUNKS, images=drawn_images)
    asked: list[int] = []

    def added(keys: np.ndarray) -> np.ndarray:
        asked.extend(keys.tolist())
        return drawn_images(keys)

    append_store(path, source_of(random_block(SIREN, 9, 1)), SMALL_CHUNKS, images=lambda: added)
    store = open_store(path)
    assert store.images is not None
    assert asked == [6, 7, 8]
    assert store.images.read(0, 9)[:, 0, 0, 0].tolist() == list(range(9))
    assert verify(path, "deep").passed


def test_a_store_with_images_does_not_grow_without_them(tmp_path: Path) -> None:
    path = tmp_path / "x.zoo"
    zoo_id = write_store(path, source_of(random_block(SIREN, 6, 0)), SMALL_CHUNKS, images=drawn_images)
    with pytest.raises(UsageError, match="carries its images"):
        append_store(path, source_of(random_block(SIREN, 9, 1)), SMALL_CHUNKS)
    assert open_store(path).zoo_id == zoo_id
