"""What places of bytes and readers of formats must pass, for tests of ours and for those of anybody else's.

A suite is inherited, told what to test, and collected by pytest: `class TestMine(StorageSuite)`. Encoders have theirs
in `dng.testing`.
"""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from zootool.conversion.convert import convert
from zootool.errors import IntegrityError, ZooError
from zootool.formats import reader_for
from zootool.formats.collection import Collection
from zootool.formats.options import ReadOptions
from zootool.formats.skeleton import Reader
from zootool.share.targets import Target
from zootool.store.storage import Storage
from zootool.zoo import open_zoo, verify

FILES = {"zoo.json": b"{}", "edges/c/0": bytes(range(256)) * 16, "edges/c/10": b"\xff" * 31, "empty": b""}


class StorageSuite(ABC):
    """Where a store's bytes are read from."""

    @abstractmethod
    def storage(self, files: Mapping[str, bytes], folder: Path) -> Storage:
        """A storage that holds these files; `folder` is empty and for the test's use."""

    def test_files_are_read_whole(self, tmp_path: Path) -> None:
        storage = self.storage(FILES, tmp_path)
        assert {path: bytes(storage.read(path)) for path in FILES} == FILES
        assert {path: storage.size(path) for path in FILES} == {path: len(FILES[path]) for path in FILES}

    def test_what_is_missing_is_said(self, tmp_path: Path) -> None:
        storage = self.storage(FILES, tmp_path)
        for path in ("edges/c/1", "edges/c", "zoo.json/x", "nowhere"):
            assert storage.size(path) is None, path
            with pytest.raises(FileNotFoundError):
                storage.read(path)
            with pytest.raises(FileNotFoundError):
                storage.fetch(path, [(0, 1)])

    def test_ranges_come_in_the_order_in_which_they_are_asked_for(self, tmp_path: Path) -> None:
        storage, content = self.storage(FILES, tmp_path), FILES["edges/c/0"]
        spans = [(4000, 4096), (0, 1), (5, 300), (5, 300), (0, 4096)]
        for _ in range(2):
            found = storage.fetch("edges/c/0", spans)
            assert all(part.dtype == np.uint8 and part.ndim == 1 for part in found)
            assert [part.tobytes() for part in found] == [content[start:stop] for start, stop in spans]

    def test_opened_files_can_be_searched(self, tmp_path: Path) -> None:
        with self.storage(FILES, tmp_path).open("edges/c/0") as source:
            source.seek(-6, 2)
            assert source.read() == FILES["edges/c/0"][-6:]
            source.seek(3)
            assert source.read(4) == FILES["edges/c/0"][3:7]

    def test_files_can_be_had_under_other_names(self, tmp_path: Path) -> None:
        (tmp_path / "own").mkdir()
        storage = self.storage(FILES, tmp_path / "own")
        storage.link("edges/c/10", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == FILES["edges/c/10"]

    def test_workers_read_the_same(self, tmp_path: Path) -> None:
        storage = self.storage(FILES, tmp_path)
        storage.pin(FILES)
        copy = pickle.loads(pickle.dumps(storage))
        for path in ("zoo.json", "edges/c/0"):
            found = [place.fetch(path, [(0, 2)])[0].tobytes() for place in (copy, storage)]
            assert found == [FILES[path][:2]] * 2


class TargetSuite(ABC):
    """Where zoos are published to."""

    @abstractmethod
    def target(self, folder: Path) -> Target:
        """A place to publish to, the same at every call: with nothing in it at first."""

    def put(self, target: Target, files: Mapping[str, bytes]) -> None:
        """Publish these files and nothing else."""
        for path, content in files.items():
            target.put(path, content, sha256(content).hexdigest())
        if target.is_atomic:
            target.commit("test")

    def test_what_was_put_is_there(self, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        assert target.listing() == {}
        (tmp_path / "large").write_bytes(FILES["edges/c/0"])
        with target.held():
            target.put("edges/c/0", tmp_path / "large", sha256(FILES["edges/c/0"]).hexdigest())
            self.put(target, {path: FILES[path] for path in ("zoo.json", "edges/c/10")})
        (tmp_path / "large").unlink()
        looked = self.target(tmp_path)
        found = looked.listing()
        assert {path: file.size for path, file in found.items()} == {"edges/c/0": 4096, "edges/c/10": 31, "zoo.json": 2}
        assert looked.read("edges/c/10") == FILES["edges/c/10"]
        assert looked.read("edges/c/1") is None
        for path, file in found.items():
            assert looked.digest(path, file) in (None, sha256(FILES[path]).hexdigest())

    def test_a_later_file_takes_the_place_of_an_earlier_one(self, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        self.put(target, {"a": b"old", "b": b"stays"})
        before = self.target(tmp_path).listing()
        later = self.target(tmp_path)
        later.listing()
        self.put(later, {"a": b"new"})
        looked = self.target(tmp_path)
        after = looked.listing()
        assert (looked.read("a"), looked.read("b")) == (b"new", b"stays")
        assert before["b"] == after["b"]
        if before["a"].mark is not None:
            assert before["a"].mark != after["a"].mark, "a mark is another whenever the bytes are"

    def test_bytes_that_are_not_the_listed_ones_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "large").write_bytes(b"x" * 100)
        target = self.target(tmp_path)
        for source in (b"other", tmp_path / "large"):
            with pytest.raises(IntegrityError):
                target.put("a", source, sha256(b"wanted").hexdigest())
        assert self.target(tmp_path).listing().get("a") is None

    def test_nothing_is_seen_before_the_commit(self, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        if not target.is_atomic:
            pytest.skip("files appear one by one here")
        target.put("a", b"1", sha256(b"1").hexdigest())
        assert self.target(tmp_path).listing() == {}
        target.commit("test")
        assert list(self.target(tmp_path).listing()) == ["a"]

    def test_files_are_removed_and_may_be_gone_already(self, tmp_path: Path) -> None:
        self.put(self.target(tmp_path), {"a": b"1", "b/c": b"2"})
        target = self.target(tmp_path)
        target.listing()
        target.remove(["a", *([] if target.is_atomic else ["never"])])
        if target.is_atomic:
            target.commit("test")
        assert list(self.target(tmp_path).listing()) == ["b/c"]


class ReaderSuite(ABC):
    """A reader of zoos as others left them."""

    reader: type[Reader]
    folder = "source"
    """The name of the folder that `write` gets, where the format reads it."""

    @abstractmethod
    def write(self, folder: Path) -> Mapping[str, Mapping[str, np.ndarray]]:
        """Write a small zoo of the format into `folder`, three networks or more: net_id -> tensors by keys."""

    def test_its_zoos_are_recognised(self, tmp_path: Path) -> None:
        self.write(tmp_path / self.folder)
        assert reader_for(tmp_path / self.folder) is self.reader

    def test_reading_again_gives_the_same(self, tmp_path: Path) -> None:
        self.write(tmp_path / self.folder)
        first, second = self._read(tmp_path / self.folder), self._read(tmp_path / self.folder)
        assert first.table.equals(second.table)
        assert (first.architectures, first.fingerprint) == (second.architectures, second.fingerprint)
        assert first.architecture_index.tolist() == second.architecture_index.tolist()
        assert len(set(first.table["net_id"].to_pylist())) == len(first)

    def test_weights_are_those_of_the_files_in_any_order(self, tmp_path: Path) -> None:
        states, collection = self.write(tmp_path / self.folder), self._read(tmp_path / self.folder)
        net_ids = collection.table["net_id"].to_pylist()
        assert sorted(net_ids) == sorted(states)
        for number in range(len(collection.architectures)):
            rows = np.flatnonzero(collection.architecture_index == number)[::-1]
            for key, stacked in collection.load(rows).items():
                for row, tensor in zip(rows, stacked, strict=True):
                    wanted = states[net_ids[row]][key]
                    assert (tensor.shape, tensor.tobytes()) == (wanted.shape, wanted.tobytes()), (net_ids[row], key)

    def test_architectures_name_every_tensor(self, tmp_path: Path) -> None:
        states, collection = self.write(tmp_path / self.folder), self._read(tmp_path / self.folder)
        for net_id, number in zip(collection.table["net_id"].to_pylist(), collection.architecture_index, strict=True):
            assert {slot.key for slot in collection.architectures[number].slots} == set(states[net_id])

    def test_a_store_of_them_gives_them_back(self, tmp_path: Path) -> None:
        states = self.write(tmp_path / self.folder)
        convert(tmp_path / self.folder, tmp_path / "x.zoo")
        assert verify(tmp_path / "x.zoo", "deep").passed
        zoo = open_zoo(tmp_path / "x.zoo")
        for place, net_id in enumerate(zoo.nets["net_id"].tolist()):
            found = zoo.state_dict(place)
            assert list(found) == list(states[net_id])
            assert all(found[key].numpy().tobytes() == states[net_id][key].tobytes() for key in found)

    def test_damaged_files_are_read_or_refused(self, tmp_path: Path) -> None:
        self.write(tmp_path / self.folder)
        num_tried = num_read = 0
        for path in sorted(file for file in (tmp_path / self.folder).rglob("*") if file.is_file())[:5]:
            content = path.read_bytes()
            for damaged in (b"", content[: len(content) // 2]):
                path.write_bytes(damaged)
                num_tried += 1
                # What a damaged file can't say is an error of ours; any other exception ends the test.
                with suppress(ZooError):
                    collection = self._read(tmp_path / self.folder)
                    for row in range(len(collection)):
                        collection.load(np.array([row]))
                    num_read += 1
            path.write_bytes(content)
        assert num_read < num_tried, "a file of weights that lost its bytes can't be read"

    def _read(self, folder: Path) -> Collection:
        return self.reader.read(folder, ReadOptions())
