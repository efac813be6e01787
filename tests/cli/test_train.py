"""Training and using a run from the command line, on one process and on two."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from dng.training.metrics import read_metrics
from tests.dng.bench.zoos import build_digits_zoo
from tests.zootool.store.small_stores import reseal

ROOT = Path(__file__).parents[2]
SMALL = ["encoder.dim=8", "encoder.num_frequencies=4", "batch_size=9", "validate_every=6", "lr=1e-2"]
SETTINGS = [word for setting in SMALL for word in ("--set", setting)] + ["--steps", "18"]
INR2JLS = [*SETTINGS, "--set", "latent_dim=8", "--set", "hidden_dim=16", "--set", "decoder_dim=8"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("zoo")
    build_digits_zoo(folder, limit=(50, 20, 20), steps=60)
    return str(folder / "digits.zoo")


@pytest.fixture(scope="module")
def inr2jls(zoo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "inr2jls"
    assert "validation MSE" in invoke("train", "inr2jls", "--zoo", zoo, "--out", str(out), *INR2JLS)
    return out


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_a_finished_run_says_so(zoo: str, inr2jls: Path) -> None:
    shown = invoke("train", "inr2jls", "--zoo", zoo, "--out", str(inr2jls), *INR2JLS)
    assert "skipped" in shown
    again = json.loads(
        CliRunner().invoke(app, ["train", "inr2jls", "--zoo", zoo, "--out", str(inr2jls), *INR2JLS, "--json"]).stdout
    )
    assert again["skipped"] is True
    assert again["best_score"] == min(line["score"] for line in read_metrics(inr2jls))


def test_words_come_behind_what_an_ablation_changes(zoo: str, tmp_path: Path) -> None:
    words = [*SETTINGS[:-1], "3", "--set", "ablation=inr-inr", "--set", "code_dim=8", "--set", "decoding_dim=8"]
    invoke("train", "inr2jls", "--zoo", zoo, "--out", str(tmp_path), *words, "--set", "hidden_dim=8")
    assert json.loads((tmp_path / "train.json").read_text())["steps"] == 3
    assert json.loads((tmp_path / "model.json").read_text())["kind"] == "weight-decoder"


def test_two_processes_draw_the_curve_of_one(zoo: str, inr2jls: Path, tmp_path: Path) -> None:
    # Batches of 9 among 50 networks: neither batches nor epochs can be halved.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cli.main"]
    command += ["train", "inr2jls", "--zoo", zoo, "--out", str(tmp_path / "two"), *INR2JLS]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation MSE") == 1
    one, two = read_metrics(inr2jls), read_metrics(tmp_path / "two")
    assert len(one) == 3
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_a_trained_run_is_used(zoo: str, inr2jls: Path, tmp_path: Path) -> None:
    encoder = str(tmp_path / "encoder")
    shown = invoke("train", "encoder", "--zoo", zoo, "--target", "label", "--out", encoder, *SETTINGS)
    assert "validation accuracy" in shown
    assert "90 networks" in invoke("predict", zoo, "--model", encoder, "--out", str(tmp_path / "p.parquet"))
    assert "90 codes" in invoke("embed", zoo, "--model", str(inr2jls), "--out", str(tmp_path / "codes"))
    images = ["reconstruct", zoo, "--model", str(inr2jls), "--out", str(tmp_path / "images"), "--limit", "7", "--json"]
    assert json.loads(CliRunner().invoke(app, images).stdout)["num_images"] == 7
    assert len(list((tmp_path / "images" / "images").glob("*.png"))) == 7


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("train", "inr2jls", "--zoo", "nowhere.zoo"), 4, "nowhere.zoo"),
        (("train", "inr2jls", "--zoo", "ZOO", "--preset", "papr"), 2, "did you mean 'paper'"),
        (("train", "inr2jls", "--zoo", "ZOO", "--device", "tpu-7"), 2, "no device"),
        (("train", "inr2jls", "--zoo", "ZOO", "--set", "encoder.dimm=3"), 2, "encoder.dim"),
        (("train", "inr2jls", "--zoo", "ZOO", "--out", "RUN"), 2, "holds a run with"),
        (("train", "encoder", "--zoo", "ZOO", "--target", "labl"), 2, "did you mean 'label'"),
        (("predict", "ZOO", "--model", "RUN"), 4, "holds no classifier"),
        (("predict", "ZOO", "--model", "nowhere"), 4, "holds no trained model"),
        (("embed", "ZOO", "--model", "RUN", "--out", "RUN"), 2, "exists"),
        (("embed", "ZOO", "--model", "BROKEN", "--out", "codes"), 3, "kind 'unknown'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_input_is_named(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    zoo: str,
    inr2jls: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.json").write_text('{"kind": "unknown"}')
    places = {"ZOO": zoo, "RUN": str(inr2jls), "BROKEN": str(tmp_path / "broken")}
    shown = invoke(*(places.get(word, word) for word in arguments), code=code)
    assert words in shown
    assert "Traceback" not in shown


def test_without_the_image_set_training_says_what_is_missing(
    zoo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    moved = tmp_path / "moved.zoo"
    shutil.copytree(zoo, moved)
    content = (moved / "zoo.json").read_bytes().replace(b'"name":"digits","num', b'"name":"cifar10","num')
    (moved / "zoo.json").write_bytes(content)
    reseal(moved, "zoo.json")
    shown = invoke("train", "inr2jls", "--zoo", str(moved), "--out", str(tmp_path / "run"), *INR2JLS, code=4)
    assert "CIFAR-10 is not on this computer" in shown


@pytest.mark.parametrize(
    "command", [["train", "inr2jls"], ["train", "encoder"], ["embed"], ["predict"], ["reconstruct"]]
)
def test_help_has_an_example(command: list[str]) -> None:
    assert f"Example: zoo {' '.join(command)}" in CliRunner().invoke(app, [*command, "--help"]).output
