import subprocess
import sys
from pathlib import Path

import pytest

from tests.zootool.store.small_stores import SMALL_CHUNKS, write_small_store
from tests.zootool.store.unit_folders import write_unit_folder
from zootool.conversion.convert import convert

ROOT = Path(__file__).parents[3]


def run_script(name: str, *arguments: object) -> str:
    command = [sys.executable, "-m", f"tests.zootool.store.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_convert_killed_at_any_boundary_leaves_no_half_store(tmp_path: Path, stride: int) -> None:
    write_unit_folder(tmp_path / "units", units=(4, 3))
    wanted = convert(tmp_path / "units", tmp_path / "whole" / "x.zoo", options=SMALL_CHUNKS)
    (tmp_path / "work").mkdir()
    events = int(run_script("crash_converting", tmp_path / "units", tmp_path / "work", wanted, stride))
    assert events > 30


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_an_append_killed_at_any_boundary_leaves_the_old_store_or_the_new(tmp_path: Path, stride: int) -> None:
    write_small_store(tmp_path / "work" / "x.zoo")
    events = int(run_script("crash_appending", tmp_path / "work" / "x.zoo", stride))
    assert events > 30
