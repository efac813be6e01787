"""Who may import whom: the table that keeps data flowing one way, held by parsing every file."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# zootool's stations in the order in which data flows: a file imports from its own station and from those before it.
ZOOTOOL_ORDER = (
    ("errors", "progress"),
    ("files", "records", "validation", "data_dir"),
    ("engines",),
    ("architecture",),
    ("graph",),
    ("catalog", "columns"),
    ("nets",),
    ("fetch",),
    ("untrusted",),
    ("images",),
    ("formats",),
    ("build",),
    ("store",),
    ("conversion",),
    ("zoo", "loader"),
    ("share",),
    ("testing",),
)
# dng's stations, each of which imports from itself and from those before it.
DNG_ORDER = ("zoo_data", "encoder", "models", "training", "methods", "runs", "bench")
# What models and benchmarks share with zootool: the architecture, the errors that they raise, how files are written,
# and the engines that spread work over processes.
# Stores and loaders reach trainings and benchmarks through dng/zoo_data.py alone.
MODELS_MAY_IMPORT = {"architecture", "engines", "errors", "files", "graph", "records", "progress"}


# A string that names a module of ours may be imported: by import_module, by `python -m`, by a lazy table.
MODULE_NAME = re.compile(r"(zootool|dng|cli)(\.[a-z_][a-z0-9_]*)+")
# Its table of public names is above all that they name.
TOP = ROOT / "zootool" / "__init__.py"


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_modules(path: Path) -> Iterator[str]:
    """What a file imports, by statements and by strings that name a module, such as those for `import_module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert not any(alias.name == "*" for alias in node.names), f"{path}: no star imports"
            yield node.module or ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_NAME.fullmatch(node.value):
            yield node.value


def ours(path: Path, package: str) -> list[str]:
    return [name for name in imported_modules(path) if name == package or name.startswith(package + ".")]


@pytest.mark.parametrize("path", files("zootool"), ids=lambda path: str(path.relative_to(ROOT)))
def test_zootool_never_looks_up(path: Path) -> None:
    assert ours(path, "dng") == []
    assert ours(path, "cli") == []


@pytest.mark.parametrize("path", files("zootool"), ids=lambda path: str(path.relative_to(ROOT)))
def test_zootool_imports_downward_only(path: Path) -> None:
    if path == TOP:
        return
    station = path.relative_to(ROOT / "zootool").parts[0].removesuffix(".py")
    for name in ours(path, "zootool"):
        parts = name.split(".")
        if len(parts) == 1:
            continue  # Names of the package itself, such as its version.
        assert level(parts[1]) <= level(station), f"{path} imports {name}, which comes after {station}"


@pytest.mark.parametrize("path", files("dng"), ids=lambda path: str(path.relative_to(ROOT)))
def test_dng_imports_what_the_table_allows(path: Path) -> None:
    assert ours(path, "cli") == []
    if path == ROOT / "dng" / "zoo_data.py":
        return
    stations = {name.split(".")[1] for name in ours(path, "zootool")}
    assert stations <= MODELS_MAY_IMPORT, f"{path} imports {stations - MODELS_MAY_IMPORT} of zootool"


@pytest.mark.parametrize("path", files("dng"), ids=lambda path: str(path.relative_to(ROOT)))
def test_dng_imports_downward_only(path: Path) -> None:
    station = path.relative_to(ROOT / "dng").parts[0].removesuffix(".py")
    if station == "__init__":
        return
    for name in ours(path, "dng"):
        assert DNG_ORDER.index(name.split(".")[1]) <= DNG_ORDER.index(station), f"{path} imports {name}"


def test_imports_by_string_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "hidden.py"
    path.write_text(
        'HOME = {"convert": "zootool.conversion.convert"}\nimport_module("dng.bench.run")\n"zootool is it."\n'
    )
    assert sorted(imported_modules(path)) == ["dng.bench.run", "zootool.conversion.convert"]


def test_every_part_of_zootool_has_its_place() -> None:
    known = {name for group in ZOOTOOL_ORDER for name in group}
    found = {p.stem if p.is_file() else p.name for p in (ROOT / "zootool").iterdir() if not p.name.startswith("__")}
    assert found <= known, f"give {found - known} a place in ZOOTOOL_ORDER"


def test_no_two_files_have_one_name() -> None:
    # A newcomer finds a file by its name. The suites of zootool and of dng are each that package's `testing`.
    names = [path.name for package in ("zootool", "dng", "cli") for path in files(package)]
    assert {name for name in names if names.count(name) > 1} == {"__init__.py", "testing.py"}


def test_every_folder_says_what_it_is() -> None:
    for package in ("zootool", "dng", "cli"):
        for path in files(package):
            if path.name == "__init__.py":
                assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} says nothing"


def level(station: str) -> int:
    return next(i for i, group in enumerate(ZOOTOOL_ORDER) if station in group)


@pytest.mark.parametrize("module", ["torch", "zarr", "pandas", "numba", "matplotlib", "scipy"])
def test_the_commands_start_without_heavy_modules(module: str) -> None:
    code = f"import cli.main, sys; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("module", ["torch", "zarr", "pandas"])
def test_zootool_and_its_architecture_are_light(module: str) -> None:
    code = f"import zootool, zootool.architecture, sys; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
