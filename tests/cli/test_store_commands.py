import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from cli.main import ZooGroup
from cli.selecting import export, merge, subset
from cli.sources import convert
from cli.stores import info, ls, verify
from tests.zootool.store.small_stores import random_block, unchecked_block, write_small_store
from tests.zootool.store.unit_folders import write_unit_folder
from zootool.nets.siren import siren_architecture
from zootool.zoo import open_zoo

app = typer.Typer(cls=ZooGroup)
for command in (convert, export, info, ls, merge, subset, verify):
    app.command()(command)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_small_store(tmp_path / "x.zoo")
    return tmp_path / "x.zoo"


def test_convert_append_and_info(tmp_path: Path) -> None:
    write_unit_folder(tmp_path / "few", units=(4,))
    write_unit_folder(tmp_path / "more", units=(4, 3))
    first = run("convert", tmp_path / "few", tmp_path / "y.zoo")
    assert first.exit_code == 0, first.output
    assert "4 networks" in first.output
    shown = json.loads(run("info", tmp_path / "y.zoo", "--json").stdout)
    assert (shown["num_networks"], shown["name"], shown["splits"]) == (4, "y", {"train": 3, "test": 1})
    assert run("convert", tmp_path / "few", tmp_path / "y.zoo").exit_code == 2
    again = run("convert", tmp_path / "few", tmp_path / "y.zoo", "--append", "--json")
    assert json.loads(again.stdout)["known"] == 4
    # Other weights under known names.
    assert run("convert", tmp_path / "more", tmp_path / "y.zoo", "--append").exit_code == 3
    assert run("convert", tmp_path / "more", tmp_path / "y.zoo", "--append", "--name", "z").exit_code == 2


def test_verify_says_what_it_checked_and_what_is_wrong(store: Path) -> None:
    passed = run("verify", store)
    assert passed.exit_code == 0
    assert "passed" in passed.output
    assert "skipped" in passed.output
    assert run("verify", store, "--quick", "--deep").exit_code == 2
    path = store / "edges" / "c" / "1"
    content = bytearray(path.read_bytes())
    content[7] ^= 4
    path.write_bytes(content)
    assert run("verify", store, "--quick").exit_code == 0
    failed = run("verify", store, "--json")
    assert failed.exit_code == 3
    assert not json.loads(failed.stdout)["passed"]
    assert "edges/c/1" in failed.stderr
    assert "Traceback" not in failed.output


@pytest.mark.parametrize("name", ["edges/c/0", "nodes/zarr.json", "nets.parquet", "manifest.json", "zoo.json"])
def test_deleted_files_have_an_error_a_code_and_a_next_step(store: Path, name: str) -> None:
    (store / name).unlink()
    for command in ("info", "verify"):
        result = run(command, store)
        assert result.exit_code == 3
        assert name in result.stderr
        assert "next:" in result.stderr
        assert "Traceback" not in result.output


def test_what_is_no_zoo_has_an_exit_code(tmp_path: Path) -> None:
    assert run("info", tmp_path / "nowhere.zoo").exit_code == 4
    assert run("info", tmp_path).exit_code == 3
    assert run("convert", tmp_path, tmp_path / "y.zoo").exit_code == 3
    assert run("convert", tmp_path / "nowhere", tmp_path / "y.zoo").exit_code == 4


def test_subset_merge_export_and_ls(store: Path, tmp_path: Path) -> None:
    subset_path, merged_path = tmp_path / "test.zoo", tmp_path / "both.zoo"
    made = run("subset", store, subset_path, "--where", "split=test,label=3|7", "--json")
    assert json.loads(made.stdout)["num_networks"] == 4
    merged = run("merge", store, subset_path, merged_path)
    assert merged.exit_code == 0, merged.output
    assert "34 networks" in merged.stdout
    assert "4 networks have the same weights" in merged.stdout
    assert run("merge", store, merged_path).exit_code == 2
    exported = run("export", merged_path, tmp_path / "files", "--where", "origin=test")
    assert "wrote 4 networks" in exported.stdout
    (tmp_path / "broken.zoo").mkdir()
    (tmp_path / "broken.zoo" / "zoo.json").write_text("{}")
    listed = json.loads(run("ls", tmp_path, "--json").stdout)["stores"]
    assert [Path(entry["path"]).name for entry in listed] == ["both.zoo", "broken.zoo", "test.zoo", "x.zoo"]
    assert "manifest.json" in listed[1]["error"]
    assert "30" in run("ls", tmp_path).stdout
    assert run("subset", store, subset_path, "--where", "lable=3").exit_code == 2
    assert run("ls", tmp_path / "nowhere").exit_code == 4


def test_names_from_files_are_shown_escaped(tmp_path: Path) -> None:
    block = random_block(siren_architecture(2, (3,), 1), 2)
    evil = "\x1b[2J[red]<script>alert(1)</script>"
    write_small_store(tmp_path / "x.zoo", unchecked_block(block, **{"split": [evil, evil], f"hp_{evil}": [1, 2]}))
    assert open_zoo(tmp_path / "x.zoo").nets["split"].tolist() == [evil, evil]
    shown = run("info", tmp_path / "x.zoo").output
    assert "\x1b[2J" not in shown
    assert "\\x1b[2J[red]<script>" in shown.replace("\n", "")


def test_every_help_has_an_example() -> None:
    for name in ("convert", "export", "info", "ls", "merge", "subset", "verify"):
        result = run(name, "--help")
        assert f"Example: zoo {name}" in " ".join(result.output.split())
