"""The editing benchmark on a small zoo of digits: learning, resuming, what is left in the folder, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dng.bench import editing as run_module
from dng.bench.editing import (
    Editing,
    EditingResult,
    EditResult,
    MethodResult,
    _number,
    results_tables,
)
from dng.bench.editing_methods import (
    LABELS,
    PRESETS,
    EditableZoo,
    MethodSettings,
    build_method,
    editable,
    method_settings,
)
from dng.bench.edits import dilate
from dng.bench.harness import measure, write_report
from dng.bench.pictures import Pictures
from dng.methods.ng_gnn import NGGNNConfig
from dng.models.views import to_unit_range
from dng.training.checkpoint import load_tensors
from dng.training.loop import read_metrics
from tests.dng.bench.editing_zoos import EDITORS, METHODS, sirens, tiny_settings, write_sirens
from zootool.errors import FormatError, UsageError
from zootool.zoo import Zoo


@pytest.fixture
def shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "method_settings", lambda *given: tiny_settings(*given, steps=6))


@pytest.fixture(scope="module")
def small_zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return write_sirens(tmp_path_factory.mktemp("small") / "small.zoo", sirens())


@pytest.fixture(scope="module")
def few_digits(digits_zoo: Zoo) -> Zoo:
    """Trained SIRENs: 400 to learn from, 32 to pick by, 40 to test on."""
    splits = digits_zoo.nets["split"].to_numpy(str)
    wanted = {"train": 400, "validation": 32, "test": 40}
    return digits_zoo.take(np.concatenate([np.flatnonzero(splits == name)[:n] for name, n in wanted.items()]))


@pytest.fixture(scope="module")
def finished(few_digits: Zoo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EditingResult]:
    out = tmp_path_factory.mktemp("editing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "method_settings", tiny_settings)
        return out, measure(whole(few_digits), out)


def whole(zoo: Zoo) -> Editing:
    return Editing(zoo, "quick", METHODS, ["dilate"], 1)


def without_seconds(result: EditingResult) -> EditingResult:
    edits = tuple(
        replace(found, methods=tuple(replace(method, seconds=0.0) for method in found.methods))
        for found in result.edits
    )
    return replace(result, edits=edits, skipped=False)


def test_methods_have_equal_updates_or_the_table_says_how_many(few_digits: Zoo) -> None:
    material = editable(few_digits)
    for preset in PRESETS:
        settings = [method_settings(name, preset, material) for name in LABELS]
        updates = {(chosen.training.steps, chosen.training.batch_size) for chosen in settings}
        assert (len(updates) == 1) == (preset != "paper")
    found = EditResult("dilate", 0.0, 0.1, (MethodResult("nfn-np", (0.2,), (0.2,), (1,), 10, 1.0, "300 of 16"),))
    (table,) = results_tables(EditingResult("id", "x", "quick", 1, {}, (found,)))
    assert table.rows[-1][2] == "300 of 16"
    # An edit that changes nothing leaves no error to compare with.
    assert table.rows[-1][4] == table.rows[0][4] == "-"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns(finished: tuple[Path, EditingResult], name: str) -> None:
    out, result = finished
    found = result.edits[0]
    first, last = read_metrics(out / "dilate" / "seed-0" / name)
    assert last["loss"] < 0.9 * first["loss"]
    # An editor begins at what the networks show, a predictor at nothing.
    assert found.method(name).test_mse[0] < (0.7 * found.no_edit if name in EDITORS else 0.9 * first["loss"])
    assert found.edited_rendering < 0.1 * found.no_edit


def test_the_test_error_is_that_of_the_picked_weights(finished: tuple[Path, EditingResult], few_digits: Zoo) -> None:
    out, result = finished
    material = editable(few_digits)
    for name in ("nfn-np", "ng-gnn", "dng"):
        model = build_method(name, tiny_settings(name, "quick", material).config, material)
        weights, note = load_tensors(out / "dilate" / "seed-0" / name / "best.safetensors")
        model.load_state_dict(weights)
        model.eval()
        errors = []
        with torch.no_grad():
            for batch in few_digits.select(split="test").loader(20, images=True):
                assert batch.images is not None
                wanted = to_unit_range(torch.from_numpy(dilate(batch.images.numpy())))
                errors.append((model.reconstruct(batch) - wanted).square().mean().item())
        assert len(errors) == 2
        answer = result.edits[0].method(name)
        assert answer.test_mse[0] == pytest.approx(np.mean(errors), rel=1e-5)
        assert (answer.best_steps[0], answer.validation_mse[0]) == (note["step"], note["score"])
        assert answer.num_parameters == sum(p.numel() for p in model.parameters())


def test_a_finished_run_is_skipped(
    finished: tuple[Path, EditingResult], few_digits: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = finished
    assert not result.skipped
    monkeypatch.setattr(run_module, "method_settings", tiny_settings)
    monkeypatch.setattr(run_module, "train", None)
    assert measure(whole(few_digits), out) == replace(result, skipped=True)
    # A part of what is there, in another order.
    some = measure(Editing(few_digits, "quick", ["dng", "nfn-np"], ["dilate"], 1), out)
    assert [method.method for method in some.edits[0].methods] == ["dng", "nfn-np"]


@pytest.mark.usefixtures("shortly")
def test_a_stopped_run_goes_on_and_gives_the_same_numbers(small_zoo: Zoo, tmp_path: Path) -> None:
    wanted = ("quick", ["nfn-np", "ng-gnn"], ["erode", "gradient"], 1)
    whole = measure(Editing(small_zoo, *wanted), tmp_path / "whole")

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "NG-GNN learns to erode, seed 0" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(Editing(small_zoo, *wanted), tmp_path / "stopped", stop)
    assert not (tmp_path / "stopped" / "results.json").exists()
    steps: dict[str, list[int]] = {}

    def note(stage: str, done: int, total: int) -> None:
        steps.setdefault(stage, []).append(done)

    resumed = measure(Editing(small_zoo, *wanted), tmp_path / "stopped", note)
    # Of what was finished nothing is trained again, and what was begun goes on from its last save.
    assert steps.pop("NG-GNN learns to erode, seed 0") == [4, 5, 6]
    assert set(steps) == {f"{name} learns to gradient, seed 0" for name in ("NFN (NP)", "NG-GNN")}
    assert without_seconds(resumed) == without_seconds(whole)
    assert whole.edits[0].no_edit != whole.edits[1].no_edit


def test_an_answer_that_was_lost_is_measured_again(
    small_zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_dropout(name: str, preset: str, material: EditableZoo) -> MethodSettings:
        settings = tiny_settings(name, preset, material, steps=2)
        assert isinstance(settings.config, NGGNNConfig)
        return replace(settings, config=replace(settings.config, dropout=0.5))

    monkeypatch.setattr(run_module, "method_settings", with_dropout)
    before = measure(Editing(small_zoo, "quick", ["ng-gnn"], ["dilate"], 1), tmp_path)
    (tmp_path / "dilate" / "seed-0" / "ng-gnn.json").unlink()
    again = measure(Editing(small_zoo, "quick", ["ng-gnn"], ["dilate"], 1), tmp_path)
    assert not again.skipped
    assert without_seconds(again) == without_seconds(before)


@pytest.mark.usefixtures("shortly")
def test_other_settings_in_the_same_folder_are_refused(small_zoo: Zoo, tmp_path: Path) -> None:
    measure(Editing(small_zoo, "quick", ["nfn-np"], ["dilate"], 1), tmp_path)
    with pytest.raises(UsageError, match="holds a run with preset=quick, this one has preset=paper"):
        measure(Editing(small_zoo, "paper", ["nfn-np"], ["dilate"], 1), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "method_settings", lambda *given: tiny_settings(*given, steps=8))
        with pytest.raises(UsageError, match=r"holds a run with training\.steps=6, this one has training\.steps=8"):
            measure(Editing(small_zoo, "quick", ["nfn-np"], ["dilate"], 1), tmp_path)


def test_an_answer_that_is_not_ours_is_named(
    finished: tuple[Path, EditingResult], few_digits: Zoo, tmp_path: Path
) -> None:
    answer = json.loads((finished[0] / "dilate" / "seed-0" / "dng.json").read_text())
    answer["test"]["mse"] = "low"
    (tmp_path / "dilate" / "seed-0").mkdir(parents=True)
    (tmp_path / "dilate" / "seed-0" / "dng.json").write_text(json.dumps(answer))
    with pytest.raises(FormatError, match=r"test\.mse must be a number"):
        whole(few_digits).case("dilate", "dng", 0).read(tmp_path)


def test_the_report_holds_tables_and_figure(finished: tuple[Path, EditingResult], few_digits: Zoo) -> None:
    out, result = finished
    page = write_report(whole(few_digits), result, out).read_text(encoding="utf-8")
    editors, predictors = results_tables(result)
    assert [row[0] for row in editors.rows] == ["no edit", "edit of the rendering", *(LABELS[n] for n in EDITORS)]
    assert [row[0] for row in predictors.rows] == ["DNG (INR2JLS)"]
    drawn = [axis.get_ylabel() for axis in whole(few_digits).examples("dilate", out).axes[::8]]
    assert drawn == ["original", "target", "no edit", "edit of the rendering", *LABELS.values()]
    markdown = (out / "table.md").read_text(encoding="utf-8")
    for table in (editors, predictors):
        for row in table.rows:
            assert all(cell in page and cell in markdown for cell in row), row
    assert (out / "dilate.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "dilate.png").stat().st_size > 10_000
    assert page.count('src="data:image/png;base64,') == page.count("src=") == 1
    assert len(page) > 20_000


def test_the_headline_is_of_the_method_that_validation_picks(finished: tuple[Path, EditingResult]) -> None:
    (found,) = finished[1].edits
    best, other = (name for name in EDITORS if name in ("nfn-np", "ng-gnn"))
    methods = tuple(
        replace(found.method(name), test_mse=(test,), validation_mse=(validation,))
        for name, test, validation in ((best, 0.4, 0.1), (other, 0.3, 0.2))
    )
    value, words = _number(replace(found, methods=methods))
    assert value == "0.4000"
    assert f"{LABELS[best]}, best on validation" in words
    assert "validation" not in _number(replace(found, methods=methods[:1]))[1]


@pytest.mark.usefixtures("shortly")
def test_several_seeds_have_a_mean_and_a_deviation(small_zoo: Zoo, tmp_path: Path) -> None:
    bench = Editing(small_zoo, "quick", ["nfn-np"], ["dilate"], 2)
    result = measure(bench, tmp_path)
    (table,) = results_tables(result)
    low, high = sorted(result.edits[0].methods[0].test_mse)
    assert low < high
    assert table.rows[-1][3] == f"{(low + high) / 2:.4f} ± {(high - low) / 2**0.5:.4f}"
    assert table.rows[0][4] == "1.000"
    assert "over 2 seeds" in table.caption
    write_report(bench, result, tmp_path)


def test_the_figures_pictures_are_those_of_the_first_test_networks(
    finished: tuple[Path, EditingResult], few_digits: Zoo
) -> None:
    references = whole(few_digits).references_case("dilate").read(finished[0])
    first = next(iter(few_digits.select(split="test").loader(8, images=True)))
    assert first.images is not None
    np.testing.assert_array_equal(references.originals.pixels(), first.images.numpy())
    np.testing.assert_array_equal(references.targets.pixels(), dilate(first.images.numpy()))
    assert references.rows == tuple(first.rows.tolist())
    rendered = editable(few_digits).canvas.render(first)
    unedited = references.no_edit.examples.pixels()
    np.testing.assert_array_equal(unedited, Pictures.of(rendered).pixels())
    np.testing.assert_array_equal(references.edited_rendering.examples.pixels(), dilate(unedited))
    edited = whole(few_digits).case("dilate", "ng-t", 0).read(finished[0]).test.examples.pixels()
    assert edited.shape == unedited.shape
    assert (edited != unedited).any()


def test_no_edit_is_the_error_of_the_networks_as_they_are(
    finished: tuple[Path, EditingResult], few_digits: Zoo
) -> None:
    test = few_digits.select(split="test")
    (batch,) = test.loader(len(test), images=True)
    assert batch.images is not None
    rendered = np.stack([test.module(i)(grid(8)).detach().numpy().reshape(8, 8, 1) for i in range(len(test))])
    wanted = dilate(batch.images.numpy()) / 127.5 - 1
    assert finished[1].edits[0].no_edit == pytest.approx(((rendered - wanted) ** 2).mean(), rel=1e-5)
    levels = np.rint((rendered + 1) * 127.5).clip(0, 255).astype(np.uint8)
    wanted_of_rendered = ((dilate(levels) / 127.5 - 1 - wanted) ** 2).mean()
    assert finished[1].edits[0].edited_rendering == pytest.approx(wanted_of_rendered, rel=1e-4)


def grid(side: int) -> torch.Tensor:
    axis = torch.linspace(-1, 1, side)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)


def test_neural_graphs_are_fitted_to_the_training_networks(
    finished: tuple[Path, EditingResult], few_digits: Zoo
) -> None:
    training = few_digits.select(split="train")
    (batch,) = training.loader(len(training))
    path = finished[0] / "dilate" / "seed-0" / "ng-gnn" / "best.safetensors"
    weights, _ = load_tensors(path)
    means = weights["editor.network.graph.statistics.means"][0]
    torch.testing.assert_close(means, torch.stack([edges.mean() for edges in batch.edges]), rtol=1e-3, atol=1e-5)
