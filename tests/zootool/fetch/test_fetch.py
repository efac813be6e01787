import hashlib
import io
import multiprocessing
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.zootool.servers import ServedFile as Served
from tests.zootool.servers import serving
from zootool.catalog import PublishedFile
from zootool.errors import IntegrityError, MissingError
from zootool.fetch import fetch as fetching
from zootool.fetch import web
from zootool.fetch.fetch import fetch

CONTENT = bytes(range(256)) * 4096  # 1 MiB
NOWHERE = "http://127.0.0.1:9/file"


@pytest.fixture(autouse=True)
def no_proxy_and_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    monkeypatch.setenv("ZOO_TIMEOUT", "5")
    monkeypatch.setattr(fetching, "_BACKOFF_SECONDS", 0.0)


def a_file(*urls: str, **changes: Any) -> PublishedFile:
    known: dict[str, Any] = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest(), **changes}
    return PublishedFile(path="sets/a.bin", urls=urls, **known)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "sets"))


def is_complete(folder: Path) -> bool:
    return names(folder) == ["a.bin"] and (folder / "sets" / "a.bin").read_bytes() == CONTENT


def leave_part(folder: Path, served: Served, num_bytes: int) -> None:
    """Let a first download be cut after `num_bytes`."""
    served.drops = [num_bytes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "_ATTEMPTS", 1)
        with pytest.raises(MissingError):
            fetch(a_file(served.url), folder)
    assert names(folder) == ["a.bin.part", "a.bin.part.json"]
    assert (folder / "sets" / "a.bin.part").stat().st_size == num_bytes
    served.asked.clear()


