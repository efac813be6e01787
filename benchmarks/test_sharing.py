"""How fast zoos are published and pulled, against the plain client copying one file of the same size.

Both run in turn in every round against the same server, a process of its own on this machine; a ratio is the median
over the rounds, above 1 where zootool is faster. zootool's times include verifying the store (publish) and checking
every file (pull). `pytest benchmarks/test_sharing.py --benchmark-only -s` prints the table and the most memory that
was allocated at once (mapped files not counted).
"""

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
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.zootool.store.small_stores import random_block
from zootool.nets.siren import siren_architecture
from zootool.share.address import Address
from zootool.share.publish import publish
from zootool.share.pull import pull
from zootool.share.pull_part import pull_part
from zootool.store import write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.schema import ImageSource

MEGABYTES = int(os.environ.get("ZOO_BENCH_MB", "256"))
ROUNDS = int(os.environ.get("ZOO_BENCH_ROUNDS", "3"))
ROOT = Path(__file__).parents[1]

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
    numbers = count()
    contenders: dict[str, Callable[[], object]] = {
        "zoo publish": lambda: publish(folder / "x.zoo", str(tmp_path / f"p{next(numbers)}")),
        "zoo pull": lambda: pull(Address(str(folder / "x.zoo")), tmp_path / f"q{next(numbers)}"),
        "shutil.copyfile": lambda: shutil.copyfile(folder / "one.bin", tmp_path / f"r{next(numbers)}"),
    }
    compare("a folder", folder, contenders, "shutil.copyfile", tmp_path)
    benchmark.pedantic(contenders["zoo publish"], rounds=1)


def test_http(benchmark: Any, folder: Path, tmp_path: Path) -> None:
    numbers = count()
    with server(_HTTP, str(folder)) as url:

        def plain() -> None:
            with (
                urllib.request.urlopen(f"{url}/one.bin") as source,
                (tmp_path / f"r{next(numbers)}").open("wb") as sink,
            ):
                shutil.copyfileobj(source, sink, 1 << 20)

        contenders: dict[str, Callable[[], object]] = {
            "zoo pull": lambda: pull(Address(f"{url}/x.zoo"), tmp_path / f"q{next(numbers)}"),
            "zoo pull --limit, a tenth": lambda: pull_part(
                Address(f"{url}/x.zoo"), tmp_path / f"t{next(numbers)}", limit=MEGABYTES * 20
            ),
            "urllib": plain,
        }
        compare("http", folder, contenders, "urllib", tmp_path)
        benchmark.pedantic(contenders["zoo pull"], rounds=1)


def test_s3(benchmark: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs")
    import_module("moto.server")
    numbers = count()
    with server(_S3) as url:
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        fs = s3fs.S3FileSystem()
        fs.mkdir("bench")

        def publish_anew() -> None:
            if fs.exists("bench/x.zoo"):
                fs.rm("bench/x.zoo", recursive=True)
            publish(folder / "x.zoo", "s3://bench/x.zoo")

        contenders: dict[str, Callable[[], object]] = {
            "s3fs put_file": lambda: fs.put_file(str(folder / "one.bin"), "bench/one.bin"),
            "zoo publish": publish_anew,
        }
        compare("s3, up", folder, contenders, "s3fs put_file", tmp_path)
        contenders = {
            "s3fs get_file": lambda: fs.get_file("bench/one.bin", str(tmp_path / f"r{next(numbers)}")),
            "zoo pull": lambda: pull(Address("s3://bench/x.zoo"), tmp_path / f"q{next(numbers)}"),
        }
        compare("s3, down", folder, contenders, "s3fs get_file", tmp_path)
        benchmark.pedantic(contenders["zoo pull"], rounds=1)


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


def compare(
    title: str, folder: Path, contenders: dict[str, Callable[[], object]], reference: str, scratch: Path
) -> None:
    """Run all in turn and print rates, the ratio to the reference, and the memory of each."""
    size = (folder / "one.bin").stat().st_size / 1e6
    memory: dict[str, float] = {}
    rounds = []
    for _ in range(ROUNDS):
        rates = {}
        for name, run in contenders.items():
            seconds, used = timed(run)
            rates[name] = size / seconds
            memory[name] = max(memory.get(name, 0), used)
            for left in scratch.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        rounds.append(rates)
    print(f"\n| {title}, {size:,.0f} MB | MB/s | times {reference} | MB allocated |\n| --- | --- | --- | --- |")
    for name in contenders:
        ratio = statistics.median(each[name] / each[reference] for each in rounds)
        rate = statistics.median(each[name] for each in rounds)
        print(f"| {name} | {rate:,.0f} | {ratio:.3g} | {memory[name]:,.0f} |")


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and the most megabytes of memory of its own that this process had meanwhile, above the beginning."""
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
    run()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return seconds, most - before


def anonymous_megabytes() -> float:
    """What this process has allocated, without mapped files (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1e3
    return 0.0
