import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.zootool.share.browser import CHROMIUM, Page, browser
from tests.zootool.share.small_zoos import DIGITS, write_zoo
from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture
from zootool.share import view as view_module
from zootool.share.sample import sample_networks
from zootool.share.view import view_page
from zootool.store import write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.schema import ImageSource
from zootool.zoo import open_zoo

EVIL = "</script><script>document.title='evil'</script><img src=x onerror=\"document.title='evil'\">\x1b[2J"

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None,
    reason="the page is tested in a browser: apt-get install chromium (Debian), brew install --cask chromium (macOS)",
)


def write_evil(path: Path) -> None:
    block = random_block(siren_architecture(2, (3,), 1), 4)
    table = block.table.set_column(2, "label", pa.array([EVIL] * 4)).append_column(
        f"hp_{EVIL}", pa.array([EVIL, "b", "c", "d"])
    )
    info = SourceInfo(EVIL, EVIL, (ImageSource(EVIL, terms=EVIL),), licence=EVIL, citation=EVIL)
    write_store(path, MemorySource(info, (Block(block.architecture, block.tensors, table),)), SMALL_CHUNKS)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def shown(page: Page, tmp_path: Path) -> Page:
    write_zoo(tmp_path / "x.zoo")
    (tmp_path / "view.html").write_bytes(view_page(open_zoo(tmp_path / "x.zoo"), size=20))
    page.problems.clear()
    page.requests.clear()
    page.open(tmp_path / "view.html")
    return page


