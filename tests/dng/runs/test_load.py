"""Runs of older versions (tests/golden/runs, each made by the code of its time) are read, and broken ones are named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import dng
from dng.methods.registry import READERS, method, zoo_kind
from dng.models.model import Reader, Representation
from dng.runs.codes import load_code_classifier
from dng.runs.load import VERSION, up_to_date, write_model_spec
from dng.runs.presets import reader_preset
from dng.testing import random_graph
from dng.training.checkpoint import save_tensors
from dng.training.seed import seeded
from tests.dng.graphs import small_cnn
from zootool.errors import FormatError, UsageError

RUNS = Path(__file__).parents[2] / "golden" / "runs"
OUTPUTS = json.loads((RUNS / "outputs.json").read_text())
MODEL_OF = {name: name for name in ("inr2jls", "memory-decoder", "inr2array")}


@pytest.mark.parametrize("name", OUTPUTS)
@torch.no_grad()
def test_a_run_of_version_1_gives_the_outputs_of_its_time(name: str) -> None:
    model = dng.load(RUNS / name)
    graph = random_graph(model.architecture, batch=3, seed=0)
    found = model(graph) if isinstance(model, Reader) else model.encode(graph)
    wanted = OUTPUTS[name]
    assert found.double().sum().item() == pytest.approx(wanted["sum"], rel=1e-5)
    assert found.flatten()[:4].tolist() == pytest.approx(wanted["first"], rel=1e-5, abs=1e-7)
    if isinstance(model, Reader):
        assert (model.method, model.kind, model.predict(graph).shape) == ("dng", name, (3,))
    else:
        assert isinstance(model, Representation)
        assert load_code_classifier(RUNS / name).predict(model.encode(graph)).shape == (3,)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_of_version_1_is_claimed_by_the_same_model(name: str, tmp_path: Path) -> None:
    shutil.copytree(RUNS / name / MODEL_OF.get(name, "."), tmp_path / "run")
    before = (tmp_path / "run" / "model.json").read_bytes()
    write_model_spec(tmp_path / "run", dng.load(RUNS / name))
    assert (tmp_path / "run" / "model.json").read_bytes() == before
    other = "classifier" if name == "predictor" else "predictor"
    with pytest.raises(UsageError, match="holds a run with"):
        write_model_spec(tmp_path / "run", dng.load(RUNS / other))


def test_every_version_has_a_step_to_the_next() -> None:
    """Whoever changes what model.json holds raises the version, and adds a step and a run of the one before."""
    for path in RUNS.rglob("model.json"):
        spec = json.loads(path.read_text())
        assert up_to_date(spec)["version"] == VERSION
        assert up_to_date(up_to_date(spec)) == up_to_date(spec)


@pytest.mark.parametrize("name", READERS)
def test_every_method_is_loaded_as_it_was(name: str, tmp_path: Path) -> None:
    if zoo_kind([small_cnn()]) not in method(name).presets:
        pytest.skip("its networks are others")
    settings = reader_preset("demo", [small_cnn()], lambda _: 8, name, 1)
    with seeded(0):
        model = method(name).reader()([small_cnn()], 1, settings.config).eval()  # type: ignore[missing-argument]
    graph = random_graph(small_cnn(), batch=4)
    model.fit([graph])
    model.predicts = "accuracy"
    write_model_spec(tmp_path, model)
    save_tensors(tmp_path / "best.safetensors", model.state_dict(), {"step": 1, "score": 0.0})
    found = dng.load(tmp_path)
    assert isinstance(found, type(model))
    assert (found.config, found.method, found.predicts) == (model.config, model.method, "accuracy")
    with torch.no_grad():
        assert torch.equal(found.predict(graph), model.predict(graph))
        assert torch.equal(found.encode(graph), model.encode(graph))
        assert len(found.encode(graph)) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 3}, "has the version 3, known are 1 to 2"),
        ({"version": [1]}, r"has the version \[1\]"),
        ({"kind": "classifer"}, "describes a model of the kind 'classifer'"),
        ({"version": 2, "method": "dgn", "num_outputs": 1}, "by the method dgn"),
        ({"version": 2, "method": "dng", "num_outputs": "1"}, "with 1 outputs by the method dng"),
        ({"config": {"num_outputs": 1, "encoder": 3}}, "must be an object"),
    ],
)
def test_broken_descriptions_are_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    shutil.copytree(RUNS / "predictor", tmp_path / "run")
    path = tmp_path / "run" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FormatError, match=words):
        dng.load(tmp_path / "run")
