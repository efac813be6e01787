"""Every hostile file gives an error with a name, soon, in little memory, and runs nothing."""

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.zootool.untrusted.hostile.corpus import corpus
from tests.zootool.untrusted.hostile.running_pickles import running_pickles, whole

ROOT = Path(__file__).parents[4]
# Far above the second that each is meant to take: processor time is noisy on a machine with other work.
MAX_SECONDS = 5.0
MAX_MEGABYTES = 200
CASES = corpus("/nonexistent/canary")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which one process reads all files: the first test process that wants it, while others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "hostile"
    with (shared / "hostile.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "outcomes.json").exists():
            read_corpus(folder)
    return folder


def read_corpus(folder: Path) -> None:
    cases = corpus(str(folder / "canary"))
    listed = []
    for i, case in enumerate(cases):
        path = folder / str(i) / case.file_name
        path.parent.mkdir(parents=True)
        path.write_bytes(case.content)
        listed.append([case.reader, str(path)])
    (folder / "cases.json").write_text(json.dumps(listed), encoding="utf-8")
    lines = run("read_all.py", folder).splitlines()
    outcomes = {case.name: json.loads(line) for case, line in zip(cases, lines, strict=True)}
    (folder / "outcomes.json").write_text(json.dumps(outcomes), encoding="utf-8")


@pytest.fixture(scope="session")
def outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    """What became of each file, by its case's name."""
    return json.loads((folder / "outcomes.json").read_text(encoding="utf-8"))


def run(script: str, folder: Path) -> str:
    command = [sys.executable, f"tests/zootool/untrusted/hostile/{script}", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=600)
    return found.stdout


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_file_is_refused_by_name(case: Any, outcomes: dict[str, dict[str, Any]]) -> None:
    outcome = outcomes[case.name]
    assert outcome["error"] == case.error.__name__, f"{case.name}: {outcome}"
    assert outcome["code"] == 3
    assert re.search(case.match, outcome["message"]), outcome["message"]
    shown = {"literal": "layout.csv row 1", "convert": "networks of out"}.get(case.reader, case.file_name)
    assert shown in outcome["message"]
    assert outcome["message"].replace("\n", " ").isprintable()
    assert len(outcome["message"]) < 1500
    assert outcome["seconds"] < MAX_SECONDS, case.name


def test_no_hostile_file_takes_much_memory(outcomes: dict[str, dict[str, Any]]) -> None:
    before, culprits = 0.0, []
    for name, outcome in outcomes.items():
        if outcome["grown"] > max(before, MAX_MEGABYTES):
            culprits.append((name, outcome["grown"]))
        before = max(before, outcome["grown"])
    assert culprits == []


def test_nothing_was_run(outcomes: dict[str, dict[str, Any]], folder: Path) -> None:
    assert len(outcomes) == len(CASES)
    assert not (folder / "canary").exists()


def test_nothing_was_written_elsewhere(outcomes: dict[str, dict[str, Any]], folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} - {"cases.json", "outcomes.json"} == set(
        map(str, range(len(CASES)))
    )
    for i, case in enumerate(CASES):
        written = {str(path.relative_to(folder / str(i))) for path in (folder / str(i)).rglob("*")}
        assert written <= {case.file_name, *(("out", "out/a") if case.reader == "tar" else ())}, case.name


def test_the_payloads_are_real(tmp_path: Path) -> None:
    """Python's own unpickler runs every one of them: else the canary would prove nothing."""
    names = sorted(running_pickles(""))
    for i, name in enumerate(names):
        (tmp_path / f"{i:03}.pkl").write_bytes(whole(name, running_pickles(str(tmp_path / f"canary{i}"))[name]))
    shown = run("run_trustingly.py", tmp_path)
    tame = [name for i, name in enumerate(names) if not (tmp_path / f"canary{i}").exists()]
    assert tame == [], shown
