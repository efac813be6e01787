import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli.demo
from cli.main import app
from tests.dng.bench.zoos import TINY


@pytest.fixture(autouse=True)
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo with a preset that trains for seconds; everything else is what a newcomer runs."""
    from dng.runs import two_stage as presets

    monkeypatch.setitem(presets.CLASSIFICATION_PRESETS, "demo", TINY)
    monkeypatch.setitem(cli.demo.DEMO_RECIPE, "steps", 200)


def test_the_demo_leaves_results_and_a_report_and_then_skips(tmp_path: Path) -> None:
    first = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo"), "--json"])
    assert first.exit_code == 0, first.output
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert results["num_networks"] == 1797
    assert results["initialisation"] == "shared"
    assert 0.2 < results["test_accuracy"] <= 1
    assert results["psnr_mean"] > 5
    assert results["seconds"] > 0
    assert json.loads(first.stdout) == results
    assert (tmp_path / "demo" / "report.html").stat().st_size < 1_000_000

    second = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo")])
    assert second.exit_code == 0, second.output
    assert second.output.count("skipped") == 3
    assert json.loads((tmp_path / "demo" / "results.json").read_text()) == results
