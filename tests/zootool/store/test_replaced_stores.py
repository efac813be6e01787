"""Remote stores that are replaced by another version while they are open: no network of it may pass for an old one."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from tests.zootool.share.small_zoos import write_zoo
from zootool import open_zoo
from zootool.errors import IntegrityError
from zootool.zoo import Zoo


def put(folder: Path, url: str, pattern: str = "*") -> None:
    """Copy a store's files to a remote place, over what is there."""
    files, root = fsspec.core.url_to_fs(url)
    for path in folder.rglob(pattern):
        if path.is_file():
            files.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())


@pytest.fixture
def replaced(tmp_path: Path) -> Zoo:
    """A zoo that was opened before its shards were replaced by those of another one, sound and of the same sizes."""
    url = f"memory://{tmp_path.name}/x.zoo"
    for seed, name in ((0, "a"), (7, "b")):
        write_zoo(tmp_path / f"{name}.zoo", seed=seed)
    put(tmp_path / "a.zoo", url)
    zoo = open_zoo(url)
    put(tmp_path / "b.zoo", url, pattern="c/*")
    return zoo


def read_all(mode: str) -> Callable[[Zoo], object]:
    return lambda zoo: list(zoo.loader(8, shuffle=True, mode=mode, targets=[]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "read",
    [read_all("resident"), read_all("mapped"), read_all("streamed"), lambda zoo: zoo.state_dict(3),
     lambda zoo: zoo.graph(3)],
    ids=["resident", "mapped", "streamed", "state_dict", "graph"],
)  # fmt: skip
def test_networks_of_another_version_are_refused(replaced: Zoo, read: Callable[[Zoo], object]) -> None:
    with pytest.raises(IntegrityError, match=r"network \d+ of .* differs from its digest") as caught:
        read(replaced)
    assert "open it again" in str(caught.value.hint)


def test_a_replaced_table_is_noticed_before_its_digests_are_believed(replaced: Zoo, tmp_path: Path) -> None:
    put(tmp_path / "b.zoo", f"memory://{tmp_path.name}/x.zoo")
    with pytest.raises(IntegrityError, match=r"nets\.parquet isn't what the manifest lists"):
        replaced.graph(3)


@pytest.mark.parametrize("mode", ["resident", "mapped", "streamed"])
def test_a_remote_zoo_gives_what_a_local_one_does(tmp_path: Path, mode: str) -> None:
    url = f"memory://{tmp_path.name}/y.zoo"
    write_zoo(tmp_path / "y.zoo")
    put(tmp_path / "y.zoo", url)
    local, remote = (read_all(mode)(open_zoo(place)) for place in (tmp_path / "y.zoo", url))
    for ours, theirs in zip(local, remote, strict=True):  # type: ignore[call-overload]
        assert all((a == b).all() for a, b in zip(ours.edges, theirs.edges, strict=True))
