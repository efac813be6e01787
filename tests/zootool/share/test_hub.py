"""The hub's Python API is replaced at its boundary by a small fake that keeps what it is given."""

import hashlib
import inspect
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest

from tests.zootool.share.fake_hub import Hub, HubFiles, fake_module
from tests.zootool.share.small_zoos import contents, write_zoo
from zootool.errors import IntegrityError, MissingError, UsageError
from zootool.share import publish as publish_module
from zootool.share.address import Address
from zootool.share.hub import HubTarget
from zootool.share.publish import Upload, publish
from zootool.share.pull import pull
from zootool.store.schema import DERIVED_FILES
from zootool.zoo import verify

URL = "hf://datasets/me/small"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    state = Hub(folder=tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake_module(state))
    monkeypatch.setattr(HubFiles, "hub", state, raising=False)
    monkeypatch.setitem(import_module("fsspec.registry")._registry, "hf", HubFiles)
    return state


def covered(hub: Hub) -> dict[str, bytes]:
    return {path: content for path, content in (hub.files or {}).items() if path not in DERIVED_FILES}


def test_one_commit_shows_everything(hub: Hub, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", URL)
    assert covered(hub) == contents(tmp_path / "x.zoo")
    assert len(hub.commits) == 1
    assert "README.md" in (hub.files or {})


def test_another_version_replaces_the_old_in_one_commit(hub: Hub, tmp_path: Path) -> None:
    write_zoo(tmp_path / "old.zoo")
    write_zoo(tmp_path / "new.zoo", seed=3)
    publish(tmp_path / "old.zoo", URL)
    hub.uploaded.clear()
    publish(tmp_path / "new.zoo", URL)
    assert covered(hub) == contents(tmp_path / "new.zoo")
    assert len(hub.commits) == 2
    assert "zarr.json" not in hub.uploaded


def test_what_the_hub_says_of_contents_counts(hub: Hub, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", URL)
    assert hub.files is not None
    hub.files["edges/c/1"] = hub.files["edges/c/1"][::-1]
    publish(tmp_path / "x.zoo", URL)
    assert covered(hub) == contents(tmp_path / "x.zoo")


def test_uploads_are_tried_again(hub: Hub, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    hub.failures = 3
    publish(tmp_path / "x.zoo", URL)
    assert covered(hub) == contents(tmp_path / "x.zoo")
    hub.files, hub.failures = None, 1000
    with pytest.raises(MissingError, match=r"uploading .* failed 6 times .*503 from the hub"):
        publish(tmp_path / "x.zoo", URL)
    assert not hub.files


def test_who_publishes_second_is_refused(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a.zoo", tmp_path / "b.zoo"
    write_zoo(first)
    write_zoo(second, seed=3)
    put, others = HubTarget.put, []

    def quicker(self: HubTarget, path: str, source: Path, sha256: str) -> str | None:
        """While this publisher uploads, another one does all of it."""
        if not others:
            others.append(path)
            publish(second, URL)
        return put(self, path, source, sha256)

    monkeypatch.setattr(HubTarget, "put", quicker)
    with pytest.raises(UsageError, match=r"somebody else has published to hf://\S+ meanwhile.*run the same command"):
        publish(first, URL)
    assert covered(hub) == contents(second)
    monkeypatch.setattr(HubTarget, "put", put)
    publish(first, URL)
    assert covered(hub) == contents(first)


class _NeverCancelling(ThreadPoolExecutor):
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait)


def test_what_the_hub_forbids_isnt_tried_again(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zoo(tmp_path / "x.zoo")
    hub.refusal = 403
    # However late the main thread is to cancel what waits, nothing more is begun.
    monkeypatch.setattr(publish_module, "ThreadPoolExecutor", _NeverCancelling)
    with pytest.raises(MissingError, match=r"the hub allows no creating hf://datasets/me/small.*hf auth login"):
        publish(tmp_path / "x.zoo", URL, workers=1)
    assert hub.refused == 1


@pytest.mark.parametrize("small_bytes", [0, 1 << 20])
def test_what_goes_up_has_its_digest(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_bytes: int
) -> None:
    monkeypatch.setattr("zootool.share.hub._SMALL_BYTES", small_bytes)
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", URL)
    assert covered(hub) == contents(tmp_path / "x.zoo")
    hub.files = None
    run = Upload.run

    def changing(self: Upload) -> None:
        (tmp_path / "x.zoo/zarr.json").write_bytes(b"changed meanwhile")
        run(self)

    monkeypatch.setattr(Upload, "run", changing)
    with pytest.raises(IntegrityError, match="isn't what the manifest lists"):
        publish(tmp_path / "x.zoo", URL)


def test_published_again_nothing_is_committed(hub: Hub, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", URL)
    assert publish(tmp_path / "x.zoo", URL).is_done
    assert len(hub.commits) == 1
    assert json.loads((hub.files or {})["croissant.json"])["url"] == "https://huggingface.co/datasets/me/small"


def test_a_zoo_comes_back_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    zoo_id = write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", URL)
    pull(Address(URL, zoo_id), tmp_path / "y.zoo")
    pull(Address(URL), tmp_path / "z.zoo", where="split=test")
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "x.zoo")
    assert verify(tmp_path / "z.zoo", "deep").passed


def test_the_real_client_takes_these_calls() -> None:
    """What the fake stands for, where huggingface_hub is installed."""
    real = pytest.importorskip("huggingface_hub", reason="huggingface_hub isn't installed: pip install 'zootool[hub]'")
    for name in ("repo_exists", "create_repo", "repo_info", "list_repo_tree", "preupload_lfs_files", "create_commit",
                 "hf_hub_download"):  # fmt: skip
        ours = inspect.signature(getattr(Hub, name)).parameters
        theirs = inspect.signature(getattr(real.HfApi, name)).parameters
        assert ours.keys() <= theirs.keys()
        keywords = {key for key, parameter in theirs.items() if parameter.kind is parameter.KEYWORD_ONLY}
        positional = ["self", "repo_id", "filename", "operations", "additions"]
        assert all(key in keywords for key in ours.keys() - set(positional))
    content = b"some bytes"
    addition = real.CommitOperationAdd(path_in_repo="a/b", path_or_fileobj=content)
    assert addition.upload_info.sha256 == hashlib.sha256(content).digest()
    assert real.CommitOperationDelete(path_in_repo="a/b").path_in_repo == "a/b"
    for name in ("EntryNotFoundError", "RepositoryNotFoundError"):
        assert issubclass(getattr(real.errors, name), Exception)
    assert issubclass(real.errors.RemoteEntryNotFoundError, real.errors.EntryNotFoundError)


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zoo(tmp_path / "x.zoo")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingError, match=r"zootool\[hub\]"):
        publish(tmp_path / "x.zoo", URL)
