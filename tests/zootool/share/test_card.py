import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from tests.zootool.share.small_zoos import write_zoo
from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block, unchecked_block
from zootool.nets.siren import siren_architecture
from zootool.share.card import derived_files
from zootool.share.publish import publish
from zootool.share.view import view_page
from zootool.store import open_store, write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.schema import ImageSource
from zootool.zoo import open_zoo

EVIL = "---\nlicense: mit\n---\n# [x](javascript:1) <script>alert(1)</script> | `a` \x1b[2J"


def card_of(folder: Path) -> tuple[dict[str, object], str]:
    text = derived_files(open_store(folder))["README.md"].decode()
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_card_says_what_the_store_says(tmp_path: Path) -> None:
    zoo_id = write_zoo(tmp_path / "x.zoo")
    head, body = card_of(tmp_path / "x.zoo")
    assert head["license"] == "cc-by-4.0"
    assert head["size_categories"] == ["n<1K"]
    assert head["source_datasets"] == ["digits"]
    assert head["configs"] == [{"config_name": "nets", "data_files": "nets.parquet"}]
    wanted = (
        zoo_id, "30 trained networks", "siren 2-8-4-1", "omega_0: 30", "linspace(-1, 1), ij", "-1 and 1",
        "output offset: 0", "test 7, train 23", "10 different", "CC BY 4.0", "| psnr | 35 |",
        "image set digits: 8 x 8 x 1", "- tool: zootool", "Alpaydin", "small: 30 trained networks",
    )  # fmt: skip
    for words in wanted:
        assert words in body


def test_the_card_of_classifiers_says_how_accurate_they_are(tmp_path: Path) -> None:
    block = random_block(siren_architecture(3, (4,), 2), 4)
    table = block.table.drop_columns(["psnr"]).append_column("test_accuracy", pa.array([0.2, 0.4, 0.9, None]))
    recipe = {"residuals": False, "heads": ["pool"], "train_images": None}
    info = SourceInfo("accurate", "cnn", (ImageSource("mine", terms="my own"),), recipe, licence="Some Licence, v. 2!")
    pixels = np.zeros((4, 2, 2, 1), np.uint8)
    source = MemorySource(info, (Block(block.architecture, block.tensors, table),))
    write_store(tmp_path / "x.zoo", source, images=lambda keys: pixels[keys])
    head, body = card_of(tmp_path / "x.zoo")
    assert (head["license"], head["license_name"]) == ("other", "some-licence-v.-2")
    assert "| test_accuracy | 0.5 | 0.2 | 0.4 | 0.9 | 3 |" in body
    assert "recipe, residuals: false\n- recipe, train\\_images: null" in body
    assert "4 source images are carried along" in body
    assert "its images" not in body


def test_a_terms_line_is_on_the_card_of_what_is_published(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo", licence=None, sources=(ImageSource("cifar10", shape=(32, 32, 3)),))
    publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "source terms of the images of cifar10: none stated; cite Krizhevsky 2009" in card
    assert "licence of the weights: CC-BY-4.0" in card
    assert "Made from the version" in card


def test_text_of_a_store_stays_text_in_the_card(tmp_path: Path) -> None:
    block = random_block(siren_architecture(2, (3,), 1), 4)
    block = unchecked_block(block, **{"split": [EVIL] * 4, f"hp_{EVIL}": [1] * 4})
    info = SourceInfo(EVIL, EVIL, (ImageSource(EVIL, terms=EVIL),), {EVIL: EVIL}, {EVIL: EVIL}, EVIL, EVIL)
    write_store(tmp_path / "x.zoo", MemorySource(info, (block,)))
    head, body = card_of(tmp_path / "x.zoo")
    assert head["license"] == "other"
    assert "\x1b" not in body
    assert "<script" not in body
    assert "[x](" not in body
    assert json.loads(derived_files(open_store(tmp_path / "x.zoo"))["croissant.json"])


def test_croissant_has_the_digests_of_the_files(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    value = json.loads(derived_files(open_store(tmp_path / "x.zoo"))["croissant.json"])
    assert len(value["distribution"]) > 8
    for entry in value["distribution"]:
        content = (tmp_path / "x.zoo" / entry["contentUrl"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["contentSize"] == f"{len(content)} B"
    assert {key for key in value if key.startswith("rai:")} >= {"rai:dataCollection", "rai:dataLimitations"}


@pytest.mark.filterwarnings("ignore")  # of the validator's own dependencies
def test_croissant_yields_the_rows_of_the_table(tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant isn't installed")
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    dataset = mlcroissant.Dataset(jsonld=tmp_path / "out" / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    assert dataset.metadata.data_use_cases
    records = list(dataset.records("networks"))
    table = pd.read_parquet(tmp_path / "x.zoo" / "nets.parquet")
    assert len(records) == len(table) == 30

    def text(value: object) -> object:
        return value.decode() if isinstance(value, bytes) else value

    for column in ("net_id", "label", "split", "psnr", "architecture", "edge_offset"):
        assert [text(record[f"networks/{column}"]) for record in records] == table[column].tolist()


def test_a_day_of_publication_stays(tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    place = tmp_path / "out" / "croissant.json"
    publish(tmp_path / "x.zoo", str(tmp_path / "out"))
    first = json.loads(place.read_text())
    assert first["datePublished"] == datetime.now(UTC).date().isoformat()
    assert "url" not in first, "a path on this machine is nobody else's business"
    place.write_text(place.read_text().replace(first["datePublished"], "2020-02-02"))
    assert publish(tmp_path / "x.zoo", str(tmp_path / "out")).is_done
    for spoiled in ("[]", "{"):
        place.write_text(spoiled)
        publish(tmp_path / "x.zoo", str(tmp_path / "out"))
        assert json.loads(place.read_text()) == first


def test_the_hubs_own_reader_takes_the_card(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub isn't installed: pip install 'zootool[hub]'")
    write_zoo(tmp_path / "x.zoo")
    card = hub.DatasetCard(derived_files(open_store(tmp_path / "x.zoo"))["README.md"].decode())
    assert card.data.license == "cc-by-4.0"
    assert card.data.to_dict()["configs"] == [{"config_name": "nets", "data_files": "nets.parquet"}]


def test_equal_stores_have_equal_cards(tmp_path: Path) -> None:
    for name in ("a", "b"):
        block = random_block(siren_architecture(2, (3,), 1), 4)
        write_store(tmp_path / name, MemorySource(SourceInfo("same"), (block,)), SMALL_CHUNKS)
    assert derived_files(open_store(tmp_path / "a")) == derived_files(open_store(tmp_path / "b"))


def test_notes_files_left_out_and_assumptions_stand_one_a_line(tmp_path: Path) -> None:
    block = random_block(siren_architecture(2, (3,), 1), 4)
    said = {"notes": ["a grid is assumed", *map(str, range(30))], "left_out": ["a.pth", "b.pth"]}
    assumed: dict[str, tuple[str, ...]] = {block.architecture.signature: ("the order is assumed",)}
    info = SourceInfo("x", provenance=said, assumptions=assumed)
    write_store(tmp_path / "x.zoo", MemorySource(info, [block]))
    lines = card_of(tmp_path / "x.zoo")[1].splitlines()
    wanted = ("- notes: a grid is assumed", "- left\\_out: b.pth", "- notes: 11 more in zoo.json",
              "- assumed, since no tensor says it: the order is assumed")  # fmt: skip
    for line in wanted:
        assert line in lines
    assert "the order is assumed" in view_page(open_zoo(tmp_path / "x.zoo")).decode()