def test_a_page_is_one_small_file_that_asks_for_nothing(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    text = view_page(open_zoo(tmp_path / "x.zoo")).decode()
    assert "default-src 'none'" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert view_page(open_zoo(tmp_path / "x.zoo")).decode() == text


def test_a_page_that_would_be_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zoo(tmp_path / "x.zoo")
    monkeypatch.setattr(view_module, "MAX_PAGE_BYTES", 5000)
    with pytest.raises(UsageError, match="show fewer than 160"):
        view_page(open_zoo(tmp_path / "x.zoo"))


def test_text_of_a_store_ends_no_script_block(tmp_path: Path) -> None:
    write_evil(tmp_path / "evil.zoo")
    text = view_page(open_zoo(tmp_path / "evil.zoo")).decode()
    assert text.count("<script") == 2
    assert "<img" not in text
    assert "\x1b" not in text


@needs_chromium
def test_it_renders_without_errors_and_without_a_network(shown: Page) -> None:
    assert shown.problems == []
    assert [url for url in shown.requests if not url.startswith(("file:", "data:"))] == []
    assert shown.run("document.title") == "small"
    assert shown.run("document.querySelectorAll('#gallery img').length") == 20
    assert shown.run("[...document.querySelectorAll('#gallery img')].every(i => i.naturalWidth === 8 && i.alt)")
    assert "label 0" in shown.run("document.querySelector('#gallery').textContent")
    assert "CC-BY-4.0" in shown.run("document.querySelector('#facts').textContent")


@needs_chromium
def test_searching_and_sorting(shown: Page) -> None:
    wanted = shown.run("document.querySelector('#rows').children[7].firstChild.textContent")
    shown.run(f"document.querySelector('#search').value = '{wanted.upper()} '")
    shown.run("document.querySelector('#search').dispatchEvent(new Event('input'))")
    assert shown.run("document.querySelectorAll('#rows tr').length") == 1
    assert shown.run("document.querySelector('#found').textContent") == "1 of 20"
    shown.run("document.querySelector('#search').value = ''")
    shown.run("document.querySelector('#search').dispatchEvent(new Event('input'))")
    head = "[...document.querySelectorAll('#head th')].find(cell => cell.textContent === 'psnr')"
    values = "[...document.querySelectorAll('#rows tr')].map(row => Number(row.children[{}].textContent))"
    column = shown.run(f"[...{head}.parentNode.children].indexOf({head})")
    for sign, name in ((1, "ascending"), (-1, "descending")):
        shown.run(f"{head}.querySelector('button').click()")
        found = np.array(shown.run(values.format(column)))
        assert len(found) == 20
        assert np.all(np.diff(found) * sign >= 0)
        assert shown.run(f"{head}.getAttribute('aria-sort')") == name
    shown.run("document.querySelector('#head button').click()")
    assert shown.run("document.querySelectorAll('#head th:not([aria-sort=none])').length") == 1


@needs_chromium
def test_stepping_by_buttons_and_keys(shown: Page) -> None:
    text = "document.querySelector('#step-text').textContent"
    edges = "document.querySelectorAll('#graph line:not(.old)').length"
    assert "timestamp 3 of 3: linear, 1 nodes; 4 edges" in shown.run(text)
    assert shown.run(edges) == 4
    shown.run("document.querySelector('#previous').click()")
    assert "timestamp 2 of 3: linear, 4 nodes; 32 edges; sine with omega_0 30" in shown.run(text)
    assert shown.run(edges) == 32
    shown.run("document.querySelector('#stepper').focus()")
    shown.press("ArrowLeft")
    assert "timestamp 1 of 3" in shown.run(text)
    shown.press("Home")
    assert "timestamp 0 of 3: 2 input nodes" in shown.run(text)
    assert shown.run("document.querySelector('#previous').disabled")
    shown.press("End")
    assert "timestamp 3 of 3" in shown.run(text)


@needs_chromium
def test_labels_stay_text(page: Page, tmp_path: Path) -> None:
    write_evil(tmp_path / "evil.zoo")
    (tmp_path / "view.html").write_bytes(view_page(open_zoo(tmp_path / "evil.zoo")))
    page.problems.clear()
    page.open(tmp_path / "view.html")
    assert page.run("document.title").startswith("</script><script>")
    assert page.run("document.querySelectorAll('#gallery img, #rows img, #facts img').length") == 0
    assert "<img src=x" in page.run("document.querySelector('#rows').textContent")
    assert page.problems == []


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(shown: Page, tmp_path: Path, scheme: str) -> None:
    shown.open(tmp_path / "view.html", width=390, scheme=scheme)
    assert shown.run("document.documentElement.scrollWidth") <= 390
    luminance = """
      (colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b })"""
    for selector in ("dd", "dt", "#lead", ".tick"):
        property_name = "fill" if selector == ".tick" else "color"
        ink = shown.run(f"{luminance}(getComputedStyle(document.querySelector('{selector}')).{property_name})")
        paper = shown.run(f"{luminance}(getComputedStyle(document.querySelector('section')).backgroundColor)")
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5
    assert (paper < 0.2) == (scheme == "dark")


@needs_chromium
def test_everything_that_is_operated_has_a_name(shown: Page) -> None:
    nameless = """[...document.querySelectorAll('button, input, [tabindex="0"]')].filter(e =>
        !e.textContent.trim() && !e.labels?.length && !e.getAttribute('aria-label')
        && !e.getAttribute('aria-labelledby')).map(e => e.id)"""
    assert shown.run(nameless) == []
    assert shown.run("document.documentElement.lang") == "en"


@needs_chromium
def test_the_gallery_shows_whole_rows_and_then_the_rest(page: Page, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo", count=90)
    (tmp_path / "view.html").write_bytes(view_page(open_zoo(tmp_path / "x.zoo"), size=100))
    columns = "getComputedStyle(document.querySelector('#gallery')).gridTemplateColumns.split(' ').length"
    shown = "document.querySelectorAll('#gallery li').length"
    for width in (390, 1280, 1500):
        page.open(tmp_path / "view.html", width=width)
        assert 36 <= page.run(shown) < 36 + page.run(columns)
        assert page.run(shown) % page.run(columns) == 0
        for _ in range(3):
            page.run("document.querySelector('#more').click()")
        assert page.run(shown) == 100
        assert page.run("document.querySelector('#more').hidden")


@pytest.fixture
def classifiers(tmp_path: Path) -> Path:
    """The page of six classifiers."""
    block = random_block(siren_architecture(3, (4,), 2), 6)
    table = block.table.drop_columns(["label", "psnr"]).append_column("test_accuracy", pa.array(np.linspace(0, 1, 6)))
    info = SourceInfo("accurate", "mlp", (DIGITS,))
    write_store(tmp_path / "x.zoo", MemorySource(info, (Block(block.architecture, block.tensors, table),)))
    (tmp_path / "view.html").write_bytes(view_page(open_zoo(tmp_path / "x.zoo")))
    return tmp_path / "view.html"


def test_classifiers_are_shown_by_their_weights(classifiers: Path) -> None:
    text = classifiers.read_text()
    assert text.count('"histogram":') == 6
    assert "data:image" not in text


@needs_chromium
def test_classifiers_say_how_accurate_they_are(page: Page, classifiers: Path) -> None:
    page.problems.clear()
    page.open(classifiers)
    assert page.problems == []
    said = page.run("[...document.querySelectorAll('#gallery li')].map(item => item.innerText)")
    assert [text.split("\n")[1] for text in said] == [f"accuracy {value:.3f}" for value in (1, 0.8, 0.6, 0.4, 0.2, 0)]
    assert all(re.fullmatch(r"-?[\d.]+ to -?[\d.]+", text.split("\n")[2]) for text in said)
    assert page.run("document.querySelectorAll('#gallery svg rect').length") == 6 * 24
    assert "Histogram of the weights from" in page.run("document.querySelector('#gallery svg').ariaLabel")
    assert re.search(r"tallest: 1 network\b", page.run("document.querySelector('#distributions').innerText"))


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({}, 8),
        ({"shape": (90_000, 45_000, 1)}, 256),
        ({"shape": (8, 8, 3)}, None),
        ({"grid": "some other"}, None),
    ],
)
def test_images_of_any_claimed_size_stay_small(tmp_path: Path, changes: dict[str, Any], side: int | None) -> None:
    write_zoo(tmp_path / "x.zoo", sources=(replace(DIGITS, **changes),))
    record = sample_networks(open_zoo(tmp_path / "x.zoo"), 1, 1 << 20, seed=0)[1][0]
    assert ("image" in record) == (side is not None)
    if side is not None:
        picture = Image.open(io.BytesIO(base64.b64decode(record["image"].partition(",")[2])))
        assert side / 2 < max(picture.size) <= side


def test_the_sample_begins_with_one_network_of_each_class(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    zoo = open_zoo(tmp_path / "x.zoo")
    labels = [record["label"] for record in sample_networks(zoo, 40, 1 << 20, seed=0)[1]]
    distinct = len(set(labels))
    assert distinct > 1
    assert labels[:distinct] == sorted(set(labels))
    assert labels != sorted(labels)
