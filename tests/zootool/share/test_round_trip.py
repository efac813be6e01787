"""From one computer to another and through a benchmark: a folder, S3 and a web server, with everything going wrong."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dng.bench.harness import measure
from dng.bench.inr_classification import INRClassification
from tests.dng.bench.zoos import TINY, build_digits_zoo
from tests.zootool.servers import ServedFolder, serving
from tests.zootool.share.faulty_s3 import Faults
from tests.zootool.share.killed import killed
from tests.zootool.share.small_zoos import contents, flipped
from zootool.errors import IntegrityError
from zootool.share.address import Address
from zootool.share.publish import publish
from zootool.share.pull import pull
from zootool.store.schema import DERIVED_FILES
from zootool.zoo import Zoo, open_zoo, verify

QUICK = replace(
    TINY,
    reconstruction=replace(TINY.reconstruction, steps=4, validate_every=2),
    classification=replace(TINY.classification, steps=4, validate_every=2),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 real SIRENs of digits, converted."""
    folder = tmp_path_factory.mktemp("built")
    build_digits_zoo(folder, limit=(40, 20, 20), steps=150)
    return folder / "digits.zoo"


def accuracy(zoo: Zoo, folder: Path) -> float:
    return measure(INRClassification(zoo, "quick", QUICK), folder).test_accuracy


@pytest.fixture(scope="module")
def expected(built: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """What the benchmark says of the zoo where it was built."""
    return accuracy(open_zoo(built), tmp_path_factory.mktemp("expected"))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[ServedFolder]:
    (tmp_path / "www").mkdir()
    with serving(ServedFolder(tmp_path / "www")) as served:
        yield served


def check_pulled(folder: Path, built: Path, published: Path | str, expected: float, runs: Path) -> None:
    """The same zoo in every byte but the terms; it renders its images, and the benchmark says the same of it."""
    assert verify(folder, "functional").passed
    own, zoo = contents(built), open_zoo(folder)
    assert {path for path, content in contents(folder).items() if own.get(path) != content} == {
        "zoo.json",
        "manifest.json",
    }
    assert zoo.info.parent == open_zoo(built).id
    assert zoo.id == open_zoo(published).id
    assert accuracy(zoo, runs) == expected


def test_a_folder(built: Path, expected: float, tmp_path: Path) -> None:
    out = tmp_path / "out" / "digits.zoo"
    killed("publish", built, out, 5)
    with pytest.raises(IntegrityError, match="never finished"):
        pull(Address(str(out)), tmp_path / "y.zoo")
    plan = publish(built, str(out))
    shard = out / "edges" / "c" / "0"
    right = shard.read_bytes()
    shard.write_bytes(flipped(right))
    with pytest.raises(IntegrityError, match="edges/c/0 has another content"):
        pull(Address(str(out)), tmp_path / "z.zoo")
    shard.write_bytes(right)
    killed("pull", out, tmp_path / "y.zoo", 1)
    pull(Address(str(out), plan.zoo_id), tmp_path / "y.zoo")
    check_pulled(tmp_path / "y.zoo", built, out, expected, tmp_path / "runs")


def test_s3(built: Path, expected: float, s3: str, s3_server: Faults, tmp_path: Path) -> None:
    url = f"{s3}/digits.zoo"
    killed("publish", built, url, 5)
    with pytest.raises(IntegrityError, match="never finished"):
        pull(Address(url), tmp_path / "y.zoo")
    s3_server.statuses = {"PUT": [500, 429], "edges/c/0": [503, 429]}
    plan = publish(built, url)
    killed("pull", url, tmp_path / "y.zoo", 1)
    s3_server.statuses = {"GET": [500, 429], "HEAD": [503]}
    s3_server.cuts = {"zoo.json": [100, 0], "nodes/c/0": [17]}
    pull(Address(url, plan.zoo_id), tmp_path / "y.zoo")
    assert not any([*s3_server.statuses.values(), *s3_server.cuts.values()])
    check_pulled(tmp_path / "y.zoo", built, url, expected, tmp_path / "runs")


def test_http(built: Path, expected: float, web: ServedFolder, tmp_path: Path) -> None:
    url = f"{web.url}/digits.zoo"
    plan = publish(built, str(web.folder / "digits.zoo"))
    web.statuses = {"digits.zoo/edges/c/0": [429, 500], "digits.zoo/manifest.json": [503]}
    web.cuts = {"digits.zoo/edges/c/0": [7, 0], "digits.zoo/nets.parquet": [100]}
    web.slips = {"digits.zoo/nodes/c/0": [flipped]}
    killed("pull", url, tmp_path / "y.zoo", 1)
    pull(Address(url, plan.zoo_id), tmp_path / "y.zoo")
    assert not any([*web.statuses.values(), *web.cuts.values(), *web.slips.values()])
    check_pulled(tmp_path / "y.zoo", built, url, expected, tmp_path / "runs")


@pytest.mark.parametrize("place", ["folder", "s3", "http"])
def test_a_part_of_it_can_be_benched_too(
    built: Path, place: str, request: pytest.FixtureRequest, web: ServedFolder, tmp_path: Path
) -> None:
    if place == "s3":
        url = written = f"{request.getfixturevalue('s3')}/digits.zoo"
    else:
        written = str(web.folder / "digits.zoo")
        url = f"{web.url}/digits.zoo" if place == "http" else written
    publish(built, written)
    pull(Address(url), tmp_path / "part.zoo", where="label=0|1|2", columns=["label", "split", "source_index", "psnr"])
    part = open_zoo(tmp_path / "part.zoo")
    assert part.info.parent == open_zoo(url).id
    assert verify(tmp_path / "part.zoo", "functional").passed
    whole = open_zoo(built).select(label=[0, 1, 2])
    assert accuracy(part, tmp_path / "a") == accuracy(whole, tmp_path / "b")
    assert not set(DERIVED_FILES) & set(contents(tmp_path / "part.zoo"))
