from pathlib import Path

import pytest

from tests.zootool.servers import ServedFolder as Served
from tests.zootool.share.killed import killed
from tests.zootool.share.small_zoos import contents, flipped, remote, write_zoo
from tests.zootool.store.small_stores import reseal
from zootool.errors import FormatError, IntegrityError, MissingError, UsageError
from zootool.files import canonical_json
from zootool.share import address as address_module
from zootool.share import download as download_module
from zootool.share.address import Address, parse_address
from zootool.share.download import unfinished
from zootool.share.publish import publish
from zootool.share.pull import pull
from zootool.store.remote_storage import HttpStorage
from zootool.store.schema import DERIVED_FILES
from zootool.zoo import open_zoo, verify


def test_a_pulled_zoo_is_the_published_one(served: Served, tmp_path: Path) -> None:
    done = pull(remote(served), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(served.folder / "x.zoo")
    assert done.zoo_id == open_zoo(served.folder / "x.zoo").id
    with pytest.raises(UsageError, match="exists"):
        pull(remote(served), tmp_path / "y.zoo")


def test_faults_that_pass_are_outlived(served: Served, tmp_path: Path) -> None:
    served.statuses = {"x.zoo/edges/c/0": [429, 500], "x.zoo/manifest.json": [503]}
    served.cuts = {"x.zoo/edges/c/1": [7, 0], "x.zoo/nets.parquet": [100]}
    pull(remote(served), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(served.folder / "x.zoo")
    assert not any(served.cuts.values())
    assert not any(served.statuses.values())


def test_servers_without_ranges_serve_too(served: Served, tmp_path: Path) -> None:
    served.knows_ranges = False
    pull(remote(served), tmp_path / "y.zoo")
    assert verify(tmp_path / "y.zoo", "deep").passed
    streamed, local = open_zoo(f"{served.url}/x.zoo").state_dict(29), open_zoo(tmp_path / "y.zoo").state_dict(29)
    assert all(local[key].equal(tensor) for key, tensor in streamed.items())


def test_faults_that_stay_are_named(served: Served, tmp_path: Path) -> None:
    served.statuses = {"x.zoo/edges/c/0": [500] * 50}
    with pytest.raises(MissingError, match=r"edges/c/0 failed 6 times.*HTTP 500"):
        pull(remote(served), tmp_path / "y.zoo")
    with pytest.raises(MissingError, match="there is no zoo"):
        pull(Address(f"{served.url}/z.zoo"), tmp_path / "z.zoo")
    assert not (tmp_path / "y.zoo").exists()


def test_bytes_that_were_wrong_once_are_fetched_once_more(served: Served, tmp_path: Path) -> None:
    served.slips = {"x.zoo/edges/c/1": [flipped], "x.zoo/nets.parquet": [flipped]}
    pull(remote(served), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(served.folder / "x.zoo")
    assert not any(served.slips.values())


@pytest.mark.parametrize("path", ["edges/c/1", "nets.parquet", "zoo.json"])
def test_tampered_and_truncated_files_are_refused_by_name(served: Served, tmp_path: Path, path: str) -> None:
    served.changes = {f"x.zoo/{path}": flipped}
    with pytest.raises(IntegrityError, match=path):
        pull(remote(served), tmp_path / "y.zoo")
    served.changes = {f"x.zoo/{path}": lambda content: content[:-3]}
    with pytest.raises(IntegrityError, match=rf"{path} has \d+ bytes, listed are"):
        pull(remote(served), tmp_path / "y.zoo")
    assert not (tmp_path / "y.zoo").exists()
    served.changes = {}
    pull(remote(served), tmp_path / "y.zoo")
    assert verify(tmp_path / "y.zoo", "deep").passed


def test_a_manifest_cant_lead_out_of_the_folder(served: Served, tmp_path: Path) -> None:
    entry = {"size": 3, "sha256": "0" * 64}
    alone = ("../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "a//b", "~/.ssh/x", ".git/hooks/x", "view.html")
    for paths in (*((path,) for path in alone), ("x" * 201,), ("/".join(["long"] * 300),), ("a/b", "a/b/c"), ()):
        files = dict.fromkeys(paths, entry)
        evil = {"format": "zoo", "format_version": "1.0", "files": files, "derived": list(DERIVED_FILES)}
        served.changes = {"x.zoo/manifest.json": lambda _, evil=evil: canonical_json(evil)}
        with pytest.raises(FormatError, match=r"lists a path that no store has|lists no files"):
            pull(remote(served), tmp_path / "deep" / "y.zoo")
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "deep").exists()


def test_a_pinned_id_takes_no_other_version(served: Served, tmp_path: Path) -> None:
    zoo_id = open_zoo(served.folder / "x.zoo").id
    address = parse_address(f"{served.url}/x.zoo@{zoo_id[:16]}")
    assert address == Address(f"{served.url}/x.zoo", zoo_id[:16])
    assert parse_address("s3://user@host/x.zoo") == Address("s3://user@host/x.zoo")
    pull(address, tmp_path / "y.zoo")
    wrong = Address(address.url, "0" * 16)
    with pytest.raises(IntegrityError, match=f"now the version {zoo_id[:16]}, wanted is 0000"):
        pull(wrong, tmp_path / "z.zoo")
    with pytest.raises(IntegrityError, match="now the version"):
        pull(wrong, tmp_path / "z.zoo", limit=2)
    assert parse_address(f"x.zoo@{zoo_id.upper()}").pinned_id == zoo_id
    with pytest.raises(UsageError, match="12 digits or more"):
        parse_address("x.zoo@00ff00")


def test_a_disk_that_is_too_small_is_noticed_first(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(MissingError, match=r"the disk of .* has 100"):
        pull(remote(served), tmp_path / "y.zoo")
    assert "x.zoo/edges/c/0" not in served.asked


def test_a_version_that_was_replaced_meanwhile_is_said_to_be(served: Served, tmp_path: Path) -> None:
    write_zoo(tmp_path / "new.zoo", seed=5)

    def replacing(content: bytes) -> bytes:
        publish(tmp_path / "new.zoo", str(served.folder / "x.zoo"))
        return content

    served.slips = {"x.zoo/edges/c/0": [replacing]}
    with pytest.raises(IntegrityError, match=r"was replaced by the version [0-9a-f]{16} while it was read"):
        pull(remote(served), tmp_path / "y.zoo", workers=1)
    pull(remote(served), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "new.zoo")


def test_a_manifest_of_any_size_isnt_read(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_module, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(IntegrityError, match=r"manifest\.json claims \d+ bytes"):
        pull(remote(served), tmp_path / "y.zoo")
    assert "x.zoo/manifest.json" not in served.sent
    (served.folder / "x.zoo/manifest.json").write_bytes(b"")
    with pytest.raises(IntegrityError, match="claims 0 bytes"):
        pull(remote(served), tmp_path / "y.zoo")


def test_files_that_agree_but_are_no_zoo_are_refused(served: Served, tmp_path: Path) -> None:
    (served.folder / "x.zoo/zoo.json").write_bytes(b'{"format":"zoo","format_version":"1.0"}')
    reseal(served.folder / "x.zoo", "zoo.json")
    with pytest.raises(FormatError, match=r"zoo\.json"):
        pull(remote(served), tmp_path / "y.zoo")
    assert not (tmp_path / "y.zoo").exists()


def test_a_name_that_is_taken_meanwhile_stays(served: Served, tmp_path: Path) -> None:
    def taking(content: bytes) -> bytes:
        (tmp_path / "y.zoo").mkdir()
        return content

    served.slips = {"x.zoo/nets.parquet": [taking]}
    with pytest.raises(UsageError, match="exists"):
        pull(remote(served), tmp_path / "y.zoo")
    assert list((tmp_path / "y.zoo").iterdir()) == []


def test_two_pulls_of_one_name_dont_meet(served: Served, tmp_path: Path) -> None:
    with unfinished(tmp_path / "y.zoo"):
        for limit in (None, 2):
            with pytest.raises(UsageError, match=r"another process is pulling .*y\.zoo"):
                pull(remote(served), tmp_path / "y.zoo", limit=limit)
    pull(remote(served), tmp_path / "y.zoo")


def test_what_the_system_refuses_is_no_bug(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for limit in (None, 2):
        with pytest.raises(MissingError, match=r"can't pull http.*x\.zoo to .*Not a directory"):
            pull(remote(served), tmp_path / "file" / "y.zoo", limit=limit)


def test_what_another_version_left_is_gone(served: Served, tmp_path: Path) -> None:
    left = tmp_path / ".y.zoo.pull" / "exact" / "c"
    left.mkdir(parents=True)
    (left / "0").write_text("?")
    pull(remote(served), tmp_path / "y.zoo")
    assert not (tmp_path / "y.zoo" / "exact").exists()


def test_a_download_that_was_killed_goes_on(served: Served, tmp_path: Path) -> None:
    killed("pull", f"{served.url}/x.zoo", tmp_path / "y.zoo", 2)
    assert not (tmp_path / "y.zoo").exists()
    pull(remote(served), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(served.folder / "x.zoo")
    sizes = {f"x.zoo/{path}": len(content) for path, content in contents(served.folder / "x.zoo").items()}
    twice = {path: sent for path, sent in served.sent.items() if sent > sizes[path]}
    assert set(twice) <= {"x.zoo/manifest.json", "x.zoo/zoo.json"}


def test_an_unfinished_file_is_gone_on_with_or_begun_anew(served: Served, tmp_path: Path) -> None:
    content = (served.folder / "x.zoo/edges/c/0").read_bytes()
    for start, sent in ((content[:100], len(content) - 100), (b"?" * 100, 2 * len(content) - 100)):
        part = tmp_path / ".y.zoo.pull" / "edges" / "c" / ".0.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(start)
        served.sent.clear()
        pull(remote(served), tmp_path / "y.zoo")
        assert served.sent["x.zoo/edges/c/0"] == sent
        assert verify(tmp_path / "y.zoo", "deep").passed
        (tmp_path / "y.zoo").rename(tmp_path / f"done-{sent}")


@pytest.mark.parametrize("drips", ["head", "body"])
def test_a_server_that_drips_is_given_up(
    served: Served, drips: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    served.drips = drips
    for use in (lambda: pull(remote(served), tmp_path / "y.zoo"), lambda: open_zoo(f"{served.url}/x.zoo")):
        with pytest.raises(MissingError, match=r"fewer than 1000 bytes/s: .*ZOO_MIN_RATE=0"):
            use()
    # Who takes a slow one waits for it.
    monkeypatch.setenv("ZOO_MIN_RATE", "1")
    assert len(HttpStorage(f"{served.url}/x.zoo").fetch("zoo.json", [(0, 20)])[0]) == 20
    monkeypatch.setenv("ZOO_MIN_RATE", "fast")
    with pytest.raises(UsageError, match=r"\$ZOO_MIN_RATE is 'fast'"):
        open_zoo(f"{served.url}/x.zoo")
