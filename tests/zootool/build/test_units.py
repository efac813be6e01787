from pathlib import Path

import pytest

from tests.zootool.build.small import TINY, small_images
from zootool.build import build_sirens, finished_units, read_recipe
from zootool.build.units import RECIPE_NAME, is_unit_folder
from zootool.errors import FormatError, IntegrityError, MissingError

IMAGES = small_images(train=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_sirens(IMAGES, TINY, tmp_path / "x")
    return tmp_path / "x"


def test_the_recipe_is_read_back_whole(folder: Path) -> None:
    record = read_recipe(folder)
    assert record.recipe == TINY
    assert record.image_set.digest == IMAGES.digest
    assert record.image_set.shape == (4, 4, 1)
    assert record.extent.num_networks == 7 + 3
    assert record.num_units == len(finished_units(folder))
    assert is_unit_folder(folder)


def test_a_folder_without_recipe_is_not_one(tmp_path: Path) -> None:
    assert not is_unit_folder(tmp_path)
    with pytest.raises(MissingError, match=r"recipe\.yaml"):
        read_recipe(tmp_path)


@pytest.mark.parametrize("text", ["{", "recipe: 5", "a: 1\na: 2", ""])
def test_a_broken_recipe_is_named(folder: Path, text: str) -> None:
    (folder / RECIPE_NAME).write_text(text)
    with pytest.raises(FormatError, match=r"recipe\.yaml"):
        read_recipe(folder)


def test_only_units_with_a_receipt_exist(folder: Path) -> None:
    units = finished_units(folder)
    units[1].receipt_path.unlink()
    (folder / "units" / ".00009.json.123.tmp").write_bytes(b"{}")
    assert [unit.number for unit in finished_units(folder)] == [0, 2, 3]


def test_a_file_unlike_its_receipt_is_found(folder: Path) -> None:
    first, second, third, fourth = finished_units(folder)
    changed = bytearray(first.weights_path.read_bytes())
    changed[-1] ^= 1
    first.weights_path.write_bytes(changed)
    second.table_path.unlink()
    third.receipt_path.write_bytes(b"{")
    with pytest.raises(IntegrityError, match=r"00000\.safetensors differs"):
        first.check()
    with pytest.raises(IntegrityError, match=r"00001\.parquet is missing"):
        second.check()
    with pytest.raises(FormatError, match=r"00002\.json"):
        third.check()
    assert [unit.is_sound() for unit in (first, second, third, fourth)] == [False, False, False, True]


def test_damaged_units_are_built_again_to_the_same_bytes(folder: Path) -> None:
    unit, *others = finished_units(folder)
    before = unit.weights_path.read_bytes()
    stamps = [other.weights_path.stat().st_mtime_ns for other in others]
    unit.weights_path.write_bytes(before[:-4])
    result = build_sirens(IMAGES, TINY, folder)
    assert (result.built, result.found) == (3, 7)
    assert unit.weights_path.read_bytes() == before
    assert [other.weights_path.stat().st_mtime_ns for other in others] == stamps
