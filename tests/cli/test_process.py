"""The command as a process: closed pipes, terminals without UTF-8, full disks, and Ctrl-C at any moment.

What went wrong without UTF-8 stands in tests/cases/ascii_terminal.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.zootool.store.small_stores import write_small_store
from zootool.store import open_store

ROOT = Path(__file__).parents[2]
START = """
import sys
from cli import process
catch, sys.argv[0] = process._catch_signals, "zoo"
def catch_and_tell():
    catch()
    print("ready", file=sys.stderr, flush=True)
process._catch_signals = catch_and_tell
process.main()
"""


def zoo(*words: object, start: str = "from cli.process import main; main()", **options: Any) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}
    environment |= {"PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [sys.executable, "-c", start, *map(str, words)]
    return subprocess.Popen(command, text=True, env=environment, stderr=subprocess.PIPE, **options)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code, output and errors; no traceback is among them."""
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    return process.returncode, out or "", err


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_small_store(tmp_path / "x.zoo")
    return tmp_path / "x.zoo"


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"COLUMNS": "40"}],
    ids=str,
)
def test_a_pipe_gets_whole_ids_in_any_encoding(store: Path, environment: dict[str, str]) -> None:
    zoo_id = open_store(store).zoo_id
    code, out, _ = ended(zoo("info", store, stdout=subprocess.PIPE, env=environment))
    assert code == 0
    assert zoo_id in out
    assert all(line == line.rstrip() for line in out.splitlines())
    code, out, _ = ended(zoo("ls", store.parent, stdout=subprocess.PIPE, env=environment))
    assert (code, f"{store} " in out, zoo_id[:16] in out) == (0, True, True)


def test_help_needs_no_utf8() -> None:
    code, out, _ = ended(zoo("build", "siren", "--help", stdout=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii"}))
    assert code == 0
    assert out.isascii()
    assert "\\u" not in out
    assert "+- Options ---" in out


@pytest.mark.parametrize("words", [("--help",), ("recipe", "ls"), ("recipe", "show", "inr-nfn", "--json")], ids=str)
def test_an_output_that_nobody_reads_is_no_error(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    process = zoo(*words, stdout=writing)
    os.close(writing)
    os.close(reading)
    code, _, err = ended(process)
    assert (code, err) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [("--help",), ("recipe", "ls"), ("recipe", "show", "inr-nfn", "--json")], ids=str)
def test_an_output_on_a_full_disk_is_named(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        code, _, err = ended(zoo(*words, stdout=full))
    assert code == 4
    assert "No space left on device" in err


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (("--help",), signal.SIGINT),
        (("verify", "x.zoo"), signal.SIGTERM),
        (("build", "siren", "--workers", "2"), signal.SIGINT),
        (("build", "siren", "--workers", "2"), signal.SIGTERM),
    ],
    ids=str,
)
def test_an_interruption_at_any_moment_is_quiet(store: Path, words: tuple[str, ...], number: signal.Signals) -> None:
    if words[0] == "build":
        words = (*words, "--dataset", "digits", "--steps", "3000", "--out", "units")
    for delay in (0.0, 0.2, 1.0):
        process = zoo(
            *words,
            start=START,
            cwd=store.parent,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(number)
        # Python's own last moments take the signal's default, which is as quiet: minus its number.
        code, _, err = ended(process)
        assert code in (0, 128 + number, -number), err


def test_an_interrupted_bar_leaves_the_terminal_with_its_cursor(tmp_path: Path) -> None:
    hide, show = b"\x1b[?25l", b"\x1b[?25h"
    ours, terminal = os.openpty()
    words = ("build", "siren", "--dataset", "digits", "--steps", "3000", "--out", tmp_path / "units")
    command = [sys.executable, "-c", "from cli.process import main; main()", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        seen = b""
        while block := _read(ours):
            if hide not in seen and hide in seen + block:
                process.send_signal(signal.SIGINT)
            seen += block
    os.close(ours)
    assert process.returncode == 130, seen
    assert b"interrupted" in seen
    assert b"Traceback" not in seen
    assert seen.rindex(show) > seen.rindex(hide)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # how Linux says that nobody writes any more
        return b""
