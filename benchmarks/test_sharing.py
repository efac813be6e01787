"""How fast zoos are published and pulled, against the plain client copying one file of the same size.

Both run in turn in every round against the same server, a process of its own on this machine; a ratio is the median
over the rounds, above 1 where zootool is faster. zootool's times include verifying the store (publish) and checking
every file (pull). What each has left is compared with the original after every run, outside the time.

    ZOO_BENCH_MB=1000 pytest benchmarks/test_sharing.py --benchmark-only -s

prints the tables, with the most memory that was allocated at once (mapped files not counted).
"""

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.zootool.store.small_stores import random_block
from zootool.files import sha256_file
from zootool.nets.siren import siren_architecture
from zootool.share.address import Address
from zootool.share.publish import publish
from zootool.share.pull import pull
from zootool.store import open_store, write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.schema import MANIFEST_JSON, ImageSource
from zootool.zoo import verify

MEGABYTES = int(os.environ.get("ZOO_BENCH_MB", "256"))
ROUNDS = int(os.environ.get("ZOO_BENCH_ROUNDS", "3"))
ROOT = Path(__file__).parents[1]

Contender = Callable[[], Path | str]
"""Copies something and says where it is now."""

_HTTP = """
import sys, time
from pathlib import Path
from tests.zootool.servers import ServedFolder, serving
with serving(ServedFolder(Path(sys.argv[1]))) as served:
    print(served.url, flush=True)
    time.sleep(36000)
"""
_S3 = """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
time.sleep(36000)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x.zoo, and one.bin of the same size."""
    root = tmp_path_factory.mktemp("sharing")
    architecture = siren_architecture(2, (32, 32), 1)
    block = random_block(architecture, MEGABYTES * 1_000_000 // (4 * (architecture.num_edges + architecture.num_nodes)))
    source = SourceInfo("x", "siren", (ImageSource("digits", terms="CC BY 4.0"),), licence="CC-BY-4.0")
    write_store(root / "x.zoo", MemorySource(source, (block,)))
    size = sum(path.stat().st_size for path in (root / "x.zoo").rglob("*") if path.is_file())
    (root / "one.bin").write_bytes(os.urandom(size))
    return root


def test_a_folder(benchmark: Any, folder: Path, tmp_path: Path) -> None:
    def publishing() -> Path:
        publish(folder / "x.zoo", str(tmp_path / "published"))
        return tmp_path / "published"

    contenders: dict[str, Contender] = {
        "zoo publish": publishing,
        "zoo pull": lambda: pull(Address(str(folder / "x.zoo")), tmp_path / "pulled").path,
        "shutil.copyfile": lambda: Path(shutil.copyfile(folder / "one.bin", tmp_path / "copied")),
    }
    assert compare("a folder", folder, contenders, "shutil.copyfile", tmp_path) == 3 * ROUNDS
    benchmark.pedantic(contenders["zoo publish"], rounds=1)


def test_http(benchmark: Any, folder: Path, tmp_path: Path) -> None:
    with server(_HTTP, str(folder)) as url:

        def plain() -> Path:
            with urllib.request.urlopen(f"{url}/one.bin") as source, (tmp_path / "plain").open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            return tmp_path / "plain"

        limit = max(1, len(open_store(folder / "x.zoo")) // 10)
        contenders: dict[str, Contender] = {
            "zoo pull": lambda: pull(Address(f"{url}/x.zoo"), tmp_path / "pulled").path,
            "zoo pull --limit, a tenth": lambda: pull(Address(f"{url}/x.zoo"), tmp_path / "part", limit=limit).path,
            "urllib": plain,
        }
        assert compare("http", folder, contenders, "urllib", tmp_path) == 3 * ROUNDS
        benchmark.pedantic(contenders["zoo pull"], rounds=1)


def test_s3(benchmark: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs")
    import_module("moto.server")
    with server(_S3) as url:
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        fs = s3fs.S3FileSystem()
        fs.mkdir("bench")

        def publish_anew() -> str:
            publish(folder / "x.zoo", "s3://bench/x.zoo", anew=True)
            return "s3://bench/x.zoo"

        def put() -> str:
            fs.put_file(str(folder / "one.bin"), "bench/one.bin")
            return "s3://bench/one.bin"

        def get() -> Path:
            fs.get_file("bench/one.bin", str(tmp_path / "got"))
            return tmp_path / "got"

        up: dict[str, Contender] = {"s3fs put_file": put, "zoo publish": publish_anew}
        assert compare("s3, up", folder, up, "s3fs put_file", tmp_path) == 2 * ROUNDS
        down: dict[str, Contender] = {
            "s3fs get_file": get,
            "zoo pull": lambda: pull(Address("s3://bench/x.zoo"), tmp_path / "pulled").path,
        }
        assert compare("s3, down", folder, down, "s3fs get_file", tmp_path) == 2 * ROUNDS
        benchmark.pedantic(down["zoo pull"], rounds=1)


@contextmanager
def server(code: str, *words: str) -> Iterator[str]:
    """A server in a process of its own; gives the URL that it prints first."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def compare(title: str, folder: Path, contenders: dict[str, Contender], reference: str, scratch: Path) -> int:
    """Run all in turn and print rates, the ratio to the reference, and the memory of each.

    Returns how many copies were found to be equal to the original; one that isn't fails.
    """
    size = (folder / "one.bin").stat().st_size / 1e6
    memory: dict[str, float] = {}
    rounds, num_equal = [], 0
    for _ in range(ROUNDS):
        rates = {}
        for name, run in contenders.items():
            left, seconds, used = timed(run)
            assert_same_work(left, folder)
            num_equal += 1
            rates[name] = size / seconds
            memory[name] = max(memory.get(name, 0), used)
            for path in scratch.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        rounds.append(rates)
    print(f"\n| {title}, {size:,.0f} MB | MB/s | times {reference} | MB allocated |\n| --- | --- | --- | --- |")
    for name in contenders:
        ratio = statistics.median(each[name] / each[reference] for each in rounds)
        rate = statistics.median(each[name] for each in rounds)
        print(f"| {name} | {rate:,.0f} | {ratio:.3g} | {memory[name]:,.0f} |")
    return num_equal


def assert_same_work(left: Path | str, folder: Path) -> None:
    """A copied file has the bytes of one.bin; a zoo has the id and the bytes of x.zoo, or is a tenth of it."""
    fs, place = fsspec.core.url_to_fs(str(left), use_listings_cache=False)
    if not fs.exists(f"{place}/{MANIFEST_JSON}"):
        assert digest_of(fs, place) == sha256_file(folder / "one.bin")
        return
    found, original = open_store(left), open_store(folder / "x.zoo")
    if found.info.parent is not None:
        assert found.info.parent == original.zoo_id
        assert len(found) == max(1, len(original) // 10)
        assert verify(left, "deep").passed
        return
    assert found.zoo_id == original.zoo_id
    for path, entry in original.manifest.files.items():
        assert digest_of(fs, f"{place}/{path}") == entry.sha256


def digest_of(fs: Any, place: str) -> str:
    """SHA-256 of a file, read block by block."""
    digest = hashlib.sha256()
    with fs.open(place, "rb") as source:
        while block := source.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def timed(run: Contender) -> tuple[Path | str, float, float]:
    """What it left, seconds, and the most megabytes of own memory of this process meanwhile, above the beginning."""
    done = threading.Event()
    before = anonymous_megabytes()
    most = before

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    left = run()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return left, seconds, most - before


def anonymous_megabytes() -> float:
    """What this process has allocated, without mapped files (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1e3
    return 0.0
