import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

from dng.bench.classification_page import write_classification_report
from dng.bench.harness import measure
from dng.bench.inr_classification import INRClassification, read_result, write_predictions
from dng.models.heads import CodeClassifier
from dng.models.model import Representation
from dng.runs.codes import Latents
from dng.runs.load import load
from dng.runs.two_stage import PAPER, Ablation
from dng.zoo_data import EndlessBatches
from tests.dng.bench.zoos import TINY
from tests.zootool.store.small_stores import random_tensors
from zootool import open_zoo
from zootool.errors import BadDataError, FormatError, MissingError, UsageError
from zootool.nets.siren import siren_architecture
from zootool.store import write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.zoo import Zoo

TEST = {"split": ["test"] * 3}


def test_accuracy_is_far_above_chance_and_recomputable(digits_zoo: Zoo, finished_run: Path) -> None:
    result = read_result(finished_run)
    assert result is not None
    assert result.test_accuracy > 0.4
    assert result.num_networks == 600
    assert result.zoo_id == digits_zoo.id
    table = pd.read_parquet(finished_run / "predictions.parquet")
    assert (table["label"] == table["prediction"]).mean() == pytest.approx(result.test_accuracy)
    assert table["net_id"].tolist() == digits_zoo.select(split="test").nets["net_id"].tolist()
    assert table["label"].tolist() == digits_zoo.select(split="test").nets["label"].tolist()


def test_the_most_frequent_class_stands_beside_the_accuracy(
    digits_zoo: Zoo, finished_run: Path, tmp_path: Path
) -> None:
    result = read_result(finished_run)
    counts = digits_zoo.select(split="test").nets["label"].value_counts()
    assert result is not None
    assert result.largest_class == counts.max() / counts.sum() > 0.1
    assert result.chance == f"the most frequent class alone gives {result.largest_class:.1%}"
    plain = json.loads((finished_run / "results.json").read_text())
    del plain["largest_class"]
    (tmp_path / "results.json").write_text(json.dumps(plain | {"of_a_later_version": 1}))
    older = read_result(tmp_path)
    assert older is not None
    assert older.chance == "one of 10 classes is 10.0%"


def test_predictions_stand_beside_their_own_networks(tmp_path: Path) -> None:
    """Loaders give networks of the same node counts together, tables are in the store's order."""
    narrow, wide = siren_architecture(2, (4, 4), 1), siren_architecture(2, (6, 6), 1)
    slow = siren_architecture(2, (4, 4), 1, omega_0=10.0)
    blocks = [
        Block(siren, random_tensors(siren, 3, seed), pa.table({"net_id": [f"{seed}{i}" for i in range(3)], **TEST}))
        for seed, siren in enumerate((narrow, wide, slow))
    ]
    write_store(tmp_path / "x.zoo", MemorySource(SourceInfo("x"), blocks))
    zoo = open_zoo(tmp_path / "x.zoo")
    given = torch.cat([batch.rows for batch in zoo.loader(2)])
    assert given.tolist() != sorted(given.tolist())
    write_predictions(tmp_path, zoo, given, given + 100)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert table["net_id"].tolist() == zoo.nets["net_id"].tolist()
    assert table["prediction"].tolist() == zoo.rows.tolist()
    assert table["label"].tolist() == (zoo.rows + 100).tolist()


def test_with_shuffled_labels_accuracy_falls_to_chance(digits_zoo: Zoo, finished_run: Path, tmp_path: Path) -> None:
    # INR2JLS never sees a label, so the trained one serves the control as well.
    shutil.copytree(finished_run / "inr2jls", tmp_path / "inr2jls")
    result = measure(INRClassification(digits_zoo, "tiny", TINY, control="shuffled-labels"), tmp_path)
    assert result.test_accuracy < 0.22


@pytest.mark.parametrize("ablation", [name for name in get_args(Ablation) if name != "none"])
def test_every_ablation_runs_end_to_end(digits_zoo: Zoo, tmp_path: Path, ablation: str) -> None:
    short = replace(
        TINY,
        reconstruction=replace(TINY.reconstruction, steps=6, validate_every=3),
        classification=replace(TINY.classification, steps=6, validate_every=3),
        encoder_only=replace(TINY.encoder_only, training=replace(TINY.encoder_only.training, steps=6)),
    ).with_ablation(ablation)
    result = measure(INRClassification(digits_zoo, "tiny", short), tmp_path)
    assert result.ablation == ablation
    assert 0 <= result.test_accuracy <= 1
    assert (result.validation_mse is None) == (ablation == "encoder-only")
    model = load(tmp_path)
    graph = next(iter(digits_zoo.loader(3)))
    if isinstance(model, Representation):
        assert model.reconstruct(graph).shape == (3, 1, 8, 8)
        assert len(model.encode(graph)) == 3
    write_classification_report(digits_zoo, tmp_path, tmp_path / "report.html")
    assert f"ablation &#39;{ablation}&#39;" in (tmp_path / "report.html").read_text()


