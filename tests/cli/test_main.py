"""The command line as a person meets it: help, exit codes, errors that say what to do, and no tracebacks."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from cli.main import ZooGroup, app, interrupted
from tests.dng.bench.cnn_zoos import NARROW, write_run_zoo
from tests.zootool.store.small_stores import write_small_store
from zootool.errors import BadDataError, MissingError, UsageError
from zootool.files import check_writable
from zootool.images.folder import measure

GROUPS = ["recipe", "build", "train", "bench"]
COMMANDS = [
    "demo", "recipe ls", "recipe show", "recipe validate", "build siren", "build cnn", "build vit", "collect", "show",
    "convert", "ls", "info", "verify", "export", "subset", "merge", "train inr2jls", "train encoder", "embed",
    "predict", "reconstruct", "bench inr-classification", "bench forward-fit", "bench efficiency",
    "bench generalization", "bench tables", "bench editing", "report", "publish", "pull", "view", "doctor",
]  # fmt: skip


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd or root, env=environment, check=False)


def names_in(group: Any, *before: str) -> list[str]:
    """The full names of all groups and commands below a group."""
    found = []
    for name, command in group.commands.items():
        found.append(" ".join((*before, name)))
        if hasattr(command, "commands"):
            found += names_in(command, *before, name)
    return found


def test_no_command_is_left_out_here() -> None:
    assert sorted(names_in(typer.main.get_command(app))) == sorted([*GROUPS, *COMMANDS])


@pytest.mark.parametrize("command", [*GROUPS, *COMMANDS])
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f" {command} [OPTIONS]" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_shows_the_defaults_that_it_words(command: str) -> None:
    found = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]  # type: ignore[missing-attribute]
    # rich would take unescaped brackets for markup, and leave them out.
    texts = [getattr(parameter, "help", None) or "" for parameter in found.params]
    worded = [text for text in texts if "default:" in text]
    shown = re.sub(r"[\s│]+", " ", CliRunner().invoke(app, [*command.split(), "--help"]).output)
    for text in worded:
        assert f"[default:{text.partition('default:')[2]}" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_has_an_example(command: str) -> None:
    assert f"Example: zoo {command}" in CliRunner().invoke(app, [*command.split(), "--help"]).output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("bild",), 2, "No such command"),
        (("build", "siren", "--dataset", "cifar-100"), 2, "did you mean 'cifar100'"),
        (("build", "siren", "--dataset", "digits", "--limit", "-1"), 2, "--limit"),
        (("build", "siren", "--dataset", "digits", "--limit", "ten"), 2, "ten"),
        (("build", "siren", "--dataset", "digits", "--set", "stepz=3"), 2, "steps"),
        (("convert", "nowhere", "x.zoo"), 4, "nowhere"),
        (("info", "nowhere.zoo"), 4, "nowhere.zoo"),
        (("verify", "nowhere.zoo"), 4, "nowhere.zoo"),
        (("bench", "inr-classification", "--zoo", "nowhere.zoo", "--preset", "dmeo"), 2, "did you mean 'demo'"),
        (("report", "nowhere", "--zoo", "nowhere.zoo"), 4, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_input_is_named_without_a_traceback(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def group_of(error: BaseException) -> typer.Typer:
    failing = typer.Typer(cls=ZooGroup, pretty_exceptions_enable=False)

    @failing.command()
    def fail() -> None:
        raise error

    @failing.command()
    def other() -> None:
        pass

    return failing


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a"), 2),
        (BadDataError("a"), 3),
        (MissingError("a"), 4),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(32, "a"), 141),
        (OSError(28, "a"), 4),
        (PermissionError(13, "a", "b"), 4),
        (MemoryError(), 4),
        (OSError("a"), 1),
        (RuntimeError("a"), 1),
        (ValueError("a"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_become_exit_codes(error: BaseException, code: int) -> None:
    assert CliRunner().invoke(group_of(error), ["fail"]).exit_code == code


def test_an_error_shows_what_is_wrong_and_what_to_do() -> None:
    error = MissingError("the zoo \x1b[31mx is gone", hint="run `zoo pull [bold]x`")
    shown = CliRunner().invoke(group_of(error), ["fail"]).stderr
    assert "error: the zoo \\x1b[31mx is gone" in shown
    assert "next:  run `zoo pull [bold]x`" in shown


def test_what_the_system_refuses_has_a_path_and_a_next_step() -> None:
    shown = CliRunner().invoke(group_of(OSError(30, "?", "/mnt/x.zoo")), ["fail"]).stderr
    assert shown == (
        "error: can't use /mnt/x.zoo: Read-only file system\n"
        "next:  choose a place that is yours to use, or see to its rights\n"
    )


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        (["convert", "a", "b"], True),
        (["bench", "tables"], True),
        (["convert", "a", "b", "--append"], False),
        (["bench", "efficiency"], False),
        (["embed", "a"], False),
    ],
    ids=str,
)
def test_an_interruption_promises_only_what_is_kept(
    words: list[str], goes_on: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(words)
    assert ("the same command goes on from there" in capsys.readouterr().err) == goes_on


def test_an_errors_lines_stay_lines() -> None:
    shown = CliRunner().invoke(group_of(MissingError("two files:\n  a\x07\n  b")), ["fail"]).stderr
    assert "error: two files:\n  a\\x07\n  b\n" in shown


def test_a_bug_shows_its_traceback() -> None:
    shown = CliRunner().invoke(group_of(RuntimeError("oops")), ["fail"]).stderr
    assert "RuntimeError: oops" in shown
    assert "this is a bug in zootool" in shown


def test_doctor_speaks_to_machines() -> None:
    found = json.loads(run("doctor", "--json").stdout)
    assert found["cpus"] >= 1
    assert set(found) >= {"version", "torch", "gpu", "optional", "zoo_data"}


def test_ctrl_c_leaves_resumable_state(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    arguments = ["build", "siren", "--dataset", "digits", "--limit", "512", "--steps", "3000", "--out", "zoo"]
    command = [sys.executable, "-m", "cli.main", *arguments]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A runner in the background ignores Ctrl-C, and what it starts would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "zoo" / "recipe.yaml").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["recipe", "show", "inr-nfn", "--dataset", "digit"], "unknown image set 'digit'", "did you mean 'digits'"),
        (["build", "siren", "--dataset", "digits", "--limit", "0"], "--limit 0 asks for no image", "more than 0"),
        (["build", "siren", "--dataset", "digits", "--limit", "0,0,0"], "asks for no image", "more than 0"),
        (["info", ""], "an empty text is no place", "give a folder"),
        (["publish", "{zoo}", "s3://"], "s3:// names no server or bucket", "s3://bucket/x.zoo"),
        (["publish", "{zoo}", "s3:/bucket/x.zoo"], "neither a URL nor a folder", "s3://bucket/x.zoo"),
        (["publish", "{zoo}", ""], "an empty text is no place", "give a folder"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_store(tmp_path / "x.zoo")
    result = CliRunner().invoke(app, [word.format(zoo="x.zoo") for word in words])
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert hint in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.zoo"]


def test_what_is_measured_for_a_file_needs_its_place_first(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "x.md")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "x.md").write_text("kept")
    check_writable(tmp_path / "x.md")
    assert (tmp_path / "x.md").read_text() == "kept"
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)
    with pytest.raises(FileExistsError):
        check_writable(tmp_path / "x.md" / "y.md")


def test_what_the_system_refuses_is_no_fault_of_a_picture(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "x.png")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            measure(tmp_path / "x.png")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_validation_that_ranks_nothing_is_said(tmp_path: Path) -> None:
    write_run_zoo(tmp_path / "x.zoo", NARROW, count=16, test_accuracy=[0.5] * 16)
    words = ["train", "encoder", "--zoo", str(tmp_path / "x.zoo"), "--target", "test_accuracy", "--steps", "1"]
    result = CliRunner().invoke(app, [*words, "--set", "batch_size=4", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "validation ranks nothing" in result.stdout
