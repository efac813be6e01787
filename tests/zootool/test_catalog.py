import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from zootool.catalog import Catalog, load_catalog
from zootool.errors import FormatError, MissingError, UsageError

ROOT = Path(__file__).parents[2]


def an_image_set(**changes: Any) -> dict[str, Any]:
    return {
        "title": "Tiny",
        "shape": [28, 28, 1],
        "num_train": 4,
        "num_test": 2,
        "classes": ["a", "b"],
        "splits": {"train": [0, 3], "validation": [3, 4], "test": [4, 6]},
        "source_terms": "public domain",
        "redistributable": True,
        "citation": "nobody",
        "homepage": "https://example.org/",
        "forms": [{"format": "idx", "parts": [{"path": "t/images", "labels": "t/labels", "start": 0, "count": 4}]}],
        **changes,
    }


def load(tmp_path: Path, **entries: Any) -> Catalog:
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump(entries))
    return load_catalog(path)


def test_the_catalog_names_the_image_sets_with_their_published_splits() -> None:
    catalog = load_catalog()
    assert set(catalog.image_sets) == {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn"}
    counts = {
        name: {split: end - first for split, (first, end) in entry.splits.items()}
        for name, entry in catalog.image_sets.items()
    }
    assert counts["cifar10"] == counts["cifar100"] == {"train": 45_000, "validation": 5_000, "test": 10_000}
    assert counts["fashion-mnist"] == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert counts["mnist"] == {"train": 45_000, "validation": 5_000, "test": 10_000}
    assert counts["digits"] == {"train": 1_297, "validation": 150, "test": 350}
    assert catalog.image_sets["mnist"].splits["test"] == (60_000, 70_000)
    assert catalog.image_sets["mnist"].other_splits["rest"]["test"] == (50_000, 70_000)


def test_every_published_form_covers_its_set_and_every_file_can_be_fetched_and_checked() -> None:
    for name, entry in load_catalog().image_sets.items():
        for form in entry.forms:
            covered = [i for part in form.parts for i in (part.start, part.start + part.count)]
            if form.format != "svhn-npz":
                assert covered[0] == 0, name
                assert covered[-1] == entry.num_images, name
                assert covered[1:-1:2] == covered[2::2], name
            for file in form.files:
                assert file.urls, file.path
                assert file.size, file.path
                assert file.md5 or file.sha256, file.path


def test_the_number_of_networks_of_the_published_recipe() -> None:
    catalog = load_catalog()
    copies = catalog.recipe("inr-nfn")["copies"]
    counts = {}
    for name in ("mnist", "fashion-mnist", "cifar10", "cifar100"):
        splits = catalog.image_set(name).splits
        training = splits["train"][1] - splits["train"][0]
        counts[name] = training * copies + sum(end - first for first, end in splits.values())
    assert counts == {"mnist": 510_000, "fashion-mnist": 620_000, "cifar10": 510_000, "cifar100": 510_000}


@pytest.mark.parametrize(
    ("method", "name", "hint"),
    [
        ("image_set", "cifar-100", "'cifar100'"),
        ("recipe", "inr_nfn", "'inr-nfn'"),
        ("zoo", "cnn-wildpark", "'cnn-wild-park'"),
        ("image_set", "\x1b[2Jimagenet", "choose from cifar10, cifar100"),
    ],
)
def test_an_unknown_name_is_a_usage_error_with_suggestions(method: str, name: str, hint: str) -> None:
    with pytest.raises(UsageError, match="unknown") as caught:
        getattr(load_catalog(), method)(name)
    assert hint in str(caught.value.hint)
    assert "\x1b" not in str(caught.value)


def test_problems_are_told_together(tmp_path: Path) -> None:
    broken = an_image_set(tilte="x", num_train=0)
    with pytest.raises(FormatError) as caught:
        load(tmp_path, image_sets={"tiny": broken}, recipe={})
    assert "image_sets.tiny.tilte: unknown key, did you mean 'title'?" in caught.value.message
    assert "image_sets.tiny.num_train: " in caught.value.message
    assert "recipe: unknown key, did you mean 'recipes'?" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"splits": {"train": [0, 3], "test": [2, 6]}}, "overlap"),
        ({"splits": {"train": [0, 7]}}, "goes beyond the 6 images"),
        ({"splits": {"train": [3, 3]}}, r"a range is \[first, last \+ 1\]"),
        ({"other_splits": {"rest": {"train": [0, 3], "test": [2, 6]}}}, "overlap"),
        ({"forms": []}, "either bundled_with a package or has forms"),
        ({"bundled_with": "x"}, "either bundled_with a package or has forms"),
        ({"forms": [{"format": "idx", "parts": [{"path": "a", "start": 3, "count": 2}]}]}, "goes beyond the 4 images"),
        ({"forms": [{"format": "idx", "parts": [{"path": "../a", "start": 0, "count": 2}]}]}, "stay inside"),
        ({"forms": [{"format": "idx", "parts": [{"path": "/a", "start": 0, "count": 2}]}]}, "stay inside"),
        (
            {"forms": [{"format": "idx", "parts": [{"path": "a", "archive": "b.tar.gz", "start": 0, "count": 2}]}]},
            "is not among the files",
        ),
    ],
)
def test_a_contradiction_is_found(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        load(tmp_path, image_sets={"tiny": an_image_set(**changes)})


def test_a_recipe_handed_out_can_be_changed_without_changing_the_catalog() -> None:
    load_catalog().recipe("inr-nfn")["steps"] = 1
    assert load_catalog().recipe("inr-nfn")["steps"] == 5000


def test_a_missing_catalog_is_a_missing_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no catalog at"):
        load_catalog(tmp_path / "datasets.yaml")


def test_the_catalog_and_the_image_sets_load_without_torch_and_the_readers_libraries() -> None:
    heavy = "{'torch', 'scipy', 'sklearn', 'PIL', 'pandas', 'zarr'}"
    code = f"import sys, zootool.catalog, zootool.images; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_an_installed_wheel_finds_its_catalog(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="building a wheel here needs setuptools")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    source = tmp_path / "source"
    source.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in tracked.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*pip, "wheel", str(source), "--no-deps", "--no-build-isolation", "-w", str(tmp_path)], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    code = "from zootool.catalog import catalog_path, load_catalog; load_catalog(); print(catalog_path())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(tmp_path / "site")
