"""Networks fitted to images that are here, and what was recorded about them: the wrong way round, or of others."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.zootool.formats.converting import converted, notes_of, save
from tests.zootool.formats.sirens_here import write_mnist_inrs
from zootool.build.recipe import SirenRecipe
from zootool.build.sirens import build_sirens
from zootool.conversion.block_sources import CollectionSource
from zootool.conversion.convert import convert
from zootool.conversion.image_check import check_images
from zootool.formats.collection import CollectedImages, Collection
from zootool.formats.options import ReadOptions
from zootool.formats.plain_folder import PlainFolder
from zootool.images import Images, load_images
from zootool.nets.rendering import GRIDS, indexing_of, psnr, render
from zootool.store.writer import write_store
from zootool.zoo import open_zoo, verify


def fitted(images: Images, folder: Path, **settings: Any) -> list[dict[str, torch.Tensor]]:
    """SIRENs whose first input is the column: fitted on ij to images that were transposed."""
    turned = replace(images, pixels=np.ascontiguousarray(images.pixels.transpose(0, 2, 1, 3)))
    recipe = SirenRecipe(copies=0, lr=2e-3, **settings)
    build_sirens(turned, recipe, folder / "units")
    convert(folder / "units", folder / "turned.zoo")
    zoo = open_zoo(folder / "turned.zoo")
    order = np.argsort(zoo.nets["source_index"].to_numpy())
    return [zoo.state_dict(int(place)) for place in order]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Six digits' networks on xy, of a source that says ij."""
    images = load_images("digits").take(np.arange(6))
    folder = tmp_path_factory.mktemp("digits")
    for place, state in enumerate(fitted(images, folder, steps=300)):
        save(state, folder / "nets" / f"{place}.pth")
    found = PlainFolder.read(folder / "nets", ReadOptions())
    table = found.table.append_column("source_index", pa.array(range(6), pa.int64()))
    table = table.append_column("label", pa.array(images.labels))
    source = CollectedImages("digits", (8, 8, 1), 10, GRIDS["ij"], (-1.0, 1.0), assumed=("grid", "source_index"))
    assert found.kind == "siren"
    return replace(found, table=table, image_sets=(source,))


def test_the_grid_on_which_networks_show_their_images_is_recorded(digits: Collection, tmp_path: Path) -> None:
    found = check_images(digits)
    assert found.image_sets[0].grid == "linspace(-1, 1), xy"
    assert found.image_sets[0].assumed == ()
    assert "upright on linspace(-1, 1), xy: recorded instead" in found.notes[-1]
    assert check_images(replace(digits, image_sets=found.image_sets)).notes == digits.notes, "nothing to put right"
    write_store(tmp_path / "x.zoo", CollectionSource(found, "x"))
    result = verify(tmp_path / "x.zoo", sample=6)
    assert result.problems == []
    assert "pictures of 6 rendered networks" in result.checked


def test_verify_says_where_a_recorded_grid_is_the_other(digits: Collection, tmp_path: Path) -> None:
    write_store(tmp_path / "x.zoo", CollectionSource(digits, "x"))
    problems = verify(tmp_path / "x.zoo", sample=6).problems
    assert len(problems) == 1
    assert "rendered transposed, 6 networks fit their images better by" in problems[0]


def test_networks_of_other_images_are_named(digits: Collection, tmp_path: Path) -> None:
    place = digits.table.schema.get_field_index("source_index")
    wrong = digits.table.set_column(place, "source_index", pa.array([1, 2, 3, 4, 5, 0], pa.int64()))
    settled = replace(digits.image_sets[0], assumed=())
    found = check_images(replace(digits, table=wrong, image_sets=(settled,)))
    assert "6 of 6 networks have another label than their image in digits" in "\n".join(found.notes)
    assert "don't resemble their images in digits" in "\n".join(found.notes)
    write_store(tmp_path / "x.zoo", CollectionSource(found, "x"))
    assert "worse than a grey plane" in "\n".join(verify(tmp_path / "x.zoo", sample=6).problems)


