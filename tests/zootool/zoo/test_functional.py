import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.zootool.store.small_stores import reseal
from tests.zootool.store.unit_folders import write_unit_folder
from zootool.build.classifiers import build_classifiers
from zootool.build.recipe import CnnRecipe, SirenRecipe, load_recipe_of
from zootool.build.sirens import build_sirens
from zootool.conversion.convert import convert
from zootool.images import load_images
from zootool.zoo import verify


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("functional")
    build_sirens(load_images("digits"), SirenRecipe(steps=20, copies=0), folder / "units", limit=12)
    convert(folder / "units", folder / "x.zoo")
    return folder / "x.zoo"


def test_rendered_networks_have_their_recorded_psnr(store: Path) -> None:
    result = verify(store, sample=5)
    assert result.passed
    assert result.skipped == []
    assert "PSNR of 5 rendered networks" in result.checked


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="needs real images: set ZOO_DATA")
def test_networks_of_real_images_have_their_recorded_psnr(tmp_path: Path) -> None:
    build_sirens(load_images("cifar100"), SirenRecipe(steps=5, copies=0), tmp_path / "units", limit=6)
    convert(tmp_path / "units", tmp_path / "x.zoo")
    result = verify(tmp_path / "x.zoo", sample=4)
    assert result.passed
    assert "PSNR of 4 rendered networks" in result.checked


def test_a_wrong_psnr_is_found(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "x.zoo")
    table = pq.read_table(tmp_path / "x.zoo" / "nets.parquet")
    place = table.column_names.index("psnr")
    psnr = table["psnr"].to_numpy() + 0.1
    pq.write_table(table.set_column(place, "psnr", pa.array(psnr)), tmp_path / "x.zoo" / "nets.parquet")
    reseal(tmp_path / "x.zoo", "nets.parquet")
    problems = verify(tmp_path / "x.zoo", sample=3).problems
    assert len(problems) == 3
    assert all("dB, recorded are" in problem for problem in problems)


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    parts = {"train_images": 200, "test_images": 100, "checkpoints": [0, 2]}
    recipe = load_recipe_of(CnnRecipe, "small-cnn", "digits", parts)
    build_classifiers(load_images("digits"), recipe, folder / "units", runs=4)
    convert(folder / "units", folder / "x.zoo")
    return folder / "x.zoo"


def test_rebuilt_classifiers_have_their_recorded_accuracy(classifiers: Path) -> None:
    result = verify(classifiers, sample=6)
    assert result.passed, result.problems
    assert result.skipped == []
    assert "accuracy of 6 rebuilt networks" in result.checked


def test_a_wrong_accuracy_is_found(classifiers: Path, tmp_path: Path) -> None:
    shutil.copytree(classifiers, tmp_path / "x.zoo")
    table = pq.read_table(tmp_path / "x.zoo" / "nets.parquet")
    place = table.column_names.index("test_accuracy")
    wrong = (table["test_accuracy"].to_numpy() + 0.5) % 1
    pq.write_table(table.set_column(place, "test_accuracy", pa.array(wrong)), tmp_path / "x.zoo" / "nets.parquet")
    reseal(tmp_path / "x.zoo", "nets.parquet")
    problems = verify(tmp_path / "x.zoo", sample=3).problems
    assert len(problems) == 3
    assert all("of the images, recorded are" in problem for problem in problems)


def test_other_images_here_are_no_fault_of_the_store(tmp_path: Path) -> None:
    write_unit_folder(tmp_path / "units", digest="f" * 64)
    convert(tmp_path / "units", tmp_path / "x.zoo")
    result = verify(tmp_path / "x.zoo")
    assert result.passed
    assert "the image set digits here has the digest" in result.skipped[0]
