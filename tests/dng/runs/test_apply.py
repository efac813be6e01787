import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from PIL import Image

import dng
from dng.bench.pictures import contact_sheet, reconstruct, to_pictures
from dng.encoder.config import EncoderConfig
from dng.methods.dynamic_graph import DNG, DNGConfig
from dng.models.model import Representation
from dng.runs.apply import embed, predict
from dng.runs.load import write_model_spec
from dng.training.checkpoint import save_tensors
from dng.training.seed import seeded
from tests.dng.bench.cnn_zoos import NARROW, NARROW_TOO, WIDE, write_cnn_zoo
from tests.zootool.store.small_stores import random_block
from zootool import open_zoo
from zootool.errors import FormatError, MissingError, UsageError
from zootool.files import sha256_file
from zootool.nets.siren import siren_architecture
from zootool.store import WriteOptions, write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.zoo import Zoo

ENCODER = EncoderConfig(dim=6, num_frequencies=4, head_dim=2)


@pytest.fixture(scope="module")
def mixed_zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return write_cnn_zoo(tmp_path_factory.mktemp("cnns") / "cnns.zoo", NARROW, WIDE, NARROW_TOO, count=20)


@pytest.fixture(scope="module")
def predictor_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoder = EncoderConfig(dim=6, num_frequencies=4, head_dim=2, shared=True, max_edges=9)
    with seeded(0):
        model = DNG([NARROW], 1, DNGConfig(encoder, 8))
    model.predicts = "accuracy"
    return save_run(tmp_path_factory.mktemp("run"), model)


def save_run(folder: Path, model: DNG) -> Path:
    write_model_spec(folder, model)
    save_tensors(folder / "best.safetensors", model.state_dict(), {"step": 1, "score": 0.0})
    return folder


def codes_in(folder: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(folder / "codes", mode="r")[:])


def code_of(model: dng.INR2JLS, zoo: Zoo, index: int) -> np.ndarray:
    with torch.no_grad():
        return model.encode(zoo.graph(index))[0].numpy()


def test_codes_are_those_of_the_model_in_the_order_of_their_ids(
    digits_zoo: Zoo, finished_run: Path, tmp_path: Path
) -> None:
    found = embed(digits_zoo, finished_run, tmp_path / "codes")
    codes = codes_in(tmp_path / "codes")
    assert zarr.open_array(tmp_path / "codes" / "codes", mode="r").metadata.zarr_format == 3
    assert codes.shape == found.shape == (600, 6, 24, 2, 2)
    assert codes.dtype == np.float32
    assert pd.read_parquet(tmp_path / "codes" / "nets.parquet")["net_id"].tolist() == digits_zoo.nets["net_id"].tolist()
    model = dng.load(finished_run)
    assert isinstance(model, dng.INR2JLS)
    for index in (0, 130, 599):
        np.testing.assert_allclose(codes[index], code_of(model, digits_zoo, index), atol=1e-5)
    manifest = json.loads((tmp_path / "codes" / "embedding.json").read_text())
    assert manifest["zoo_id"] == digits_zoo.id
    assert manifest["model_digest"] == sha256_file(finished_run / "inr2jls" / "best.safetensors")
    assert manifest["shape"] == [600, 6, 24, 2, 2]


def test_memories_of_mixed_networks_have_their_ids(mixed_zoo: Zoo, predictor_run: Path, tmp_path: Path) -> None:
    found = embed(mixed_zoo, predictor_run, tmp_path / "codes")
    assert found.shape == (60, 2, 6)
    codes = codes_in(tmp_path / "codes")
    net_ids = pd.read_parquet(tmp_path / "codes" / "nets.parquet")["net_id"].tolist()
    known = mixed_zoo.nets["net_id"].tolist()
    assert sorted(net_ids) == sorted(known)
    model = dng.load(predictor_run)
    for place in (0, 25, 59):
        graph = mixed_zoo.graph(known.index(net_ids[place]))
        with torch.no_grad():
            np.testing.assert_allclose(codes[place], model.encode(graph)[0].numpy(), atol=1e-5)


