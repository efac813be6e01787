"""INR2ARRAY from a zoo to a test accuracy: training without labels or images, then a classifier of frozen latents."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from PIL import Image

import dng
from dng.bench.classification_page import write_classification_report
from dng.bench.harness import measure
from dng.bench.inr_classification import INRClassification
from dng.bench.pictures import reconstruct, to_pictures
from dng.methods.building import RefusedError
from dng.methods.inr2array import INR2Array, LatentTransformer, LatentTransformerConfig
from dng.models.heads import count_parameters
from dng.models.siren_rendering import render_graph
from dng.runs.apply import embed, predict
from dng.runs.codes import CodeClassification, Latents, load_code_classifier
from dng.runs.on_zoo import fit_representation, image_shape, prepare_representation
from dng.runs.tasks import Reconstruction
from dng.runs.two_stage import CLASSIFICATION_PRESETS, INR2ARRAY_PRESETS, two_stage_preset
from dng.training.checkpoint import load_tensors, save_tensors
from dng.training.loop import train
from dng.training.metrics import read_metrics
from dng.zoo_data import Zoo
from tests.dng.bench.cnn_zoos import NARROW, write_cnn_zoo
from tests.dng.bench.editing_zoos import DIGITS, write_sirens
from tests.dng.bench.smooth_sirens import NOWHERE, TINY, smooth_sirens, smooth_zoo
from zootool.errors import FormatError, UsageError
from zootool.nets.siren import siren_architecture


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return smooth_zoo(tmp_path_factory.mktemp("zoo") / "x.zoo")


@pytest.fixture(scope="module")
def finished(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    measure(INRClassification(zoo, "tiny", TINY), out)
    return out


def loaded(run_dir: Path) -> INR2Array:
    model = dng.load(run_dir)
    assert isinstance(model, INR2Array)
    return model


def test_weights_of_an_older_model_are_refused_with_the_reason(zoo: Zoo, finished: Path, tmp_path: Path) -> None:
    """They had one table of embeddings for weights and biases."""
    for name, prefix in (("best", ""), ("last", "model.")):
        shutil.copytree(finished, tmp_path / name)
        folder = tmp_path / name / "inr2array"
        tensors, note = load_tensors(folder / f"{name}.safetensors")
        del tensors[f"{prefix}encoder.embeddings.biases"]
        save_tensors(folder / f"{name}.safetensors", tensors, note)
    with pytest.raises(
        FormatError,
        match=r"best.safetensors: the weights don't fit .* lacks encoder.embeddings.biases: .*train it anew",
    ):
        dng.load(tmp_path / "best")
    for left in (tmp_path / "last" / "results.json", tmp_path / "last" / "inr2array" / "done.json"):
        left.unlink()
    with pytest.raises(FormatError, match=r"last.safetensors: .* lacks encoder.embeddings.biases: .*train it anew"):
        measure(INRClassification(zoo, "tiny", TINY), tmp_path / "last")


def test_the_error_of_renderings_falls_without_images_and_is_what_the_result_says(zoo: Zoo, finished: Path) -> None:
    scores = [line["score"] for line in read_metrics(finished / "inr2array")]
    graph = next(iter(zoo.select(split="validation").loader(20)))
    images = render_graph(graph, 6)
    assert scores[-1] < 0.5 * scores[0]
    # Better than the mean image of the very networks that it is tested on.
    assert min(scores) < 0.5 * images.var(dim=0, unbiased=False).mean()
    result = json.loads((finished / "results.json").read_text())
    assert result["validation_mse"] == min(scores)
    with torch.no_grad():
        error = (loaded(finished).reconstruct(graph) - images).square().mean().item()
    assert error == pytest.approx(min(scores), rel=1e-4)


@pytest.mark.parametrize("images", [False, True])
def test_source_images_are_no_targets(tmp_path: Path, images: bool) -> None:
    zoo = smooth_zoo(tmp_path / "x.zoo", DIGITS)
    model, _ = prepare_representation(zoo, TINY)
    loader = zoo.loader(60, images=images)
    batch = next(iter(loader))
    assert (batch.images is not None) == images
    assert isinstance(model, INR2Array)
    expected = (model.reconstruct(batch) - render_graph(batch, 8)).square().mean()
    torch.testing.assert_close(Reconstruction(model, loader).loss(batch), expected)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(zoo: Zoo, tmp_path: Path) -> None:
    short = replace(TINY.reconstruction, steps=9, batch_size=8, validate_every=4)

    def fit(folder: str, stop_after: int) -> None:
        def report(stage: str, done: int, total: int) -> None:
            assert stage == "training inr2array"
            if done == stop_after:
                raise KeyboardInterrupt

        model, loaders = prepare_representation(zoo, TINY)
        fit_representation(model, loaders, short, tmp_path / folder, report=report)

    fit("whole", -1)
    with pytest.raises(KeyboardInterrupt):
        fit("stopped", 6)
    fit("stopped", -1)
    for name in ("best.safetensors", "last.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


@pytest.mark.parametrize("cache_bytes", [1 << 30, 0])
def test_classification_leaves_the_encoder_as_it_is(zoo: Zoo, tmp_path: Path, cache_bytes: int) -> None:
    model, _ = prepare_representation(zoo, TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    labels = torch.arange(60) % 10

    def latents(split: str) -> Latents:
        part = zoo.select(split=split)
        return Latents(model.train(), part.loader, lambda batch: labels[batch.rows], len(part), cache_bytes)

    classifier = LatentTransformer(16, 10, TINY.classifier)
    untrained = classifier.get_parameter("head.0.weight").detach().clone()
    task = CodeClassification(classifier, latents("validation"), 16)
    train(task, latents("train").endless(16, 0), TINY.classification, tmp_path)
    assert not torch.equal(untrained, classifier.get_parameter("head.0.weight"))
    assert not model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert not parameter.requires_grad
        assert parameter.grad is None


def test_the_run_predicts_what_it_reported(zoo: Zoo, finished: Path) -> None:
    result = measure(INRClassification(zoo, "tiny", TINY), finished)
    assert result.skipped
    assert (result.model, result.num_classes, result.ablation) == ("inr2array", 10, "none")
    classifier = load_code_classifier(finished)
    assert isinstance(classifier, LatentTransformer)
    assert classifier.config == TINY.classifier
    assert result.num_parameters == count_parameters(loaded(finished)) + count_parameters(classifier)
    reported = pd.read_parquet(finished / "predictions.parquet")
    found = predict(zoo.select(split="test"), finished)
    assert found.table["net_id"].to_pylist() == reported["net_id"].tolist()
    assert found.table["prediction"].to_pylist() == reported["prediction"].tolist()
    assert (reported["label"] == reported["prediction"]).mean() == pytest.approx(result.test_accuracy)


def test_a_run_gives_latents_and_images(zoo: Zoo, finished: Path, tmp_path: Path) -> None:
    found = embed(zoo, finished, tmp_path / "codes")
    assert found.model_kind == "inr2array"
    assert found.shape == (60, 2, 2, 16)
    model, graph = loaded(finished), zoo.graph(7)
    codes = np.asarray(zarr.open_array(tmp_path / "codes" / "codes", mode="r")[:])
    with torch.no_grad():
        np.testing.assert_allclose(codes[7], model.encode(graph)[0].numpy(), atol=1e-5)
        wanted = to_pictures(model.reconstruct(graph))
    assert reconstruct(zoo, finished, tmp_path / "images", limit=8).num_images == 8
    assert wanted.shape == (1, 6, 6, 1)


def test_images_of_a_zoo_in_xy_are_upright(
    zoo: Zoo, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = zoo.graph(7)
    with torch.no_grad():
        decoded = loaded(finished).reconstruct(graph)[0, 0]
    source = replace(zoo.info.sources[0], grid="linspace(-1, 1), xy", target=(0.0, 1.0))
    monkeypatch.setattr(zoo.store, "info", replace(zoo.info, sources=(source,)))
    found = reconstruct(zoo, finished, tmp_path / "images", limit=8)
    assert found.num_images == 8
    index = pd.read_parquet(tmp_path / "images" / "index.parquet")
    with Image.open(tmp_path / "images" / index["file"][7]) as picture:
        written = np.asarray(picture) / 255
    np.testing.assert_allclose(written, decoded.T.clamp(0, 1).numpy(), atol=1 / 255)


def test_another_method_in_the_same_folder_is_refused(zoo: Zoo, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="model=inr2array, this one has model=inr2jls"):
        measure(INRClassification(zoo, "tiny", two_stage_preset("inr2jls", "demo")), finished)
    spec = json.loads((finished / "latent-classifier" / "classifier.json").read_text())
    (tmp_path / "latent-classifier").mkdir()
    broken = tmp_path / "latent-classifier" / "classifier.json"
    broken.write_text(json.dumps(spec | {"config": asdict(LatentTransformerConfig()) | {"num_heads": 5}}))
    with pytest.raises(FormatError, match="divisible by num_heads"):
        load_code_classifier(tmp_path)


def test_epochs_of_the_classifier_are_over_the_training_networks(zoo: Zoo, tmp_path: Path) -> None:
    short = replace(
        TINY,
        reconstruction=replace(TINY.reconstruction, steps=1),
        classification=replace(TINY.classification, batch_size=8),
        epochs=2,
    )
    measure(INRClassification(zoo, "tiny", short), tmp_path)
    # 20 networks are three batches.
    assert [line["step"] for line in read_metrics(tmp_path / "latent-classifier")] == [3, 6]


def test_the_report_names_the_method(tmp_path: Path) -> None:
    zoo = smooth_zoo(tmp_path / "x.zoo", DIGITS)
    short = replace(TINY, reconstruction=replace(TINY.reconstruction, steps=2))
    measure(INRClassification(zoo, "tiny", short), tmp_path / "run")
    write_classification_report(zoo, tmp_path / "run", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "INR2ARRAY and a classifier" in text
    assert "--model inr2array" in text


@pytest.mark.parametrize("channels", [1, 3])
def test_the_zoos_images_choose_side_and_decoder(tmp_path: Path, channels: int) -> None:
    source = replace(NOWHERE, shape=(10, 10, channels))
    zoo = smooth_zoo(tmp_path / "x.zoo", source, siren_architecture(2, (4, 4), channels))
    model, _ = prepare_representation(zoo, TINY)
    assert isinstance(model, INR2Array)
    assert (model.config.image_side, model.config.decoder) == (10, "tensorwise" if channels == 1 else "joint")
    assert replace(model.config, image_side=28, decoder="tensorwise") == TINY.representation


def test_the_shape_of_images_is_found_without_them_or_in_them(zoo: Zoo, tmp_path: Path) -> None:
    assert image_shape(zoo) == (6, 6, 1)
    assert image_shape(smooth_zoo(tmp_path / "x.zoo", DIGITS)) == (8, 8, 1)


def test_networks_it_cannot_take_are_named(finished: Path, tmp_path: Path) -> None:
    wider = smooth_sirens(siren_architecture(2, (5, 4), 1), seed=1)
    mixed = write_sirens(tmp_path / "x.zoo", smooth_sirens(), wider, sources=(NOWHERE,))
    with pytest.raises(RefusedError, match="INR2ARRAY can't take the zoo: its networks differ in width"):
        measure(INRClassification(mixed, "tiny", TINY), tmp_path / "run")
    with pytest.raises(UsageError, match=r"SIRENs with node counts \(2, 4, 4, 1\).*the networks have .*\(2, 5, 4, 1\)"):
        embed(mixed, finished, tmp_path / "codes")
    other = smooth_zoo(tmp_path / "y.zoo", architecture=siren_architecture(2, (4, 4), 1, omega_0=20.0))
    with pytest.raises(UsageError, match=r"omega_0 30 and offset 0, the networks have .* omega_0 20 and"):
        embed(other, finished, tmp_path / "codes")
    cnns = write_cnn_zoo(tmp_path / "z.zoo", NARROW)
    with pytest.raises(UsageError, match="the networks have node counts"):
        embed(cnns, finished, tmp_path / "codes")


def test_the_paper_preset_is_the_published_one() -> None:
    paper = INR2ARRAY_PRESETS["paper"]
    assert paper.for_images(28, 1) == INR2Array.presets["inr"]
    assert paper.for_images(32, 3) == INR2Array.presets["inr-rgb"]
    assert paper.classifier == LatentTransformerConfig()
    first, second = paper.reconstruction, paper.classifier_training(lambda size: -(-55_000 // size))
    for training in (first, second):
        assert (training.optimizer, training.lr, training.decay) == ("adamw", 1e-4, "cosine")
        assert training.lr_factor(4_999) == pytest.approx(0.5, rel=0.04)
        assert training.lr_factor(10_000) == pytest.approx((1 + np.cos(np.pi * 10_000 / training.steps)) / 2)
    assert (first.steps, first.batch_size, first.weight_decay, first.validate_every) == (200_000, 64, 0.01, 1000)
    assert not first.higher_is_better
    assert (second.steps, second.batch_size, second.weight_decay, second.validate_every) == (43_000, 128, 0.1, 430)
    assert second.higher_is_better


def test_presets_are_found_by_method_and_name() -> None:
    assert set(INR2ARRAY_PRESETS) == set(CLASSIFICATION_PRESETS)
    assert two_stage_preset("inr2jls", "cpu") is CLASSIFICATION_PRESETS["cpu"]
    chosen = two_stage_preset("inr2array", "cpu").with_seed(3)
    assert chosen == INR2ARRAY_PRESETS["cpu"].with_seed(3)
    assert (chosen.seed, chosen.reconstruction.seed, chosen.classification.seed) == (3, 3, 3)
    assert chosen.classifier_training(lambda _: 10**6) == chosen.classification
    with pytest.raises(UsageError, match="did you mean 'inr2array'"):
        two_stage_preset("inr2aray", "cpu")
    with pytest.raises(UsageError, match="did you mean 'demo'"):
        two_stage_preset("inr2array", "dmeo")
    with pytest.raises(UsageError, match="INR2ARRAY has no ablation 'noise': they are INR2JLS's"):
        chosen.with_ablation("noise")
    assert chosen.with_ablation("none") == chosen
