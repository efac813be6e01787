import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dng.bench import report
from dng.bench.page import Page
from dng.bench.report import write_classification_report
from zootool.errors import MissingError, UsageError
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