def test_a_failed_embedding_leaves_nothing(mixed_zoo: Zoo, finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the encoder was built for"):
        embed(mixed_zoo, finished_run, tmp_path / "codes")
    assert list(tmp_path.iterdir()) == []


def test_a_benchmarks_run_predicts_what_it_reported(digits_zoo: Zoo, finished_run: Path, tmp_path: Path) -> None:
    found = predict(digits_zoo.select(split="test"), finished_run)
    reported = pd.read_parquet(finished_run / "predictions.parquet")
    assert found.kind == "class"
    assert found.table["net_id"].to_pylist() == reported["net_id"].tolist()
    assert found.table["prediction"].to_pylist() == reported["prediction"].tolist()
    found.write(tmp_path / "p.parquet")
    written = pq.read_table(tmp_path / "p.parquet")
    assert written.equals(found.table)
    assert written.schema.metadata[b"zoo_id"].decode() == digits_zoo.id
    with pytest.raises(UsageError, match="exists"):
        found.write(tmp_path / "p.parquet")


def test_predicted_accuracies_are_in_the_zoos_order(mixed_zoo: Zoo, predictor_run: Path) -> None:
    found = predict(mixed_zoo, predictor_run)
    assert found.kind == "accuracy"
    assert found.table["net_id"].to_pylist() == mixed_zoo.nets["net_id"].tolist()
    model = dng.load(predictor_run)
    assert isinstance(model, DNG)
    for index in (0, 25, 59):
        wanted = model.predict(mixed_zoo.graph(index)).item()
        assert found.table["prediction"][index].as_py() == pytest.approx(wanted, abs=1e-5)


def test_networks_that_are_not_finite_get_no_prediction_and_no_image(tmp_path: Path) -> None:
    architecture = siren_architecture(2, (4, 4), 1)
    block = random_block(architecture, 5)
    block.tensors[architecture.slots[0].key][3].flat[0] = np.nan
    write_store(tmp_path / "x.zoo", MemorySource(SourceInfo("x"), (block,)), WriteOptions(nonfinite="keep"))
    with seeded(0):
        model = DNG([architecture], 3, DNGConfig(ENCODER, 8))
    found = predict(open_zoo(tmp_path / "x.zoo"), save_run(tmp_path / "run", model))
    assert found.num_non_finite == 1
    assert found.table["prediction"].is_null().to_pylist() == [False, False, False, True, False]
    assert embed(open_zoo(tmp_path / "x.zoo"), tmp_path / "run", tmp_path / "codes").num_non_finite == 1


def test_images_are_written_by_net_id(digits_zoo: Zoo, finished_run: Path, tmp_path: Path) -> None:
    found = reconstruct(digits_zoo, finished_run, tmp_path / "images", limit=12)
    assert (found.num_images, found.num_non_finite) == (12, 0)
    index = pd.read_parquet(tmp_path / "images" / "index.parquet")
    assert index["net_id"].tolist() == digits_zoo.nets["net_id"].tolist()[:12]
    model = dng.load(finished_run)
    assert isinstance(model, Representation)
    with torch.no_grad():
        wanted = to_pictures(model.reconstruct(digits_zoo.graph(11)))[0, :, :, 0]
    with Image.open(tmp_path / "images" / index["file"][11]) as picture:
        written = np.asarray(picture)
    assert np.abs(written.astype(int) - wanted).max() <= 1
    # Two rows of digits, each of 8 pixels enlarged four times, and gaps of 2 around them.
    with Image.open(tmp_path / "images" / "contact-sheet.png") as sheet:
        assert sheet.size == (10 * 34 + 2, 2 * 34 + 2)


def test_a_contact_sheet_shows_every_picture_in_its_place() -> None:
    pictures = [np.full((16, 16, 3), 20 * i, np.uint8) for i in range(12)]
    sheet = contact_sheet(pictures)
    assert [sheet[2 + 34 * (i // 10) + 5, 2 + 34 * (i % 10) + 5, 0] for i in range(12)] == [20 * i for i in range(12)]


def test_pixels_are_clipped() -> None:
    images = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, float("nan")]).view(1, 1, 1, 6)
    assert to_pictures(images).flatten().tolist() == [0, 0, 128, 255, 255, 0]


def test_runs_that_cannot_do_it_are_named(
    digits_zoo: Zoo, mixed_zoo: Zoo, predictor_run: Path, finished_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="holds a predictor, which reconstructs no images"):
        reconstruct(mixed_zoo, predictor_run, tmp_path / "images")
    with pytest.raises(MissingError, match="holds no classifier"):
        predict(digits_zoo, finished_run / "inr2jls")
    with pytest.raises(MissingError, match="holds no trained model"):
        predict(digits_zoo, tmp_path)
    shutil.copytree(finished_run, tmp_path / "run")
    spec = tmp_path / "run" / "latent-classifier" / "classifier.json"
    spec.write_text(spec.read_text().replace('"num_classes":10', '"num_classes":9'))
    with pytest.raises(FormatError, match="the weights don't fit"):
        predict(digits_zoo, tmp_path / "run")
    spec.write_text("{}")
    with pytest.raises(FormatError, match="lacks the key"):
        predict(digits_zoo, tmp_path / "run")
