import hashlib
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from tests.zootool.share.small_zoos import write_zoo
from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block
from zootool.nets.siren import siren_architecture
from zootool.share.card import derived_files
from zootool.store import open_store, write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.schema import ImageSource

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
    )  # fmt: skip
    for words in wanted:
        assert words in body


def test_text_of_a_store_stays_text_in_the_card(tmp_path: Path) -> None:
    block = random_block(siren_architecture(2, (3,), 1), 4)
    table = block.table.set_column(3, "split", pa.array([EVIL] * 4)).append_column(f"hp_{EVIL}", pa.array([1] * 4))
    info = SourceInfo(EVIL, EVIL, (ImageSource(EVIL, terms=EVIL),), {EVIL: EVIL}, {EVIL: EVIL}, EVIL, EVIL)
    write_store(tmp_path / "x.zoo", MemorySource(info, (Block(block.architecture, block.tensors, table),)))
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
    place = tmp_path / "x.zoo" / "croissant.json"
    place.write_bytes(derived_files(open_store(tmp_path / "x.zoo"))["croissant.json"])
    dataset = mlcroissant.Dataset(jsonld=place)
    assert not dataset.metadata.ctx.issues.errors
    records = list(dataset.records("networks"))
    table = pd.read_parquet(tmp_path / "x.zoo" / "nets.parquet")
    assert len(records) == len(table) == 30

    def text(value: object) -> object:
        return value.decode() if isinstance(value, bytes) else value

    for column in ("net_id", "label", "split", "psnr", "architecture", "edge_offset"):
        assert [text(record[f"networks/{column}"]) for record in records] == table[column].tolist()


def test_equal_stores_have_equal_cards(tmp_path: Path) -> None:
    for name in ("a", "b"):
        block = random_block(siren_architecture(2, (3,), 1), 4)
        write_store(tmp_path / name, MemorySource(SourceInfo("same"), (block,)), SMALL_CHUNKS)
    assert derived_files(open_store(tmp_path / "a")) == derived_files(open_store(tmp_path / "b"))