@pytest.mark.parametrize("whose", ["training", "test", "neither"])
def test_assumed_places_follow_the_labels(digits: Collection, whose: str) -> None:
    images = load_images("digits")
    first_test = int(images.source_index[images.split == "test"][0])
    given = {"training": images.labels[:2], "test": images.labels[first_test:][:2], "neither": [11, 12]}
    two = digits.take(np.arange(2))
    place = two.table.schema.get_field_index("label")
    table = two.table.set_column(place, "label", pa.array(given[whose], pa.int64()))
    found = check_images(replace(two, table=table))
    wanted = {"training": [0, 1], "test": [first_test, first_test + 1], "neither": [None, None]}
    assert found.table["source_index"].to_pylist() == wanted[whose]
    assert "source_index" not in found.image_sets[0].assumed
    if whose == "test":
        beyond = table.set_column(table.schema.get_field_index("source_index"), "source_index", pa.array([0, 5000]))
        found = check_images(replace(two, table=beyond))
        assert found.table["source_index"].to_pylist() == [None, None], "one of them is no test image"


def test_what_no_image_shows_is_noted_as_assumed(digits: Collection) -> None:
    source = replace(digits.image_sets[0], name="unstated")
    found = check_images(replace(digits, image_sets=(source,)))
    notes = "\n".join(found.notes)
    assert "the grid is taken for linspace(-1, 1), ij: declare another by --grid" in notes
    assert "source_index is assumed: the images of unstated aren't here" in notes
    place = digits.table.schema.get_field_index("source_index")
    beyond = digits.table.set_column(place, "source_index", pa.array(range(5000, 5006), pa.int64()))
    found = check_images(replace(digits, table=beyond))
    assert found.table["source_index"].to_pylist() == list(range(5000, 5006)), "nothing was compared"
    assert found.image_sets[0].assumed == ("grid", "source_index")


def a_picture(seed: int) -> np.ndarray:
    """Something smooth that isn't its own transpose."""
    y, x = np.mgrid[0:28, 0:28] / 27
    return np.round(255 * (0.5 + 0.5 * np.sin(3 * x + seed) * np.cos(1.2 * y)))[..., None].astype(np.uint8)


def as_mnist_inrs(states: list[dict[str, torch.Tensor]], root: Path, parts: list[tuple[str, int, int]]) -> None:
    write_mnist_inrs(root, parts)
    for state, (part, label, image) in zip(states, parts, strict=True):
        named = {f"seq.{key.removeprefix('net.').replace('linear.', '')}": value for key, value in state.items()}
        save(named, root / f"mnist_png_{part}_{label}_{image}" / "checkpoints" / "model_final.pth")


def test_mnist_inrs_render_upright(tmp_path: Path) -> None:
    """As their publishers write them: on numpy's default meshgrid, 0.5 added to the output."""
    pixels = np.stack([a_picture(seed) for seed in range(3)])
    images = Images("some", pixels, np.zeros(3, np.int64), np.arange(3), np.full(3, "train"), ("one",), False, "")
    states = fitted(images, tmp_path, steps=300, target=(0.0, 1.0), output_offset=0.5)
    as_mnist_inrs(states, tmp_path / "nets", [("training", 0, i) for i in range(3)])
    zoo = converted(tmp_path / "nets", tmp_path / "x.zoo")
    indexing = indexing_of(zoo.info.sources[0].grid)
    assert indexing == "xy"
    for place in range(3):
        assert psnr(render(zoo.module(place), 28, 28, indexing), pixels[place], (0.0, 1.0)) > 25
        assert psnr(render(zoo.module(place), 28, 28, "ij"), pixels[place], (0.0, 1.0)) < 20


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="needs real images: set ZOO_DATA")
@pytest.mark.parametrize("declared", [None, "ij"])
def test_mnist_inrs_of_real_images_are_checked(tmp_path: Path, declared: Any) -> None:
    images = load_images("mnist").take(np.array([0, 1, 60_000]))
    states = fitted(images, tmp_path, steps=200, target=(0.0, 1.0), output_offset=0.5)
    five, zero, seven = images.labels.tolist()
    as_mnist_inrs(states, tmp_path / "nets", [("training", five, 0), ("training", zero, 1), ("testing", seven, 0)])
    zoo = converted(tmp_path / "nets", tmp_path / "x.zoo", grid=declared)
    assert zoo.info.sources[0].grid == "linspace(-1, 1), xy"
    assert ("recorded instead" in notes_of(zoo)) == (declared == "ij")
    result = verify(tmp_path / "x.zoo")
    assert result.passed, result.problems
    assert "pictures of 3 rendered networks" in result.checked
