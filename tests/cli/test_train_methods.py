"""Every method trains, predicts and is embedded by the same commands."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import dng
from cli.main import app
from dng.methods.registry import METHODS, READERS
from dng.models.model import Reader
from tests.dng.bench.cnn_zoos import NARROW, write_cnn_zoo
from tests.dng.bench.smooth_sirens import smooth_zoo


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("name", [name for name in READERS if "small-cnn" in METHODS[name].presets])
def test_a_method_is_trained_and_used(name: str, tmp_path: Path) -> None:
    write_cnn_zoo(tmp_path / "x.zoo", NARROW, count=24)
    zoo, run = str(tmp_path / "x.zoo"), str(tmp_path / "run")
    words = ["train", "--model", name, "--zoo", zoo, "--target", "test_accuracy", "--steps", "2", "--out", run]
    assert "validation Kendall's tau" in invoke(*words, "--set", "batch_size=8")
    assert "skipped" in invoke(*words, "--set", "batch_size=8")
    assert "24 networks" in invoke("predict", zoo, "--model", run, "--out", str(tmp_path / "p.csv"))
    assert "24 codes" in invoke("embed", zoo, "--model", run, "--out", str(tmp_path / "codes"))
    model = dng.load(run)
    assert isinstance(model, Reader)
    assert (model.method, model.predicts) == (name, "accuracy")


def test_inr2array_is_trained_and_used(tmp_path: Path) -> None:
    smooth_zoo(tmp_path / "x.zoo")
    zoo, run = str(tmp_path / "x.zoo"), str(tmp_path / "run")
    words = ["train", "--model", "inr2array", "--zoo", zoo, "--out", run, "--steps", "1", "--set", "batch_size=4"]
    assert "validation MSE" in invoke(*words, "--set", "representation.dim=8")
    assert "60 codes" in invoke("embed", zoo, "--model", run, "--out", str(tmp_path / "codes"))
    assert dng.load(run).kind == "inr2array"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "nfn-hp", "--target", "test_accuracy"), "did you mean 'nfn-hnp'"),
        (("--model", "nfn-hnp"), "name the --target"),
        (("dng", "--model", "nft"), "name one model"),
        (
            ("--model", "ng-gnn", "--target", "test_accuracy", "--variant", "inr-augmentd"),
            "did you mean 'inr-augmented'",
        ),
        (("--model", "dng-probes", "--target", "test_accuracy"), "nothing was published for it"),
    ],
)
def test_what_cannot_be_trained_is_named(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    write_cnn_zoo(tmp_path / "x.zoo", NARROW, count=8)
    assert message in invoke("train", *words, "--zoo", str(tmp_path / "x.zoo"), code=2)
