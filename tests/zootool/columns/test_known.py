import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from tests.zootool.store.small_stores import random_block, random_tensors, unchecked_block, write_small_store
from zootool.columns.known import KNOWN, ColumnRules, check_columns
from zootool.conversion.convert import append, convert
from zootool.errors import FormatError, UsageError
from zootool.formats.options import ReadOptions
from zootool.formats.plain_folder import PlainFolder
from zootool.nets.siren import siren_architecture
from zootool.store.append import append_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.merge import merge_stores
from zootool.zoo import open_zoo

CASES = Path(__file__).parents[2] / "cases" / "documented_columns"
FORMAT_PAGE = Path(__file__).parents[3] / "docs" / "format.md"


def cells(form: pa.Table, name: str) -> list:
    return form[name].to_pylist()


MENDED = [
    ("split", ["Train", " val", "VALID", "dev", "TEST", "testing", "", "-", None],
     ["train", "validation", "validation", "validation", "test", "test", None, None, None]),
    ("split", [b"Train", b"test"], ["train", "test"]),
    ("test_accuracy", [91.2, 90, 10, None], [0.912, 0.9, 0.1, None]),
    ("train_accuracy", ["91.2%", "3 %", "n/a"], [0.912, 0.03, None]),
    ("test_accuracy", [1.0000001, 0.5], [1.0, 0.5]),
    ("training_step", ["epoch_9", "Epoch_10"], [9, 10]),
    ("training_step", ["9", "10"], [9, 10]),
    ("training_step", [9.0, float("nan"), None], [9, None, None]),
    ("psnr", ["31 dB", "29.5dB", "-", "inf"], [31.0, 29.5, None, float("inf")]),
    ("loss", ["1e-3", ".5"], [1e-3, 0.5]),
    ("run_id", [7.0, None], [7, None]),
    ("source_index", ["3", "12"], [3, 12]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "wanted"), MENDED, ids=lambda value: str(value)[:24])
def test_what_is_certain_is_mended_and_said(name: str, given: list, wanted: list) -> None:
    table, notes = check_columns(pa.table({name: given}))
    assert cells(table, name) == pytest.approx(wanted)
    assert len(notes) == 1
    assert repr(name) in notes[0]
    assert check_columns(table) == (table, ())


@pytest.mark.parametrize(("name", "given"), [
    ("split", ["train", None]), ("test_accuracy", [0.5, 1.0]), ("test_accuracy", [0, 1]), ("training_step", [0.5, 1.5]),
    ("training_step", [9, 10]), ("run_id", ["007", "7"]), ("label", [[1], [2]]), ("hp_lr", ["0.1", "1"]),
    ("psnr", [float("inf"), 30.0]), ("seed", [-1, 2]), ("source", [0, None]), ("epoch", ["epoch_9", "x"]),
])  # fmt: skip
def test_what_is_right_stays_as_it_is(name: str, given: list) -> None:
    table = pa.table({name: given})
    assert check_columns(table) == (table, ())


REFUSED = [
    ("split", ["holdout"], "'holdout', which is no split", "--split-names holdout=test"),
    ("split", [0, 1], "'0', which is no split", "--split-names 0=test"),
    ("split", [0.5], "double such as 0.5", "another name"),
    ("test_accuracy", [101], "101", "another name"),
    ("test_accuracy", [-0.1, 0.5], "-0.1", "another name"),
    ("test_accuracy", [0.9, 1.2], "fractions or percent", "divide"),
    ("test_accuracy", ["90%", "0.8"], "several units", "another name"),
    ("training_step", ["epoch_9", "step_500"], "two forms", "another name"),
    ("training_step", ["best"], "'best', whole numbers", "another name"),
    ("training_step", ["epoch=1-step=20"], "whole numbers are needed", "another name"),
    ("training_step", [-1], "-1", "another name"),
    ("psnr", ["loud"], "'loud', a number", "another name"),
    ("psnr", ["31%"], "'%'", "another name"),
    ("source", ["me"], "'me', whole numbers", "another name"),
    ("source", [2], "1 image sets", "another name"),
    ("source_index", [True], "bool", "another name"),
    ("run_id", [[1]], "list", "another name"),
    ("is_finite", ["yes"], "true or false", "another name"),
    ("split", [b"caf\xe9"], "isn't UTF-8", "another name"),
]


