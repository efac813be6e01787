"""The editing benchmark on another device than the CPU: all its tensors meet there, and the numbers are the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dng.bench import editing as run_module
from dng.bench.editing import Editing, EditingResult, EditResult
from dng.bench.harness import measure
from dng.runs.on_zoo import Place
from tests.dng.bench.editing_zoos import METHODS, sirens, tiny_settings, write_sirens
from tests.dng.bench.elsewhere import DEVICE, Elsewhere, lies_there


def test_a_run_on_another_device_stops_goes_on_and_gives_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "method_settings", lambda *given: tiny_settings(*given, steps=2))
    zoo = write_sirens(tmp_path / "x.zoo", sirens(count=30))
    wanted, place = ("quick", METHODS, ["gradient"], 1), Place(DEVICE)

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("NG-GNN") and done == 1:
            raise KeyboardInterrupt

    here = measure(Editing(zoo, *wanted), tmp_path / "here")
    with Elsewhere() as mode:
        with pytest.raises(KeyboardInterrupt):
            measure(Editing(zoo, *wanted, place), tmp_path / "there", stop)
        there = measure(Editing(zoo, *wanted, place), tmp_path / "there")
    assert without_seconds(there) == without_seconds(here)
    assert {"backward", "linear", "sin", "einsum", "softmax"} <= mode.computed_there
    assert "backward" not in mode.computed_here


def without_seconds(result: EditingResult) -> list[EditResult]:
    return [
        replace(found, methods=tuple(replace(method, seconds=0.0) for method in found.methods))
        for found in result.edits
    ]


def test_the_device_refuses_what_a_gpu_would() -> None:
    here = torch.arange(3.0)
    with Elsewhere():
        there = here.to(DEVICE)
        assert (there.device, here.device) == (DEVICE, torch.device("cpu"))
        for refused in (lambda: there + here, lambda: torch.cat([here, there]), lambda: here[there.long()]):
            with pytest.raises(RuntimeError, match=r"two devices|the CPU"):
                refused()
        with pytest.raises(TypeError, match="no numpy array"):
            there.numpy()
        assert lies_there(there * 2 + torch.tensor(1.0))
        assert lies_there(there[here.long()])
        assert lies_there(torch.zeros(2, device=there.device))
        assert there.cpu().numpy().tolist() == [0.0, 1.0, 2.0]
        parameter = torch.nn.Linear(2, 2).to(DEVICE).weight
        assert lies_there(parameter)
