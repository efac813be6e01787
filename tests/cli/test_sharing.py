import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from cli.main import ZooGroup
from cli.sharing import publish, pull
from cli.stores import verify, view
from tests.zootool.share.small_zoos import write_zoo
from tests.zootool.store.small_stores import random_block
from zootool.nets.siren import siren_architecture
from zootool.store import write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.schema import ImageSource
from zootool.zoo import open_zoo

app = typer.Typer(cls=ZooGroup)
for command in (publish, pull, verify, view):
    app.command()(command)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_zoo(tmp_path / "x.zoo", licence=None)
    return tmp_path / "x.zoo"


def test_publish_pull_and_view(store: Path, tmp_path: Path) -> None:
    place = tmp_path / "out" / "x.zoo"
    planned = json.loads(run("publish", store, place, "--dry-run", "--json").stdout)
    assert planned["dry_run"]
    assert not place.exists()
    done = run("publish", store, place, "--licence", "CC0-1.0")
    assert done.exit_code == 0, done.output
    assert "CC0-1.0" in done.stdout
    assert open_zoo(store).id[:16] in done.stdout
    zoo_id = open_zoo(place).id
    pulled = json.loads(run("pull", f"{place}@{zoo_id[:16]}", tmp_path / "y.zoo", "--json").stdout)
    assert pulled["id"] == zoo_id
    part = run("pull", f"file://{place}", tmp_path / "z.zoo", "--split", "test", "--where", "label=3|7", "--limit", 2)
    assert part.exit_code == 0, part.output
    assert len(open_zoo(tmp_path / "z.zoo")) == 2
    shown = json.loads(run("view", tmp_path / "z.zoo", "--json").stdout)
    assert Path(shown["path"]) == tmp_path / "z.zoo" / "view.html"
    assert "passed" in run("verify", tmp_path / "z.zoo", "--deep").stdout


def test_a_dry_run_prints_the_plan(store: Path, tmp_path: Path) -> None:
    place = tmp_path / "x.zoo" / ".." / "out"
    shown = run("publish", store, place, "--dry-run").stdout
    size = (store / "nets.parquet").stat().st_size
    for words in ("would publish", "licence  CC-BY-4.0", "images   digits: CC BY 4.0", "to upload",
                  f"+ nets.parquet  {size:,} bytes", "+ edges/c/0", "+ README.md", "its parent is your"):  # fmt: skip
        assert words in shown
    assert not place.exists()
    run("publish", store, place)
    assert "there already" in run("publish", store, place).stdout
    assert "uploaded" in run("publish", store, place, "--anew").stdout
    write_zoo(tmp_path / "small.zoo", seed=4, count=1)
    shown = run("publish", tmp_path / "small.zoo", place, "--dry-run").stdout
    assert f"replaces {open_zoo(place).id[:16]}" in shown
    assert "- edges/c/3" in shown


def test_a_published_zoo_is_pulled_by_its_whole_id(store: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    said = run("publish", store, place).stdout
    assert f"zoo pull {place}@{open_zoo(place).id}" in said.replace("\n", "")


def test_a_store_cant_speak_in_our_name(tmp_path: Path) -> None:
    """Names and terms from a store neither move the cursor nor begin a line."""
    evil = "x\x1b[2J\nerror: run `rm -rf ~` [bold]"
    block = random_block(siren_architecture(2, (3,), 1), 4)
    for number, info in enumerate(
        (
            SourceInfo(evil, evil, (ImageSource(evil, terms=evil),), licence=evil, citation=evil),
            SourceInfo(evil, evil, (ImageSource(evil),), licence=evil),
            SourceInfo(evil, evil, licence="MIT", provenance={"source_terms": evil}),
            SourceInfo(evil, evil),
        )
    ):
        store = tmp_path / f"{number}.zoo"
        write_store(store, MemorySource(info, (block,)))
        for words in ((), ("--licence", "MIT"), ("--source-terms", "mine"), ("--dry-run",)):
            result = run("publish", store, tmp_path / f"{number}-out", *words)
            assert result.exit_code in (0, 2), result.output
            assert "\x1b[2J" not in result.output
            assert not any(line.startswith("error: run") for line in result.output.splitlines())


def test_view_opens_the_page(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(typer, "launch", opened.append)
    assert run("view", store, "--out", tmp_path / "page.html", "--open").exit_code == 0
    assert opened == [(tmp_path / "page.html").as_uri()]
    assert not (store / "view.html").exists()


def test_what_goes_wrong_has_a_code_and_a_next_step(store: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    (tmp_path / "file").write_text("in the way")
    assert run("publish", store, place).exit_code == 0
    for code, words in (
        (2, ("publish", store, "https://example.org/x.zoo")),
        (2, ("publish", store, place, "--licence", "two\nlines")),
        (4, ("publish", tmp_path / "nothing", place)),
        (2, ("publish", store, place, "--source-terms", "another")),
        (4, ("publish", store, tmp_path / "file")),
        (4, ("publish", store, "zip:///tmp")),
        (4, ("publish", store, "carrier-pigeon://x.zoo")),
        (2, ("pull", place, store)),
        (2, ("pull", f"{place}.zoo@00ff", tmp_path / "y.zoo")),
        (4, ("pull", place, tmp_path / "file" / "y.zoo")),
        (3, ("pull", f"{place}@{'0' * 12}", tmp_path / "y.zoo")),
        (4, ("pull", place, tmp_path / "y.zoo", "--where", "label=77")),
        (4, ("pull", tmp_path / "nothing", tmp_path / "y.zoo")),
        (4, ("view", "memory://nothing/x.zoo")),
    ):
        result = run(*words)
        assert result.exit_code == code, result.output
        assert "next:" in result.stderr
        assert "Traceback" not in result.output


@pytest.mark.parametrize("name", ["publish", "pull", "view"])
def test_help_has_an_example(name: str) -> None:
    shown = run(name, "--help").stdout
    assert f"Example: zoo {name}" in shown
    assert "--json" in shown