def test_a_file_is_fetched_checked_and_reported(tmp_path: Path) -> None:
    reports: list[tuple[str, int, int]] = []

    def note(stage: str, done: int, total: int) -> None:
        reports.append((stage, done, total))

    with serving(Served(CONTENT)) as served:
        path = fetch(a_file(served.url), tmp_path, report=note)
    assert path == tmp_path / "sets" / "a.bin"
    assert is_complete(tmp_path)
    assert reports[-1] == ("downloading a.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in reports] == sorted(done for _, done, _ in reports)


def test_a_file_that_is_there_is_checked_and_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.bin").write_bytes(CONTENT)
    fetch(a_file(NOWHERE), tmp_path)
    (tmp_path / "sets" / "a.bin").write_bytes(CONTENT[::-1])
    with pytest.raises(IntegrityError, match=r"a\.bin has sha256"):
        fetch(a_file(NOWHERE), tmp_path)


def test_an_md5_will_do_where_nothing_better_is_known(tmp_path: Path) -> None:
    with serving(Served(CONTENT)) as served:
        fetch(a_file(served.url, sha256=None, md5=hashlib.md5(CONTENT).hexdigest()), tmp_path)
        assert is_complete(tmp_path)
        (tmp_path / "sets" / "a.bin").unlink()
        with pytest.raises(IntegrityError, match="checksum"):
            fetch(a_file(served.url, sha256=None, md5="0" * 32), tmp_path)


def test_dropped_connections_are_resumed_where_they_ended(tmp_path: Path) -> None:
    with serving(Served(CONTENT, drops=[1000, 500_000, 3])) as served:
        fetch(a_file(served.url), tmp_path)
    assert is_complete(tmp_path)
    assert served.asked == [None, "bytes=1000-", "bytes=501000-", "bytes=501003-"]


def test_a_later_run_goes_on_with_what_is_there(tmp_path: Path) -> None:
    with serving(Served(CONTENT)) as served:
        leave_part(tmp_path, served, 300_000)
        fetch(a_file(served.url), tmp_path)
    assert is_complete(tmp_path)
    assert served.asked == ["bytes=300000-"]


def test_a_part_that_is_already_whole_is_only_checked(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.bin.part").write_bytes(CONTENT)
    fetch(a_file(NOWHERE), tmp_path)
    assert is_complete(tmp_path)


@pytest.mark.parametrize("change", ["etag", "no etag", "ignores if-range", "no ranges", "weak etag"])
def test_a_file_that_changed_or_a_server_without_ranges_means_a_clean_start(tmp_path: Path, change: str) -> None:
    with serving(Served(CONTENT[::-1])) as served:
        leave_part(tmp_path, served, 300_000)
        served.content = CONTENT
        served.etag = {"etag": '"two"', "no etag": None, "weak etag": 'W/"two"'}.get(change, '"one"')
        if change == "ignores if-range":
            served.etag, served.minds_if_range = '"two"', False
        if change == "no ranges":
            served.knows_ranges = False
        fetch(a_file(served.url), tmp_path)
    assert is_complete(tmp_path)


def test_a_changed_file_is_noticed_without_a_checksum_even_if_the_server_ignores_if_range(tmp_path: Path) -> None:
    with serving(Served(CONTENT[::-1], minds_if_range=False)) as served:
        leave_part(tmp_path, served, 300_000)
        served.content, served.etag = CONTENT, '"two"'
        fetch(a_file(served.url, sha256=None), tmp_path)
    assert is_complete(tmp_path)
    assert served.asked == ["bytes=300000-", None]


def test_a_part_that_was_wrong_from_the_start_costs_one_more_download(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.bin.part").write_bytes(b"something else")
    with serving(Served(CONTENT)) as served:
        fetch(a_file(served.url), tmp_path)
    assert is_complete(tmp_path)
    assert served.asked == ["bytes=14-", None]


def test_a_part_that_is_too_long_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.bin.part").write_bytes(CONTENT + b"more")
    with serving(Served(CONTENT)) as served:
        fetch(a_file(served.url), tmp_path)
    assert is_complete(tmp_path)


def test_without_a_checksum_or_a_version_nothing_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.bin.part").write_bytes(CONTENT[:100])
    with serving(Served(CONTENT, etag=None)) as served:
        fetch(a_file(served.url, sha256=None), tmp_path)
    assert is_complete(tmp_path)
    assert served.asked == [None]


def test_server_errors_are_tried_again_and_wrong_addresses_are_not(tmp_path: Path) -> None:
    with serving(Served(CONTENT, failures=[500, 503])) as served:
        fetch(a_file(served.url), tmp_path)
    assert is_complete(tmp_path)
    with serving(Served(CONTENT, failures=[404, 404])) as served, pytest.raises(MissingError, match="HTTP 404"):
        fetch(a_file(served.url), tmp_path / "b")
    assert len(served.asked) == 1
    assert names(tmp_path / "b") == []


def test_patience_ends_when_nothing_comes_any_more(tmp_path: Path) -> None:
    with serving(Served(CONTENT, failures=[500] * 9)) as served, pytest.raises(MissingError, match="HTTP 500"):
        fetch(a_file(served.url), tmp_path)
    assert len(served.asked) == fetching._ATTEMPTS


def test_mirrors_are_tried_in_order_and_go_on_with_what_came(tmp_path: Path) -> None:
    with serving(Served(CONTENT, drops=[400_000, 0, 0, 0])) as first, serving(Served(CONTENT, etag='"x"')) as second:
        fetch(a_file(NOWHERE, first.url, second.url), tmp_path)
    assert is_complete(tmp_path)
    assert second.asked == ["bytes=400000-"]


def test_a_mirror_with_wrong_bytes_is_left_for_the_next(tmp_path: Path) -> None:
    with serving(Served(CONTENT[::-1])) as first, serving(Served(CONTENT)) as second:
        fetch(a_file(first.url, second.url), tmp_path)
    assert is_complete(tmp_path)
    assert second.asked == [None]


def test_wrong_bytes_everywhere_are_an_integrity_error_and_leave_nothing(tmp_path: Path) -> None:
    with (
        serving(Served(CONTENT[::-1])) as served,
        pytest.raises(IntegrityError, match="what came has the checksum") as caught,
    ):
        fetch(a_file(served.url), tmp_path)
    assert names(tmp_path) == []
    assert hashlib.sha256(CONTENT).hexdigest() in caught.value.message


@pytest.mark.parametrize("sends_length", [True, False])
def test_a_file_of_another_size_is_stopped_before_it_fills_the_disk(tmp_path: Path, sends_length: bool) -> None:
    with (
        serving(Served(CONTENT * 8, sends_length=sends_length)) as served,
        pytest.raises(IntegrityError, match=r"offers 8388608 bytes|more than the 1048576 bytes"),
    ):
        fetch(a_file(served.url), tmp_path)
    assert names(tmp_path) == []


def test_a_file_of_unknown_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_MAX_BYTES", 1000)
    with serving(Served(CONTENT)) as served, pytest.raises(IntegrityError, match="more than the 1000 allowed"):
        fetch(a_file(served.url, size=None, sha256=None), tmp_path)


def test_a_short_answer_without_a_length_is_found_by_its_size(tmp_path: Path) -> None:
    with (
        serving(Served(CONTENT[:-1], sends_length=False)) as served,
        pytest.raises(IntegrityError, match="1048575 bytes came, the published file has 1048576"),
    ):
        fetch(a_file(served.url), tmp_path)


def test_offline_the_error_names_file_addresses_checksum_and_place(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        fetch(a_file(NOWHERE), tmp_path)
    for part in ("sets/a.bin", NOWHERE, "SHA-256 " + hashlib.sha256(CONTENT).hexdigest(), "refused"):
        assert part in caught.value.message
    assert str(tmp_path / "sets" / "a.bin") in (caught.value.hint or "")
    assert names(tmp_path) == []


def test_a_file_without_an_address_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no address to fetch it from"):
        fetch(a_file(), tmp_path)


def test_redirects_are_followed_within_http_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    with serving(Served(CONTENT, redirect="/elsewhere")) as served:
        fetch(a_file(served.url), tmp_path)
    assert is_complete(tmp_path)
    for address in (secret.as_uri(), "ftp://127.0.0.1/x"):
        with (
            serving(Served(CONTENT, redirect=address)) as served,
            pytest.raises(MissingError, match=r"not (followed|allowed)"),
        ):
            fetch(a_file(served.url), tmp_path / "b")


@pytest.mark.parametrize(
    ("asked", "sent_to", "is_followed"),
    [("https", "http", False), ("https", "https", True), ("http", "https", True), ("http", "http", True)],
)
def test_a_redirect_never_leaves_encryption(asked: str, sent_to: str, is_followed: bool) -> None:
    policy, request = web._Redirects(), urllib.request.Request(f"{asked}://a.invalid/x")
    arguments = (request, io.BytesIO(), 302, "", {}, f"{sent_to}://b.invalid/x")
    if is_followed:
        followed = policy.redirect_request(*arguments)
        assert followed is not None
        assert followed.full_url == f"{sent_to}://b.invalid/x"
    else:
        with pytest.raises(MissingError, match="is not followed"):
            policy.redirect_request(*arguments)


def test_file_addresses_are_copied_and_resumed(tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.bin.part").write_bytes(CONTENT[:1000])
    fetch(a_file(source.as_uri()), tmp_path)
    assert is_complete(tmp_path)
    with pytest.raises(MissingError, match="No such file"):
        fetch(a_file((tmp_path / "none").as_uri()), tmp_path / "b")


def test_two_processes_that_want_one_file_fetch_it_once(tmp_path: Path) -> None:
    with serving(Served(CONTENT)) as served:
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=fetch, args=(a_file(served.url), tmp_path)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert is_complete(tmp_path)
    assert served.asked == [None]


@pytest.mark.parametrize("drips", ["head", "body"])
def test_a_server_that_drips_is_left_for_the_next_mirror(
    drips: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    with serving(Served(CONTENT, drips=drips)) as slow, serving(Served(CONTENT)) as good:
        with pytest.raises(MissingError, match="fewer than 1000 bytes/s"):
            fetch(a_file(slow.url), tmp_path / "one")
        assert fetch(a_file(slow.url, good.url), tmp_path / "two").read_bytes() == CONTENT
    assert len(slow.asked) == 2
