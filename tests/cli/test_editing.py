"""`zoo bench editing` as a person and a machine meet it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from dng.bench import editing as run_module
from tests.dng.bench.cnn_zoos import NARROW
from tests.dng.bench.editing_zoos import sirens, tiny_settings, write_sirens


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", "editing", *map(str, words)])


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    write_sirens(tmp_path / "x.zoo", sirens())
    return tmp_path / "x.zoo"


def test_the_command_prints_tables_and_scores(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "method_settings", lambda *given: tiny_settings(*given, steps=2))
    command = (
        "--zoo",
        zoo,
        "--model",
        "nfn-np,dng",
        "--edit",
        "sharpen",
        "--seeds",
        1,
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    )
    first = run(*command, "--json")
    assert first.exit_code == 0, first.output
    value = json.loads(first.stdout)
    assert not value["skipped"]
    assert set(value["scores"]["sharpen"]) == {"no-edit", "edit-of-the-rendering", "nfn-np", "dng"}
    assert value["scores"]["sharpen"]["nfn-np"] == value["edits"][0]["methods"][0]["test_mse"][0]
    for name in ("sharpen.png", "report.html", "table.md", "results.json"):
        assert (tmp_path / "out" / name).stat().st_size > 300
    again = run(*command)
    assert again.exit_code == 0, again.output
    for words in (
        "skipped",
        "sharpen: test MSE of edited SIRENs",
        "no edit",
        "NFN (NP)",
        "DNG (INR2JLS)",
        "report.html",
    ):
        assert words in again.output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--model", "nfn"), 2, "there is no model 'nfn'"),
        (("--edit", "dilat"), 2, "did you mean 'dilate'"),
        (("--preset", "papre"), 2, "did you mean 'paper'"),
        (("--edit", "dilate,contrast"), 2, "contrast edits coloured images, these have 1 channels"),
        (("--device", "gpu"), 2, "there is no device 'gpu'"),
        (("--device", "cuda:99"), 2, "cuda:99 asks for GPU 99, this machine has"),
        (("--seeds", 0), 2, "--seeds"),
    ],
)
def test_wrong_words_are_named(zoo: Path, tmp_path: Path, words: tuple[object, ...], code: int, message: str) -> None:
    done = run("--zoo", zoo, "--out", tmp_path / "o", *words)
    assert (done.exit_code, message in done.output) == (code, True), done.output
    assert not (tmp_path / "o").exists()


def test_zoos_that_cannot_be_edited_are_named_with_the_next_step(tmp_path: Path) -> None:
    write_sirens(tmp_path / "cnns.zoo", sirens(NARROW))
    done = run("--zoo", tmp_path / "cnns.zoo")
    assert done.exit_code == 3
    assert "cnns can't be edited: its networks aren't SIRENs" in done.stderr
    assert "zoo build siren" in done.stderr
    assert run("--zoo", tmp_path / "nowhere.zoo").exit_code == 4


def test_the_help_has_an_example() -> None:
    assert "Example: zoo bench editing" in run("--help").output
