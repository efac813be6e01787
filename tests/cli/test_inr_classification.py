"""`zoo bench inr-classification` as a person and a machine meet it: the two-stage methods and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.dng.bench.smooth_sirens import TINY, smooth_zoo


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    smooth_zoo(folder / "x.zoo")
    return folder / "x.zoo"


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", "inr-classification", *map(str, words)])


def test_inr2array_is_trained_scored_and_found_again(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dng.runs import two_stage

    short = replace(TINY, reconstruction=replace(TINY.reconstruction, steps=2))
    monkeypatch.setitem(two_stage.INR2ARRAY_PRESETS, "demo", short)
    monkeypatch.chdir(tmp_path)
    first = run("--zoo", zoo, "--model", "inr2array", "--seed", 1, "--json")
    assert first.exit_code == 0, first.output
    value = json.loads(first.stdout)
    assert (value["model"], value["preset"], value["seed"], value["skipped"]) == ("inr2array", "demo", 1, False)
    assert value["folder"] == "runs/x-demo-inr2array-1"
    again = run("--zoo", zoo, "--model", "inr2array", "--seed", 1)
    assert again.exit_code == 0, again.output
    for words in ("skipped", f"test accuracy {value['test_accuracy']:.1%}", "reconstruction error"):
        assert words in again.output
    other = run("--zoo", zoo, "--seed", 1, "--out", value["folder"])
    assert other.exit_code == 2
    assert "model=inr2array, this one has model=inr2jls" in " ".join(other.output.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "inr2aray"), "there is no method 'inr2aray'"),
        (("--model", "dng,inr2aray"), "did you mean 'inr2array'"),
        (("--model", "ng-gn"), "did you mean 'ng-gnn'"),
        (("--model", "dng,inr2array"), "run it alone: zoo bench inr-classification --zoo ZOO --model inr2array"),
        (("--model", "inr2jls,dng"), "inr2jls learns in two stages, and can't be compared at the others' budget"),
        (("--model", "inr2array", "--preset", "dmeo"), "did you mean 'demo'"),
        (("--model", "inr2array", "--ablation", "noise"), "INR2ARRAY has no ablation 'noise'"),
        (("--model", "inr2array", "--seeds", 2), "no comparison: no --seeds, --budget or --steps"),
        (("--model", "inr2jls", "--steps", 9), "no comparison: no --seeds, --budget or --steps"),
        (("--budget", 9000), "no comparison: no --seeds, --budget or --steps"),
        (("--model", "dng", "--seed", 2), "a comparison takes no --control, --ablation or --seed"),
    ],
)
def test_wrong_words_are_named(zoo: Path, tmp_path: Path, words: tuple[object, ...], message: str) -> None:
    result = run("--zoo", zoo, "--out", tmp_path / "out", *words)
    assert result.exit_code == 2
    shown = "".join(result.output.split())
    assert "".join(message.replace("ZOO", str(zoo)).split()) in shown
    assert not (tmp_path / "out").exists()


def test_the_help_says_what_runs_alone() -> None:
    shown = " ".join(run("--help").output.split())
    for words in ("--model", "inr2array", "each runs alone"):
        assert words in shown