def test_inr_inr_trains_as_long_as_published() -> None:
    chosen = PAPER.with_ablation("inr-inr")
    assert (PAPER.reconstruction.steps, chosen.reconstruction.steps) == (400_000, 200_000)
    assert chosen.with_ablation("inr-inr") == chosen
    assert chosen.classification == PAPER.classification


@pytest.mark.parametrize("shape", [(3, 256), (3, 512)])
def test_codes_without_views_are_classified_without_dropout(shape: tuple[int, ...]) -> None:
    classifier = PAPER.code_classifier(shape[1:], 10).build().train()
    assert isinstance(classifier, CodeClassifier)
    codes = torch.randn(shape)
    assert torch.equal(classifier(codes), classifier(codes))
    assert [layer.out_features for layer in classifier.mlp if isinstance(layer, nn.Linear)] == [256, 256, 10]


def test_an_unknown_ablation_is_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'noise'"):
        TINY.with_ablation("nois")


def test_a_finished_run_is_read_not_repeated(digits_zoo: Zoo, finished_run: Path) -> None:
    before = (finished_run / "results.json").read_bytes()
    result = measure(INRClassification(digits_zoo, "tiny", TINY), finished_run)
    assert result.skipped
    assert (finished_run / "results.json").read_bytes() == before


def test_another_seed_in_the_same_folder_is_refused(digits_zoo: Zoo, finished_run: Path) -> None:
    with pytest.raises(UsageError, match="seed=0, this one has seed=1"):
        measure(INRClassification(digits_zoo, "tiny", TINY.with_seed(1)), finished_run)


def test_a_zoo_without_a_split_is_refused(digits_zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="no networks in the split test"):
        measure(INRClassification(digits_zoo.select(split=["train", "validation"]), "tiny", TINY), tmp_path)


def test_latents_on_the_fly_are_those_of_the_cache(digits_zoo: Zoo, finished_run: Path) -> None:
    model = load(finished_run)
    assert isinstance(model, Representation)
    selected = digits_zoo.select(split="test")

    def latents(cache_bytes: int) -> Latents:
        return Latents(
            model,
            lambda size, shuffle, seed: selected.loader(size, shuffle=shuffle, seed=seed),
            lambda batch: batch.rows,
            len(selected),
            cache_bytes,
        )

    cached, streamed = list(latents(1 << 30).once(32)), list(latents(0).once(32))
    for (a, rows_a), (b, rows_b) in zip(cached, streamed, strict=True):
        assert torch.equal(rows_a, rows_b)
        torch.testing.assert_close(a, b)
    seen = [next(batches)[1] for batches in [iter(latents(0).endless(32, seed=0))] for _ in range(4)]
    assert sorted(torch.cat(seen).tolist()) == selected.rows.tolist()


def test_batches_hold_the_zoos_weights_labels_and_images(digits_zoo: Zoo) -> None:
    from zootool.images import load_images

    images = load_images("digits")
    batch = next(iter(digits_zoo.loader(16, shuffle=True, seed=3, images=True)))
    assert batch.images is not None
    for place, row in enumerate(batch.rows.tolist()):
        state = digits_zoo.state_dict(row)
        assert torch.equal(batch.edges[1][place, :, :, 0], state["net.1.linear.weight"])
        assert torch.equal(batch.nodes[2][place, :, 0], state["net.2.bias"])
        source = int(digits_zoo.nets["source_index"][row])
        assert batch.targets["label"][place] == images.labels[source]
        assert torch.equal(batch.images[place], torch.from_numpy(images.pixels[source]))


def test_endless_batches_go_on_from_their_state(digits_zoo: Zoo) -> None:
    def stream() -> EndlessBatches:
        return EndlessBatches(digits_zoo.loader(250, shuffle=True, seed=1), lambda batch: batch.rows.tolist())

    whole = iter(stream())
    expected = [next(whole) for _ in range(7)]
    first = stream()
    running = iter(first)
    assert [next(running) for _ in range(4)] == expected[:4]
    second = stream()
    second.load_state_dict(first.state_dict())
    resumed = iter(second)
    assert [next(resumed) for _ in range(3)] == expected[4:]


def test_a_run_that_is_not_there_or_not_ours_is_named(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="holds no trained model"):
        load(tmp_path)
    shutil.copytree(finished_run / "inr2jls", tmp_path / "run")
    (tmp_path / "run" / "best.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00nonsense")
    with pytest.raises(FormatError, match="no checkpoint"):
        load(tmp_path / "run")
    (tmp_path / "run" / "model.json").write_text("[]")
    with pytest.raises(FormatError, match="kind None"):
        load(tmp_path / "run")
