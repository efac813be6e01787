"""Inputs that once went wrong: each folder of tests/cases is named by the test that holds its right answer."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
CASES = sorted(folder.name for folder in (ROOT / "cases").iterdir())
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("test_*.py") if path != Path(__file__))


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_its_test(case: str) -> None:
    assert (ROOT / "cases" / case / "README").is_file()
    assert case in TESTS, f"no test speaks of tests/cases/{case}"