@pytest.mark.parametrize(("name", "given", "message", "hint"), REFUSED, ids=lambda value: str(value)[:24])
def test_what_is_not_certain_is_refused_with_the_way_out(name: str, given: list, message: str, hint: str) -> None:
    with pytest.raises(FormatError, match=re.escape(message)) as caught:
        check_columns(pa.table({name: given}), ColumnRules(num_sources=1))
    assert repr(name) in str(caught.value)
    assert hint in (caught.value.hint or "")
    # What a checkpoint says of itself is no such column, but no reason to refuse the checkpoint.
    table, notes = check_columns(pa.table({name: given}), ColumnRules(num_sources=0), aside="file_")
    assert table == pa.table({f"file_{name}": given})
    assert f"file_{name}" in notes[0]


def test_names_are_known_in_any_case_and_categories_become_values() -> None:
    column = pa.array(["Train", "test"]).dictionary_encode()
    table, notes = check_columns(pa.table({" Split": column, "kind": column, "PSNR": [1.0, 2.0], "psnr": [3.0, 4.0]}))
    assert table.column_names == ["split", "kind", "PSNR", "psnr"]
    assert cells(table, "split") == ["train", "test"]
    assert table.schema.field("kind").type == pa.string()
    assert len(notes) == 2


def test_every_column_of_the_format_page_has_a_check() -> None:
    section = FORMAT_PAGE.read_text().split("Those with a fixed meaning")[1].split("Row groups")[0]
    lines = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = set(re.findall(r"`(\w+)`", " ".join(lines)))
    assert documented - {"seed"} == set(KNOWN)


def test_each_case_is_mended_or_set_aside() -> None:
    def found(name: str) -> tuple[dict, str]:
        collection = PlainFolder.read(CASES / name, ReadOptions())
        return collection.table.to_pydict(), " ".join(collection.notes)

    table, notes = found("acc_percent")
    assert table["test_accuracy"] == pytest.approx([0.912, 0.901, 0.33, 0.1])
    assert "percent, 10 to 91.2 as 0.1 to 0.912" in notes
    table, notes = found("csv_split_caps")
    assert table["split"] == ["train", "validation", "test"]
    assert "'Valid' as validation" in notes
    table, notes = found("psnr_text")
    assert table["psnr"] == [31.0, 30.0, 29.0, None]
    assert "'-' as missing" in notes
    table, notes = found("column_split")
    assert table["file_split"] == ["cifar10"]
    assert table["split"][0] in ("train", "validation", "test")
    assert "which is no split" in notes
    table, notes = found("column_meaning")
    assert table["file_source"] == ["me"]
    assert not {"source", "copy", "is_finite"} & set(table)


def test_the_last_file_is_that_of_the_largest_step(tmp_path: Path) -> None:
    convert(CASES / "step_text2", tmp_path / "x.zoo")
    zoo = open_zoo(tmp_path / "x.zoo")
    assert zoo.select(last=True).nets["net_id"].tolist() == ["e10.pt"]
    assert any("'epoch_9' as 9" in note for note in zoo.info.provenance["notes"])


def test_a_table_s_own_words_for_splits_are_mapped(tmp_path: Path) -> None:
    folder = tmp_path / "nets"
    shutil.copytree(CASES / "csv_split_caps", folder)
    labels = folder / "labels.csv"
    labels.write_text(labels.read_text().replace("TEST", "Holdout"))
    with pytest.raises(FormatError, match="--split-names holdout=test"):
        PlainFolder.read(folder, ReadOptions())
    table = PlainFolder.read(folder, ReadOptions(split_names={"holdout": "test"})).table
    assert cells(table, "split") == ["train", "validation", "test"]
    with pytest.raises(UsageError, match="no split 'tset': did you mean 'test'"):
        ReadOptions(split_names={"holdout": "tset"})
    for steps in ("20", 20, ("20",), (True,)):
        with pytest.raises(UsageError, match="steps must be whole numbers"):
            ReadOptions(steps=steps)  # type: ignore[arg-type]


