"""`import zootool` as a person explores it."""

import subprocess
import sys
from pathlib import Path

import pytest

import zootool
from tests.zootool.store.unit_folders import write_unit_folder


def test_names_that_are_loaded_when_used_are_listed() -> None:
    assert {"convert", "open_zoo", "verify", "Zoo", "load_images", "Architecture"} <= set(dir(zootool))


def test_a_slip_is_named() -> None:
    with pytest.raises(AttributeError, match="did you mean 'open_zoo'"):
        zootool.open_zooo  # noqa: B018
    assert not hasattr(zootool, "nothing_like_it")


@pytest.mark.parametrize("before", ["", "import zootool.convert", "from zootool.convert import append"])
def test_convert_is_callable_again_and_again_with_text_for_paths(before: str, tmp_path: Path) -> None:
    write_unit_folder(tmp_path / "units", units=(4,))
    code = f"{before}\nimport zootool\nfor name in ('a.zoo', 'b.zoo'): zootool.convert('units', name)"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert zootool.open_zoo(str(tmp_path / "a.zoo")).id != zootool.open_zoo(tmp_path / "b.zoo").id
