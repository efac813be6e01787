import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import dng
from dng.bench import classification_page as report
from dng.bench.classification_page import write_classification_report
from dng.bench.inr_classification import read_result
from dng.bench.page import Page
from dng.models.model import Representation
from tests.zootool.store.small_stores import random_tensors
from zootool import open_zoo
from zootool.errors import MissingError, UsageError
from zootool.nets.siren import siren_architecture
from zootool.store import write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.zoo import Zoo


class Parsed(HTMLParser):
    """Collects the tags and the sources of pictures, scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def page_text(digits_zoo: Zoo, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_classification_report(digits_zoo, finished_run, path)
    return path.read_text(encoding="utf-8")


def test_the_report_is_one_small_file_without_outside_parts(page_text: str) -> None:
    page = Parsed(page_text)
    assert len(page_text) < 1_000_000
    assert len(page.sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "script" not in page.tags
    assert "link" not in page.tags


def test_the_report_says_what_was_measured(page_text: str, finished_run: Path) -> None:
    result = json.loads((finished_run / "results.json").read_text())
    assert f"{result['test_accuracy']:.1%}" in page_text
    assert result["zoo_id"] in page_text
    assert re.search("one\\s+shared\\s+initialisation", page_text)


def test_pictures_and_captions_belong_together(digits_zoo: Zoo, finished_run: Path) -> None:
    test = digits_zoo.select(split="test")
    predictions = pd.read_parquet(finished_run / "predictions.parquet")
    labels = predictions["label"].tolist()
    firsts = [labels.index(label) for label in sorted(set(labels))]
    assert firsts != sorted(firsts)
    names = tuple(f"class {label}" for label in range(10))
    model = dng.load(finished_run)
    assert isinstance(model, Representation)
    pictures, captions, text = report._examples(model, test, names, predictions)
    assert [caption.split(" as ")[0] for caption in captions] == [names[label] for label in sorted(set(labels))]
    assert "may be transposed" not in text
    for column, row in enumerate(firsts):
        images = next(iter(test.take([row]).loader(1, images=True))).images
        assert images is not None
        image = images[0].numpy() / 255
        np.testing.assert_allclose(pictures["image"][column], image, atol=1e-6)
        assert np.abs(pictures["SIREN"][column] - image).mean() < 0.1
        with torch.no_grad():
            decoded = model.reconstruct(test.graph(row))[0].movedim(0, -1).numpy()
        np.testing.assert_allclose(pictures["decoded"][column], (decoded + 1) / 2, atol=1e-4)


@pytest.mark.parametrize("target", [(0.0, 1.0), None])
def test_renderings_are_drawn_in_the_convention_of_the_zoo(
    digits_zoo: Zoo, finished_run: Path, monkeypatch: pytest.MonkeyPatch, target: tuple[float, float] | None
) -> None:
    predictions = pd.read_parquet(finished_run / "predictions.parquet")
    test, model = digits_zoo.select(split="test"), dng.load(finished_run)
    usual, *_ = report._examples(model, test, tuple("0123456789"), predictions)
    grid = None if target is None else "linspace(-1, 1), xy"
    source = replace(digits_zoo.info.sources[0], grid=grid, target=target)
    monkeypatch.setattr(digits_zoo.store, "info", replace(digits_zoo.info, sources=(source,)))
    found, _, text = report._examples(model, test, tuple("0123456789"), predictions)
    assert ("may be transposed" in text) == (target is None)
    for before, after in zip(usual["SIREN"], found["SIREN"], strict=True):
        wanted = before if target is None else (2 * before - 1).swapaxes(0, 1)
        np.testing.assert_allclose(after, wanted, atol=1e-5)
    # What INR2JLS decodes are images, whatever the networks compute.
    np.testing.assert_array_equal(found["decoded"], usual["decoded"])


def test_few_test_networks_give_no_headline(digits_zoo: Zoo, finished_run: Path) -> None:
    result = read_result(finished_run)
    assert result is not None
    assert report._numbers(result, digits_zoo, 3)[0] == ("-", "test accuracy: 3 test networks: too few")
    assert report._numbers(result, digits_zoo, 10)[0] == (f"{result.test_accuracy:.1%}", "test accuracy")
    assert result.num_tested == len(digits_zoo.select(split="test"))
    assert " + " in result.updates


@pytest.mark.parametrize("psnr", [[np.inf, 30.0, 40.0], [None, 30.0, 40.0], None])
def test_psnr_that_is_infinite_or_not_recorded_is_left_out(tmp_path: Path, psnr: list[float] | None) -> None:
    siren = siren_architecture(2, (4, 4), 1)
    table = pa.table({"net_id": ["a", "b", "c"]})
    table = table if psnr is None else table.append_column("psnr", pa.array(psnr, pa.float64()))
    write_store(tmp_path / "x.zoo", MemorySource(SourceInfo("x"), [Block(siren, random_tensors(siren, 3, 0), table)]))
    zoo = open_zoo(tmp_path / "x.zoo")
    assert report._psnr(zoo).tolist() == ([] if psnr is None else [30.0, 40.0])
    sections = report._fit_section(zoo)
    assert len(sections) == (psnr is not None)
    assert all("Mean 35.0 dB" in s.text and "1 networks without a finite one" in s.text for s in sections)


def test_labels_from_outside_stay_text(digits_zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    source = replace(digits_zoo.info.sources[0], name="<script>x")
    monkeypatch.setattr(digits_zoo.store, "info", replace(digits_zoo.info, sources=(source,)))
    page = Page(title=report._image_set(digits_zoo), subtitle="", numbers=(), notes=(), sections=(), facts={})
    assert "<script>" not in page.render()


def test_a_run_that_is_not_finished_is_named(digits_zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no finished run"):
        write_classification_report(digits_zoo, tmp_path, tmp_path / "report.html")


def test_another_zoo_is_refused(digits_zoo: Zoo, finished_run: Path, tmp_path: Path) -> None:
    changed = json.loads((finished_run / "results.json").read_text()) | {"zoo_id": "0" * 64}
    (tmp_path / "results.json").write_text(json.dumps(changed))
    with pytest.raises(UsageError, match="was run on the zoo 0000"):
        write_classification_report(digits_zoo, tmp_path, tmp_path / "report.html")
