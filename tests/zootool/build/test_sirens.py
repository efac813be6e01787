import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from tests.zootool.build.small import TINY, content, small_images, stamps
from tests.zootool.nets.modules import Siren
from zootool.build import build_sirens, finished_units, load_recipe, read_recipe
from zootool.build.philox import derived_seed
from zootool.build.recipe import SirenRecipe
from zootool.build.siren.settings import initial_weights
from zootool.errors import MissingError, UsageError
from zootool.images import load_images

IMAGES = small_images()


def changed(recipe: SirenRecipe, **parts: object) -> SirenRecipe:
    return recipe.model_copy(update=parts)


def table_of(folder: Path) -> dict[str, list]:
    tables = [pq.read_table(unit.table_path) for unit in finished_units(folder)]
    return {name: [value for table in tables for value in table[name].to_pylist()] for name in tables[0].column_names}


def test_a_build_leaves_units_tables_and_receipts(tmp_path: Path) -> None:
    result = build_sirens(IMAGES, TINY, tmp_path / "x")
    assert (result.num_networks, result.built, result.found, result.left) == (20, 20, 0, 0)
    units = finished_units(tmp_path / "x")
    assert [unit.num_networks for unit in units] == [3, 3, 3, 3, 3, 3, 2]
    for unit in units:
        unit.check()
        tensors = load_file(unit.weights_path)
        assert {key: value.shape[1:] for key, value in tensors.items()} == {
            slot.key: slot.shape for slot in TINY.architecture(1).slots
        }
        assert all(value.dtype == np.float32 and len(value) == unit.num_networks for value in tensors.values())
    table = table_of(tmp_path / "x")
    assert table["source_index"] == [*range(12), *range(8)]
    assert table["copy"] == [0] * 12 + [1] * 8
    assert table["split"][8:12] == ["validation", "validation", "test", "test"]
    assert table["label"] == [IMAGES.labels[i] for i in table["source_index"]]
    assert len(set(table["net_id"])) == 20
    assert set(table["training_step"]) == {TINY.steps}
    assert set(table["seed"]) == {0}


def test_the_recorded_psnr_is_that_of_the_stored_weights(tmp_path: Path) -> None:
    import torch

    recipe = changed(TINY, steps=50, output_offset=0.5, target=(0.0, 1.0), copies=0)
    build_sirens(IMAGES, recipe, tmp_path / "x")
    unit = finished_units(tmp_path / "x")[1]
    state = {key: torch.from_numpy(value[2]) for key, value in load_file(unit.weights_path).items()}
    network = Siren(2, recipe.hidden, 1, recipe.omega_0, recipe.output_offset)
    network.load_state_dict(state)
    row = pq.read_table(unit.table_path).to_pylist()[2]
    wanted = torch.from_numpy(IMAGES.pixels[row["source_index"]].reshape(-1, 1) / 255).float()
    grid = torch.from_numpy(recipe.settings(IMAGES.shape).coordinates())
    loss = (network(grid) - wanted).square().mean().item()
    assert row["loss"] == pytest.approx(loss, rel=1e-4)
    assert row["psnr"] == pytest.approx(10 * np.log10(1 / loss), abs=1e-3)


def test_a_second_run_finds_everything(tmp_path: Path) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "x")
    before = stamps(tmp_path / "x")
    result = build_sirens(IMAGES, TINY, tmp_path / "x")
    assert (result.built, result.found) == (0, 20)
    assert stamps(tmp_path / "x") == before


def test_the_bytes_of_a_network_do_not_depend_on_the_unit_size(tmp_path: Path) -> None:
    weights = []
    for size in (3, 7, 20):
        build_sirens(IMAGES, changed(TINY, unit_size=size), tmp_path / str(size))
        parts = [load_file(unit.weights_path) for unit in finished_units(tmp_path / str(size))]
        weights.append(np.concatenate([part["net.0.linear.weight"] for part in parts]))
    assert np.array_equal(weights[0], weights[1])
    assert np.array_equal(weights[0], weights[2])


def test_a_folder_grows_and_keeps_its_units(tmp_path: Path) -> None:
    out = tmp_path / "x"
    build_sirens(IMAGES, changed(TINY, copies=0), out, limit=(4, 1, 1))
    first = stamps(out)
    assert build_sirens(IMAGES, changed(TINY, copies=0), out, limit=(8, 1, 1)).built == 4
    assert build_sirens(IMAGES, changed(TINY, copies=2), out).built == 12 + 2 * 8 - 10
    assert stamps(out).items() >= first.items()
    build_sirens(IMAGES, changed(TINY, copies=2), tmp_path / "at-once")
    grown, whole = table_of(out), table_of(tmp_path / "at-once")
    pairs = [sorted(zip(t["net_id"], t["loss"], strict=True)) for t in (grown, whole)]
    assert pairs[0] == pairs[1]
    assert len(read_recipe(out).extents) == 3
    assert read_recipe(out).recipe == changed(TINY, copies=2)


