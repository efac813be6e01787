"""Which zoos can be edited, how they are rendered, and the published settings on them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dng.bench.editing import Editing
from dng.bench.editing_methods import Canvas, build_method, editable, method_settings
from dng.models.inr2jls import INR2JLSConfig
from dng.testing import random_graph
from tests.dng.bench.cnn_zoos import NARROW
from tests.dng.bench.editing_zoos import DIGITS, EDITORS, METHODS, SIREN, sirens, write_sirens
from zootool.architecture import Activation, Architecture
from zootool.errors import BadDataError, MissingError, UsageError
from zootool.nets.siren import siren_architecture
from zootool.zoo import Zoo

HIDDEN, LAST = SIREN.timestamps[:-1], SIREN.timestamps[-1]
RELU = replace(SIREN, timestamps=(*(replace(t, activation=Activation("relu")) for t in HIDDEN), LAST))
ALL_SINES = replace(SIREN, timestamps=(*HIDDEN, replace(LAST, activation=HIDDEN[0].activation)))


def test_images_in_another_range_are_judged_in_minus_one_to_one() -> None:
    plain = siren_architecture(2, (5, 4), 3)
    graph = random_graph(plain, 2)
    shifted = replace(graph, architectures=(replace(plain, output_offset=0.5),))
    values = Canvas(4, 3).render(graph)
    assert values.shape == (2, 3, 4, 4)
    torch.testing.assert_close(Canvas(4, 3, 0.0, 1.0).render(shifted), 2 * values)


def test_copies_are_for_dng_alone(digits_zoo: Zoo, tmp_path: Path) -> None:
    block = sirens(count=90, copy=[i % 2 for i in range(90)])
    material = editable(write_sirens(tmp_path / "x.zoo", block))
    assert (len(material.networks(copies=True)), len(material.networks(copies=False))) == (90, 45)
    copies = {name: method_settings(name, "paper", material).copies for name in METHODS}
    assert copies == dict.fromkeys(EDITORS, False) | {"dng": True}
    assert not any(method_settings(name, "quick", material).copies for name in METHODS)
    assert sum(len(batch) for batch in material.test_loader(7)) == material.count("test") == 15
    without = editable(digits_zoo)
    assert len(without.first_copies) == len(digits_zoo)


def test_published_settings(digits_zoo: Zoo) -> None:
    material = replace(editable(digits_zoo), canvas=Canvas(28, 1))
    counts = {"nfn-hnp": 6_440_853, "nfn-np": 4_133_656, "ng-gnn": 1_186_696, "ng-t": 391_112}
    settings = {name: method_settings(name, "paper", material) for name in METHODS}
    for name, count in counts.items():
        assert sum(p.numel() for p in build_method(name, settings[name].config, material).parameters()) == count
    assert settings["dng"].config == INR2JLSConfig(28, 1, num_views=1)
    nfn, ng, dng = (settings[name].training for name in ("nfn-hnp", "ng-t", "dng"))
    assert nfn == settings["nfn-np"].training
    assert ng == settings["ng-gnn"].training
    assert (nfn.optimizer, nfn.lr, nfn.batch_size, nfn.steps, nfn.clip) == ("adam", 1e-3, 32, 50_000, None)
    assert (ng.optimizer, ng.amsgrad, ng.lr, ng.weight_decay) == ("adamw", True, 1e-3, 5e-4)
    # 400 training networks make four batches of 128 or fewer.
    assert (ng.batch_size, ng.steps, ng.clip) == (128, 200 * 4, 1.0)
    assert (dng.optimizer, dng.lr, dng.batch_size, dng.steps) == ("adam", 1e-4, 64, 400_000)
    rates = [
        (nfn.lr_factor(499), nfn.lr_factor(999)),
        (ng.lr_factor(4999), ng.lr_factor(9999)),
        (dng.lr_factor(0), dng.lr_factor(10_000)),
    ]
    assert rates == [pytest.approx((0.5, 1.0))] * 3
    assert not any(training.higher_is_better for training in (nfn, ng, dng))
    for name in METHODS:
        quick, paper = method_settings(name, "quick", material), settings[name]
        assert quick.training.steps <= 500
        assert quick.training.optimizer == paper.training.optimizer
        narrow, wide = (build_method(name, chosen.config, material) for chosen in (quick, paper))
        assert sum(p.numel() for p in narrow.parameters()) < 0.3 * sum(p.numel() for p in wide.parameters())


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (siren_architecture(3, (4, 4), 1), "its SIRENs have 3 inputs, not 2"),
        (siren_architecture(2, (4, 4), 3), "have 3 outputs, its images 1 channels"),
        (NARROW, "its networks aren't SIRENs"),
        (RELU, "its networks aren't SIRENs"),
        (ALL_SINES, "its networks aren't SIRENs"),
    ],
)
def test_networks_that_cannot_be_edited_are_named(tmp_path: Path, architecture: Architecture, message: str) -> None:
    with pytest.raises(BadDataError, match=message) as caught:
        editable(write_sirens(tmp_path / "x.zoo", sirens(architecture)))
    assert caught.value.hint


def test_the_canvas_is_rendered_on_the_zoos_grid(tmp_path: Path) -> None:
    for indexing in ("ij", "xy"):
        source = replace(DIGITS, grid=f"linspace(-1, 1), {indexing}")
        material = editable(write_sirens(tmp_path / f"{indexing}.zoo", sirens(), sources=(source,)))
        assert material.canvas.indexing == indexing


def test_two_architectures_are_named(tmp_path: Path) -> None:
    blocks = sirens(), sirens(siren_architecture(2, (5, 4), 1), seed=1)
    with pytest.raises(BadDataError, match="networks of 2 architectures, not one: build one with `zoo build siren`"):
        editable(write_sirens(tmp_path / "x.zoo", *blocks))


@pytest.mark.parametrize(
    ("columns", "source", "message"),
    [
        ({"source_index": None}, DIGITS, "doesn't say which images its networks show"),
        ({}, None, "doesn't say which images its networks show"),
        ({}, replace(DIGITS, target=None), "doesn't say how pixels become coordinates"),
        ({}, replace(DIGITS, grid="pixel centres"), "doesn't say how pixels become coordinates"),
        ({"split": ["train", "test"] * 30}, DIGITS, "no networks in the split validation"),
        ({"split": ["train", "validation"] * 27 + ["test"] * 6}, DIGITS, "has 6 networks to test on, editing needs 8"),
    ],
)
def test_zoos_that_lack_something_are_named(tmp_path: Path, columns: dict[str, Any], source: Any, message: str) -> None:
    zoo = write_sirens(tmp_path / "x.zoo", sirens(**columns), sources=() if source is None else (source,))
    with pytest.raises(BadDataError, match=message) as caught:
        editable(zoo)
    assert caught.value.hint


def test_an_image_set_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "nothing"))
    zoo = write_sirens(tmp_path / "x.zoo", sirens(), sources=(replace(DIGITS, name="mnist"),))
    with pytest.raises(MissingError, match="mnist") as caught:
        editable(zoo)
    assert caught.value.hint


def test_dng_needs_a_side_that_can_be_halved_twice(digits_zoo: Zoo) -> None:
    material = replace(editable(digits_zoo), canvas=Canvas(30, 1))
    with pytest.raises(UsageError, match="a multiple of 4, those of digits have 30: leave it out of --model"):
        method_settings("dng", "quick", material)
    assert method_settings("ng-t", "quick", material)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("quik", ["dng"], ["dilate"]), "no preset 'quik': did you mean 'quick'?"),
        (("quick", ["dng", "nfn-hpn"], ["dilate"]), "no model 'nfn-hpn': did you mean 'nfn-hnp'"),
        (("quick", ["dng"], ["dilate", "erod"]), "no edit 'erod': did you mean 'erode'?"),
    ],
)
def test_unknown_names_are_told(digits_zoo: Zoo, names: tuple[str, list[str], list[str]], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Editing(digits_zoo, *names, 1)
    assert message in str(caught.value)
