import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from cli.main import ZooGroup
from cli.publish import publish
from cli.pull import pull
from cli.verify import verify
from cli.view import view
from tests.zootool.share.small_zoos import write_zoo
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


def test_what_goes_wrong_has_a_code_and_a_next_step(store: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    assert run("publish", store, place).exit_code == 0
    for code, words in (
        (2, ("publish", store, "https://example.org/x.zoo")),
        (2, ("publish", store, place, "--licence", "two\nlines")),
        (4, ("publish", tmp_path / "nothing", place)),
        (2, ("pull", place, store)),
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
