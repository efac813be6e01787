"""`import zootool` as a person explores it."""

from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import pytest

import zootool
from tests.zootool.store.unit_folders import write_unit_folder


def test_names_that_are_loaded_when_used_are_listed() -> None:
    assert {"convert", "open_zoo", "verify", "Zoo", "load_images", "Architecture"} <= set(dir(zootool))


def test_a_slip_is_named() -> None:
    with pytest.raises(AttributeError, match="did you mean 'open_zoo'"):
        zootool.open_zooo  # noqa: B018
    assert not hasattr(zootool, "nothing_like_it")


def test_no_submodule_takes_the_place_of_a_public_name() -> None:
    modules = [module.name for module in walk_packages(zootool.__path__, "zootool.")]
    assert "zootool.conversion.convert" in modules
    for module in modules:
        import_module(module)
    for name in zootool.__all__:
        assert not isinstance(getattr(zootool, name), ModuleType), name
        assert f"zootool.{name}" not in modules


def test_convert_is_callable_again_and_again_with_text_for_paths(tmp_path: Path) -> None:
    write_unit_folder(tmp_path / "units", units=(4,))
    for name in ("a.zoo", "b.zoo"):
        zootool.convert(str(tmp_path / "units"), str(tmp_path / name))
    assert zootool.open_zoo(str(tmp_path / "a.zoo")).id != zootool.open_zoo(tmp_path / "b.zoo").id
