"""`--check`: what a checkpoint is taken for, held against the code that made it."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from zootool import open_zoo

_CODE = """
from torch import nn
def relu():
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
def tanh():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "theirs.py").write_text(_CODE, encoding="utf-8")
    (tmp_path / "nets").mkdir()
    for seed in range(3):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        torch.save({"state_dict": network.state_dict()}, tmp_path / "nets" / f"n{seed}.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def zoo(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "400"})
    return result.exit_code, result.output


@pytest.mark.parametrize("command", [("show", "nets"), ("convert", "nets", "x.zoo")])
def test_another_function_is_refused_with_what_was_assumed(folder: Path, command: tuple[str, ...]) -> None:
    code, text = zoo(*command, "--check", "theirs.py:tanh")
    assert code == 3
    assert "n0.pt: outputs differ from those of theirs.py:tanh" in text
    assert "activations are taken for relu" in text
    assert "--architecture" in text
    assert not (folder / "x.zoo").exists()


def test_what_was_declared_rightly_is_noted_in_place_of_assumptions(folder: Path) -> None:
    (folder / "net.yaml").write_text("like: chain\nactivation: tanh\n", encoding="utf-8")
    words = ("convert", "nets", "x.zoo", "--architecture", "net.yaml", "--check", f"{folder}/theirs.py:tanh")
    code, text = zoo(*words)
    assert code == 0, text
    info = open_zoo("x.zoo").info
    assert info.assumptions == {}
    assert any("outputs equal those of theirs.py:tanh" in note for note in info.provenance["notes"])
    assert not any(line.startswith("assumed") for line in zoo("info", "x.zoo")[1].splitlines())


def test_without_a_check_the_assumptions_stay(folder: Path) -> None:
    assert zoo("convert", "nets", "x.zoo")[0] == 0
    (assumed,) = open_zoo("x.zoo").info.assumptions.values()
    assert "activations are taken for relu" in assumed
    assert any(line.startswith("assumed") for line in zoo("info", "x.zoo")[1].splitlines())


def test_a_name_that_leads_nowhere_is_wrong_usage(folder: Path) -> None:
    code, text = zoo("show", "nets", "--check", "theirs.py:relru")
    assert code == 2
    assert "did you mean 'relu'" in text