@pytest.mark.parametrize(
    ("key", "recipe", "limit"),
    [
        ("steps", changed(TINY, steps=4), None),
        ("hidden", changed(TINY, hidden=(16,)), None),
        ("seed", changed(TINY, seed=1), None),
        ("unit_size", changed(TINY, unit_size=4), None),
        ("copies", changed(TINY, copies=0), None),
        ("train", TINY, 3),
    ],
)
def test_any_other_change_is_refused_by_name(tmp_path: Path, key: str, recipe: SirenRecipe, limit: int | None) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "x")
    before = content(tmp_path / "x")
    with pytest.raises(UsageError, match=f"{key} = "):
        build_sirens(IMAGES, recipe, tmp_path / "x", limit=limit)
    assert content(tmp_path / "x") == before


def test_other_images_are_refused(tmp_path: Path) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "x")
    others = replace(IMAGES, pixels=255 - IMAGES.pixels)
    with pytest.raises(UsageError, match="digest"):
        build_sirens(others, TINY, tmp_path / "x")


def test_a_unit_size_that_is_not_asked_for_is_the_folders(tmp_path: Path) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "x")
    assert build_sirens(IMAGES, changed(TINY, unit_size=None), tmp_path / "x").built == 0


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        build_sirens(IMAGES, TINY, tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        build_sirens(IMAGES, TINY, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_shares_are_disjoint_and_complete(tmp_path: Path) -> None:
    results = [build_sirens(IMAGES, TINY, tmp_path / "x", share=(i, 3)) for i in range(3)]
    assert [result.built for result in results] == [8, 6, 6]
    assert [result.left for result in results] == [12, 6, 0]
    build_sirens(IMAGES, TINY, tmp_path / "y")
    assert content(tmp_path / "x") == content(tmp_path / "y")


def test_networks_that_share_their_initialisation_differ_by_their_images_alone(tmp_path: Path) -> None:
    recipe = changed(TINY, init="shared", copies=0, steps=1, lr=1e-12)
    build_sirens(IMAGES, recipe, tmp_path / "x")
    weights = np.concatenate([load_file(u.weights_path)["net.1.weight"] for u in finished_units(tmp_path / "x")])
    assert np.abs(weights - weights[0]).max() < 1e-9


def test_networks_that_leave_the_finite_numbers_are_fitted_again_and_flagged(tmp_path: Path) -> None:
    result = build_sirens(IMAGES, changed(TINY, lr=1e38), tmp_path / "x", limit=4)
    table = table_of(tmp_path / "x")
    assert result.num_refitted == result.num_networks == 8
    assert result.num_diverged == sum(table["diverged"]) > 0
    assert set(table["seed"]) == {derived_seed(0, 1)}
    assert json.loads(finished_units(tmp_path / "x")[0].receipt_path.read_bytes())["num_refitted"] == 3


def test_a_refit_starts_from_the_derived_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zootool.build import sirens as work
    from zootool.build.siren.backends import choose_backend

    runs = iter([True, False])

    def fails_once(settings, device, threads=1):
        name, fit = choose_backend(settings, device, threads)

        def backend(initial, targets, settings, **options):
            fitted, losses = fit(initial, targets, settings, **options)
            if next(runs):
                losses[1] = np.nan
            return fitted, losses

        return name, backend

    monkeypatch.setattr(work, "choose_backend", fails_once)
    result = build_sirens(IMAGES, changed(TINY, copies=0, unit_size=20, lr=1e-12), tmp_path / "x")
    table = table_of(tmp_path / "x")
    assert (result.num_refitted, result.num_diverged) == (1, 0)
    assert np.isfinite(table["loss"]).all()
    assert [seed == 0 for seed in table["seed"]] == [i != 1 for i in range(12)]
    settings = TINY.settings(IMAGES.shape)
    start = settings.split(initial_weights(settings, table["seed"][1], np.array([1]), np.array([0])))
    found = load_file(finished_units(tmp_path / "x")[0].weights_path)["net.0.linear.weight"][1]
    assert np.allclose(found, start[0][0], atol=1e-9)


def test_large_images_are_fitted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_sirens(IMAGES, TINY, tmp_path / "whole")
    monkeypatch.setattr("zootool.build.sirens.TARGETS_BYTES", 4 * 4 * 4)
    build_sirens(IMAGES, TINY, tmp_path / "parts")
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_the_digits_are_fitted_well_by_their_recipe(tmp_path: Path) -> None:
    build_sirens(load_images("digits"), load_recipe("inr-nfn", "digits"), tmp_path / "x", limit=48)
    assert np.mean(table_of(tmp_path / "x")["psnr"]) > 43


@pytest.mark.slow
@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA is not set: no real CIFAR-100 here")
def test_the_first_images_of_cifar100_reach_the_known_psnr(tmp_path: Path) -> None:
    recipe = load_recipe("inr-nfn", "cifar100", {"copies": 0})
    build_sirens(load_images("cifar100"), recipe, tmp_path / "x", limit=64)
    psnr = table_of(tmp_path / "x")["psnr"]
    assert 37.5 < np.mean(psnr) < 39
    assert np.percentile(psnr, 5) > 32


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MissingError, match="can't write to"):
        build_sirens(IMAGES, TINY, tmp_path / "file" / "x")


def test_progress_counts_networks_up_to_all_of_them(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    build_sirens(IMAGES, TINY, tmp_path / "x", report=lambda stage, done, total: seen.append((stage, done, total)))
    assert seen[0] == ("fitting networks", 0, 20)
    assert seen[-1] == ("fitting networks", 20, 20)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