def test_an_empty_column_of_splits_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "nets"
    shutil.copytree(CASES / "csv_split_caps", folder)
    labels = folder / "labels.csv"
    labels.write_text(re.sub("Train|Valid|TEST", "", labels.read_text()))
    found = PlainFolder.read(folder, ReadOptions())
    assert found.table["split"].null_count == 0
    assert "seed 0" in found.conventions["splits"]


def old_store(path: Path, **columns: list) -> None:
    """A store as one was written before columns were checked."""
    write_small_store(path, unchecked_block(random_block(siren_architecture(2, (3,), 1), 4), **columns))


def test_a_merge_mends_what_old_stores_hold(tmp_path: Path) -> None:
    old_store(tmp_path / "a.zoo", split=["Train", "TEST", "val", "train"], test_accuracy=[91.2, 50.0, 3.0, 80.0])
    write_small_store(tmp_path / "b.zoo", random_block(siren_architecture(2, (3,), 1), 4, 1))
    stores = [open_zoo(tmp_path / f"{name}.zoo").store for name in "ab"]
    for store, name in zip(stores, "ab", strict=True):
        object.__setattr__(store.info, "name", name)
    merge_stores(stores, tmp_path / "m.zoo", "m")
    merged = open_zoo(tmp_path / "m.zoo")
    assert merged.nets["split"].tolist()[:4] == ["train", "test", "validation", "train"]
    assert merged.nets["test_accuracy"].tolist()[0] == 0.912
    assert "a: the column 'test_accuracy' is read as percent" in " ".join(merged.info.provenance["notes"])
    old_store(tmp_path / "c.zoo", split=["fold 1"] * 4)
    third = open_zoo(tmp_path / "c.zoo").store
    object.__setattr__(third.info, "name", "c")
    with pytest.raises(FormatError, match="c: the column 'split' holds 'fold 1'"):
        merge_stores([stores[1], third], tmp_path / "n.zoo", "n")


def test_nothing_is_appended_to_columns_of_another_form(tmp_path: Path) -> None:
    old_store(tmp_path / "a.zoo", test_accuracy=[91.2, 50.0, 3.0, 80.0])
    source = MemorySource(SourceInfo("new"), [random_block(siren_architecture(2, (3,), 1), 4, 1)])
    with pytest.raises(FormatError, match=r"written otherwise.*'test_accuracy' is read as percent"):
        append_store(tmp_path / "a.zoo", source)


def test_appended_labels_are_mended_like_converted_ones(tmp_path: Path) -> None:
    for name, cell in (("a", "0.5"), ("b", "50")):
        shutil.copytree(CASES / "acc_percent", tmp_path / name)
        for file in (tmp_path / name).glob("*.pth"):
            file.rename(file.with_name(f"{name}{file.name}"))
        labels = tmp_path / name / "labels.csv"
        rows = "".join(f"{name}n{i}.pth,{cell},1\n" for i in range(4))
        labels.write_text("path,test_accuracy,label\n" + rows)
    convert(tmp_path / "a", tmp_path / "x.zoo")
    append(tmp_path / "b", tmp_path / "x.zoo")
    assert open_zoo(tmp_path / "x.zoo").nets["test_accuracy"].tolist() == [0.5] * 8


def test_networks_that_pass_no_reader_are_held_to_the_format_too() -> None:
    architecture = siren_architecture(2, (3,), 1)
    table = pa.table({"net_id": ["a", "b"], "split": ["Train", "test"]})
    with pytest.raises(FormatError, match="'Train' as train"):
        Block(architecture, random_tensors(architecture, 2), table)
