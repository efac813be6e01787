"""A zoo that is damaged, here or on its way, isn't shown to anybody."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.zootool.share.small_zoos import write_zoo
from zootool.errors import IntegrityError
from zootool.share.publish import Upload, publish
from zootool.share.targets import LocalTarget, ObjectStoreTarget
from zootool.store.layout import crc32c
from zootool.zoo import open_zoo, verify


def test_a_zoo_that_is_damaged_isnt_published(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    shard = tmp_path / "x.zoo" / "edges" / "c" / "1"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(IntegrityError, match="edges/c/1"):
        publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_arrives_cut_off_is_noticed_before_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zoo(tmp_path / "x.zoo")
    put = LocalTarget.put

    def cutting(self: LocalTarget, path: str, source: Path, sha256: str) -> None:
        put(self, path, source, sha256)
        if path == "edges/c/1":
            os.truncate(tmp_path / "out" / path, 10)

    monkeypatch.setattr(LocalTarget, "put", cutting)
    with pytest.raises(IntegrityError, match="edges/c/1 has 10 bytes after the upload"):
        publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.setattr(LocalTarget, "put", put)
    publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    assert verify(tmp_path / "out", "deep").passed


def reseal_last_chunk(shard: Path) -> None:
    """Change the padding of a shard's last chunk and its checksum with it: no network notices, the file's digest does.

    For the shards of `SMALL_CHUNKS` whose last chunk isn't full.
    """
    content = bytearray(shard.read_bytes())
    index_bytes = 3 * 16 + 4
    offsets = np.frombuffer(content[-index_bytes:-4], dtype="<u8").reshape(-1, 2)
    start, size = (int(number) for number in offsets[offsets[:, 0] != 2**64 - 1][-1])
    chunk = content[start : start + size - 4]
    assert chunk[-4:] == np.float32(np.nan).tobytes(), "there is padding"
    chunk[-1] ^= 0x80
    content[start : start + size] = chunk + crc32c(bytes(chunk))
    shard.write_bytes(content)


@pytest.mark.parametrize("old", [None, 3])
def test_what_no_network_notices_is_noticed_before_the_manifest(tmp_path: Path, old: int | None) -> None:
    out = tmp_path / "out"
    if old is not None:
        write_zoo(tmp_path / "old.zoo", seed=old)
        publish(tmp_path / "old.zoo", str(out))
    write_zoo(tmp_path / "x.zoo", count=21)
    shards = sorted((tmp_path / "x.zoo" / "edges" / "c").iterdir(), key=lambda path: int(path.name))
    reseal_last_chunk(shards[-1])
    with pytest.raises(IntegrityError, match=rf"edges/c/{len(shards) - 1} (isn't what the manifest|differs from its)"):
        publish(tmp_path / "x.zoo", str(out))
    assert (out / "manifest.json").exists() == (old is not None)
    if old is not None:
        assert verify(out, "deep").passed


def test_a_file_that_changes_after_it_was_verified_doesnt_go_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zoo(tmp_path / "x.zoo")
    shard = tmp_path / "x.zoo" / "nodes" / "c" / "0"
    run = Upload.run

    def changing(self: Upload) -> None:
        replaced = shard.read_bytes()[::-1]
        shard.unlink()
        shard.write_bytes(replaced)
        run(self)

    monkeypatch.setattr(Upload, "run", changing)
    for url in (str(tmp_path / "out"), f"memory://{tmp_path.name}"):
        before = shard.read_bytes()
        with pytest.raises(IntegrityError, match="nodes/c/0 isn't what the manifest lists"):
            publish(tmp_path / "x.zoo", url)
        with pytest.raises(IntegrityError, match="never finished"):
            open_zoo(url)
        shard.write_bytes(before)


def test_a_file_that_changes_while_the_client_reads_it_doesnt_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zoo(tmp_path / "x.zoo")
    url = f"memory://{tmp_path.name}"
    fs = ObjectStoreTarget(url)._fs  # fsspec keeps one for equal settings
    put = fs.put_file

    def changing(source: str, place: str) -> None:
        if place.endswith("nodes/c/0"):
            os.truncate(source, 50)
        put(source, place)

    monkeypatch.setattr(fs, "put_file", changing)
    with pytest.raises(IntegrityError, match="nodes/c/0 isn't what the manifest lists, or changed"):
        publish(tmp_path / "x.zoo", url)
    with pytest.raises(IntegrityError, match="never finished"):
        open_zoo(url)
