import json
import os
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from cli import build
from cli import recipes as recipe
from cli.main import ZooGroup

app = typer.Typer(cls=ZooGroup)
app.add_typer(build.app, name="build")
app.add_typer(recipe.app, name="recipe")

TINY = ["--set", "hidden=8", "--steps", "2", "--limit", "4", "--set", "unit_size=3"]


def zoo(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def build_digits(out: Path, *words: str | Path) -> Result:
    return zoo("build", "siren", "--dataset", "digits", "--out", out, *(words or TINY))


def test_a_build_and_its_second_run_say_what_they_did(tmp_path: Path) -> None:
    first = build_digits(tmp_path / "x")
    assert first.exit_code == 0, first.output
    assert "built 4 of 4 networks" in first.output
    second = build_digits(tmp_path / "x")
    assert "skipped 4 networks that were there already" in second.output
    assert "built 0 of 4 networks" in second.output


def test_json_says_the_same(tmp_path: Path) -> None:
    result = json.loads(build_digits(tmp_path / "x", *TINY, "--json").stdout)
    assert result == {
        "folder": str(tmp_path / "x"),
        "num_networks": 4,
        "built": 4,
        "found": 0,
        "left": 0,
        "num_refitted": 0,
        "num_diverged": 0,
    }


def test_shares_leave_the_rest_to_others(tmp_path: Path) -> None:
    assert "left to other shares: 1 networks" in build_digits(tmp_path / "x", *TINY, "--unit", "0/2").output
    status = json.loads(zoo("build", "siren", "--status", "--out", tmp_path / "x", "--json").stdout)
    assert (status["done"], status["waiting"], status["num_networks_done"]) == (1, 1, 3)
    assert "1 done, 0 running, 0 failed, 1 waiting" in zoo("build", "siren", "--status", "--out", tmp_path / "x").output


def test_a_plan_builds_nothing(tmp_path: Path) -> None:
    plan = build_digits(tmp_path / "x", *TINY, "--plan")
    assert "networks  4" in plan.output
    assert json.loads(build_digits(tmp_path / "x", *TINY, "--plan", "--json").stdout)["num_units"] == 2
    assert not (tmp_path / "x").exists()


def test_the_default_folder_is_named_after_set_and_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert zoo("build", "siren", "--dataset", "digits", *TINY).exit_code == 0
    assert (tmp_path / "zoos" / "digits-inr-nfn" / "recipe.yaml").is_file()


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (["--dataset", "digit"], 2, "did you mean 'digits'"),
        (["--dataset", "digits", "--limit", "-1"], 2, "must not be negative"),
        (["--dataset", "digits", "--limit", "1,2"], 2, "neither one number nor three"),
        (["--dataset", "digits", "--recipe", "inr-nfm"], 2, "did you mean 'inr-nfn'"),
        (["--dataset", "digits", "--set", "step=3"], 2, "did you mean 'steps'"),
        (["--dataset", "digits", "--lr", "-1", "--steps", "0"], 2, "2 problems"),
        (["--dataset", "digits", "--init", "shared", "--copies", "1"], 2, "set copies to 0"),
        (["--dataset", "digits", "--unit", "2/2"], 2, "--unit"),
        (["--dataset", "digits", "--workers", "0"], 2, "--workers"),
        (["--dataset", "digits", "--device", "tpu"], 2, "unknown device"),
        ([], 2, "--dataset is missing"),
        (["--status"], 2, "--dataset is missing"),
        (["--dataset", "digits", "--status"], 4, "recipe.yaml"),
    ],
)
def test_wrong_words_are_refused_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], exit_code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = zoo("build", "siren", *words)
    assert result.exit_code == exit_code, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_and_another_recipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = build_digits(tmp_path)
    assert (result.exit_code, "notes.txt" in result.output) == (2, True)
    build_digits(tmp_path / "x")
    result = build_digits(tmp_path / "x", *TINY, "--seed", "1")
    assert (result.exit_code, "seed = 0" in result.output) == (2, True)


def test_a_truncated_image_file_is_bad_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(bytes(1000))
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    result = zoo("build", "siren", "--dataset", "cifar10", "--out", tmp_path / "x")
    assert result.exit_code == 3, result.output
    assert "Traceback" not in result.output


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA is not set: no prefix of CIFAR-10 here")
def test_a_part_of_an_image_set_is_named_and_recorded(tmp_path: Path) -> None:
    result = zoo("build", "siren", "--dataset", "cifar10", "--out", tmp_path / "x", *TINY, "--copies", "0")
    assert result.exit_code == 0, result.output
    assert "cifar10 is here in part" in result.output
    assert "is_partial: true" in (tmp_path / "x" / "recipe.yaml").read_text()


def test_every_command_shows_an_example() -> None:
    commands = (["build", "siren"], ["build", "cnn"], ["build", "vit"])
    for words in (*commands, ["recipe", "ls"], ["recipe", "show"], ["recipe", "validate"]):
        assert "Example: zoo " + " ".join(words) in re.sub(r"\s+", " ", zoo(*words, "--help").output)


def test_recipes_are_listed_shown_and_checked(tmp_path: Path) -> None:
    assert "inr-nfn" in zoo("recipe", "ls").output
    shown = json.loads(zoo("recipe", "show", "inr-nfn", "--dataset", "digits", "--json").stdout)
    assert (shown["copies"], shown["hidden"], shown["omega_0"]) == (0, [32, 32], 30.0)
    assert "omega_0: 30.0" in zoo("recipe", "show", "inr-nfn").output
    assert zoo("recipe", "validate").exit_code == 0
    broken = tmp_path / "datasets.yaml"
    broken.write_text("image_sets: {}\nrecipes:\n  mine: {step: 7, lr: -1}\n")
    result = zoo("recipe", "validate", "--catalog", broken)
    assert result.exit_code == 3
    assert "did you mean 'steps'" in result.output
    assert "lr:" in result.output


TINY_RUNS = ["--runs", "3", "--set", "unit_size=2", "--set", "train_images=40", "--set", "test_images=20"]
CLASSIFIERS = pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("cnn", ["--set", "checkpoints=0,1", "--set", "num_convolutions=1,1"]),
        ("vit", ["--set", "epochs=0", "--set", "dim=8", "--set", "depth=1"]),
    ],
)


@CLASSIFIERS
def test_classifiers_are_built_found_planned_and_counted(tmp_path: Path, kind: str, parts: list[str]) -> None:
    words = ["build", kind, "--dataset", "digits", "--out", tmp_path / "x", *TINY_RUNS, *parts]
    plan = json.loads(zoo(*words, "--plan", "--json").stdout)
    assert (plan["num_networks"], plan["num_units"], plan["num_images"]) == (3, 2, 60)
    assert "networks  3 of" in zoo(*words, "--plan").output
    assert not (tmp_path / "x").exists()
    first = zoo(*words, "--unit", "0/2")
    assert "built 2 of 3 networks" in first.output, first.output
    assert f"`zoo build {kind} --status --out {tmp_path / 'x'}`" in first.output
    assert "2 of 3 networks" in zoo("build", kind, "--status", "--out", tmp_path / "x").output
    second = json.loads(zoo(*words, "--workers", "1", "--json").stdout)
    assert (second["built"], second["found"], second["left"]) == (1, 2, 0)


def test_the_default_folder_of_classifiers_is_named_after_set_and_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert zoo("build", "cnn", "--dataset", "digits", *TINY_RUNS, "--set", "checkpoints=0").exit_code == 0
    assert (tmp_path / "zoos" / "digits-small-cnn" / "recipe.yaml").is_file()


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (["cnn", "--dataset", "digits", "--runs", "0"], 2, "--runs must be at least 1"),
        (["cnn", "--dataset", "digits", "--set", "optimisers=adamax"], 2, "optimisers"),
        (["cnn", "--dataset", "digits", "--set", "optimizers=adam"], 2, "did you mean 'optimisers'"),
        (["cnn", "--dataset", "digits", "--set", "strides=2"], 2, "doesn't fit images of 8 x 8"),
        (["cnn", "--dataset", "digits", "--set", "kernels=9"], 2, "max_edges_per_pair = 49"),
        (["cnn", "--dataset", "digits", "--recipe", "simple-vit"], 2, "zoo build vit"),
        (["vit", "--dataset", "digits", "--recipe", "small-cnm"], 2, "did you mean 'small-cnn'"),
        (["vit", "--dataset", "digits", "--set", "patch_size=3"], 2, "patches of 3 x 3"),
        (["siren", "--dataset", "digits", "--recipe", "small-cnn"], 2, "zoo build cnn"),
        (["vit", "--dataset", "digits", "--unit", "3/2"], 2, "--unit"),
        (["vit", "--dataset", "digits", "--workers", "0"], 2, "--workers"),
        (["cnn"], 2, "--dataset is missing"),
        (["cnn", "--dataset", "digits", "--status"], 4, "recipe.yaml"),
    ],
)
def test_wrong_words_for_classifiers_are_refused_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], exit_code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = zoo("build", *words)
    assert result.exit_code == exit_code, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_recipes_of_every_kind_are_listed_and_shown() -> None:
    listed = json.loads(zoo("recipe", "ls", "--json").stdout)["recipes"]
    assert {"inr-nfn", "small-cnn", "wild-park", "wild-park-plus", "simple-vit"} <= set(listed)
    shown = json.loads(zoo("recipe", "show", "small-cnn", "--dataset", "digits", "--json").stdout)
    assert (shown["kind"], shown["strides"], shown["checkpoints"][-1]) == ("cnn", [1], 86)
