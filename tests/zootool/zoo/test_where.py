import re
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from tests.zootool.store.small_stores import random_block, unchecked_block, write_small_store
from zootool.errors import UsageError
from zootool.nets.siren import siren_architecture
from zootool.store import write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.schema import ImageSource
from zootool.zoo import Zoo, open_zoo
from zootool.zoo.where import narrowed

COLUMNS: dict[str, Any] = {
    "label": [0, 1, 2, 3, None, 5, 3, 1],
    "split": pa.array(["train", "train", "test", "test", "train", "train", None, "train"]).dictionary_encode(),
    "psnr": [30.0, 35.5, None, 40.0, float("nan"), 45.0, float("inf"), -1.0],
    "test_accuracy": pa.array([0.91, 0.5, 0.2, 0.91, None, 1.0, 0.0, 0.7], pa.float32()),
    "train_accuracy": [0.95, 0.4, 0.9, 0.91, 0.5, 1.0, 0.1, None],
    "kind": ["a=b", "it's", "x,y", "x|y", "x", "", None, "black and white"],
    "is_good": [True, False, None, True, True, False, False, True],
    "big": [2**53 + 1, 2**53, 2**62, -(2**63), 2**63 - 1, 0, 1, None],
    "when": pa.array([date(2020, 1, i + 1) for i in range(8)]),
    "at": pa.array([datetime(2020, 1, i + 1, 12) for i in range(8)], pa.timestamp("us")),
    "cost": pa.array([Decimal(i) / 4 for i in range(8)], pa.decimal128(10, 2)),
    "tags": [[1], [2], None, [3], [], [1], [1], [1]],
    "half": pa.array([np.float16(i / 10) for i in range(8)], pa.float16()),
    "raw": [b"\x00\x01", b"\xff", b"x", b"y", None, b"\x00\x01", b"z", b"q"],
    "run_id": ["r", "r", "s", "s", "t", "t", "u", "u"],
    "training_step": [9, 10, 1, 2, 9, 10, 3, 1],
    "two words": [1, 2, 3, 4, 5, 6, 7, 8],
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    path = tmp_path_factory.mktemp("where") / "x.zoo"
    write_small_store(path, unchecked_block(random_block(siren_architecture(2, (3,), 1), 8), **COLUMNS))
    return open_zoo(path)


CASES = {
    # comparisons, ranges, both ways round
    "psnr > 40": [5, 6], "psnr >= 40": [3, 5, 6], "40 < psnr": [5, 6], "30 <= psnr < 40": [0, 1], "psnr == 35.5": [1],
    "psnr != 30": [1, 3, 5, 6, 7], "psnr > -2 and psnr < inf": [0, 1, 3, 5, 7], "psnr == inf": [6], "psnr == -1": [7],
    "label > 2.5": [3, 5, 6], "label <= 2.5": [0, 1, 2, 7], "label == 3.0": [3, 6],
    "label < 1e300": [0, 1, 2, 3, 5, 6, 7],
    "test_accuracy == 0.91": [0, 3], "test_accuracy > 0.91": [5], "train_accuracy > test_accuracy": [0, 2, 6],
    "half == 0.1": [1], "half > 0.55": [6, 7], "cost == 0.25": [1], "cost >= 1.5": [6, 7],
    # equality of texts, flags, bytes, dates
    "split == 'test'": [2, 3], 'split == "test"': [2, 3], "split != 'test'": [0, 1, 4, 5, 7], "'test' == split": [2, 3],
    "kind == 'a=b'": [0], 'kind == "it\'s"': [1], "kind == 'x,y' or kind == 'x|y'": [2, 3], "kind == ''": [5],
    "is_good": [0, 3, 4, 7], "not is_good": [1, 5, 6], "is_good == false": [1, 5, 6], "is_good != True": [1, 5, 6],
    "raw == '0001'": [0, 5], "raw == b'z'": [6], "when == '2020-01-02'": [1], "when >= '2020-01-07'": [6, 7],
    "at < '2020-01-02 13:00:00'": [0, 1], "big == 9007199254740993": [0], "big == 9007199254740992": [1],
    "big > 4611686018427387903": [2, 4], "big == -9223372036854775808": [3],
    # no value meets nothing, and not its negation
    "label is null": [4], "label is not null": [0, 1, 2, 3, 5, 6, 7], "psnr is null": [2, 4],
    "psnr is not None": [0, 1, 3, 5, 6, 7],
    "not psnr > 40": [0, 1, 3, 7], "not label == 3": [0, 1, 2, 5, 7], "tags is null": [2], "split is null": [6],
    "not (label == 3 or psnr > 40)": [0, 1, 7], "label == 3 or psnr is null": [2, 3, 4, 6],
    # membership
    "label in [3, 5]": [3, 5, 6], "label not in (3, 5)": [0, 1, 2, 7],
    "split in {'test', 'train'}": [0, 1, 2, 3, 4, 5, 7],
    "label in [5, null]": [4, 5], "label not in [3, null]": [0, 1, 2, 5, 7], "label in []": [], "tags in [null]": [2],
    # joining
    "psnr > 30 and split == 'train'": [1, 5, 7][:2], "split == 'test' and not label == 3": [2],
    "label == 0 or label == 1 and split == 'test'": [0], "(label == 0 or label == 1) and split == 'train'": [0, 1, 7],
    "`two words` > 6": [6, 7], "last": [1, 3, 5, 6], "split == 'train' and last": [1, 5, 7],
    "last and (psnr > 30)": [1, 3, 5, 6],
    # the short form
    "split=test": [2, 3], "split=test, label=3|5": [3], "label=": [4], "psnr=": [2, 4], "label=3|5": [3, 5, 6],
    "last=true": [1, 3, 5, 6], "split=train,last=true": [1, 5, 7], "last=false": list(range(8)),
    "is_good=True": [0, 3, 4, 7],
    "kind=a=b": [0], "kind=it's": [1], "kind=x": [4], "two words=3": [2], "psnr=35.5": [1], "raw=0001": [0, 5],
    "kind=black and white": [7], "when=2020-01-02": [1], " split = test ": [2, 3], "split=validation": [],
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_conditions_select_what_they_say(zoo: Zoo, text: str) -> None:
    assert zoo.select(where=text).rows.tolist() == CASES[text]


REFUSED = {
    # slips of the pen
    "lable == 3": "no column 'lable': did you mean 'label'", "lable=3": "no column 'lable': did you mean 'label'",
    "split == test": "'test' is no column and no value: write it in quotes: split == 'test'",
    "split == 'tset'": "no network has split 'tset': did you mean 'test'", "split=tset": "did you mean 'test'",
    "split != 'tset'": "no network has split 'tset'", "split in ['test', 'tset']": "no network has split 'tset'",
    "split=test|tset": "no network has split 'tset'", "kind == 'zebra'": "choose from",
    # wrong types
    "label == 'three'": "holds int64, can't compare it with 'three': numbers stand without quotes",
    "label == 3.5": "can't compare it with 3.5",
    "label=x": "'x' is no value of the column 'label'", "psnr=x": "'x' is no value of the column 'psnr'",
    "label == true": "can't compare it with True",
    "psnr > '40'": "numbers stand without quotes", "split == 3": "texts stand in quotes",
    "is_good == 1": "it is true or false",
    "kind > 'a'": "has no order", "is_good < true": "has no order", "tags == 1": "only `is null` asks about it",
    "label": "not true and false: compare it", "label == null": "write label is null",
    "psnr == nan": "write psnr is null", "label == 10000000000000000000000": "can't compare it",
    "when > 'soon'": "write dates and times like", "raw == 'xyz'": "hex digits",
    "label > split": "can't be compared", "kind < run_id": "can't be compared",
    # other languages
    "psnr > 40 & label == 3": "write `and`", "(psnr > 40) & (label == 3)": "write `and`",
    "psnr > 40 && label == 3": "write `and` instead of `&&`",
    "psnr > 40 AND label == 3": "write `and` instead of `AND`",
    "label <> 3": "write `!=` instead of `<>`", "!is_good": "write `not` instead of `!`",
    "label IS NULL": "write `is` instead of `IS`",
    "split=test and label=3": "the condition ends at the comma",
    "split='test'": "values stand without quotes: split=test",
    "label=3 and psnr > 40": "the condition ends at the comma",
    "split=test,label > 3": "can't read the condition 'label > 3'",
    "two words > 6": "in backticks: `two words`", "half > two words": "in backticks: `two words`",
    "'two words' == 7": "columns stand without quotes", "`two words`=7": "write `==` instead of `=`",
    "SPLIT == 'test'": "did you mean 'split'", "psnr ≥ 40": "write `>=` instead of `≥`",
    "psnr > 40, label == 3": "by `and`",
    "split == \u2018test\u2019": "write `'`", "label === 3": "instead of `===`", "psnr => 40": "ends at the comma",
    "when == 2020-01-02": "dates in quotes: '2020-01-02'", "when == 2020-11-12": "dates in quotes: '2020-11-12'",
    "label=null": "label= for those without a value", "label=3|": "label= for those without",
    "label - 1 == 3": "'label - 1'",
    # what is no condition
    "": "has 0 characters", "  ": "wanted is a condition", "label=3,label=4": "can't read",
    "split=test,": "can't read", "=3": "can't read",
    "label ==": "can't read", "3 == 3": "neither 3 nor 3 is a column", "last=yes": "neither true nor false",
    "last or label == 3": "can't be denied",
    "not last": "can't be denied", "label in 3": "needs a column and a list",
    "3 in label": "needs a column and a list", "label is 3": "asks for null alone",
    "label in ['a'": "can't read", "`nowhere` == 3": "no column 'nowhere'", "label == -'3'": "can't hold",
    # what must never run
    "__import__('os').system('touch run')": "can't hold \"__import",
    "label.__class__ == 3": "can't hold 'label.__class__'",
    "(lambda: 1)() == 3": "can't hold",
    "label == 2**10**10": "can't hold '2.*10'", "[x for x in label]": "can't hold '.x for x in label.'",
    "label == (y := 3)": "can't hold", "f'{label}' == '3'": "can't hold",
    "label == 1j": "can't hold", "label == ...": "can't hold", "psnr > 4 if label else 3": "can't hold",
    "label[0] == 3": "can't hold",
    # bounds
    "not " * 4900 + "is_good": "can't read|nested", "-" * 15_000 + "1 == label": "can't read|nested|can't hold",
    "(" * 150 + "label == 3" + ")" * 150 + " or": "can't read",
    "[" * 5000 + "]" * 5000 + " == label": "brackets", "label == 3" + " or label == 3" * 2000: "characters",
    "label == " + "9" * 5000: "can't read",
    "not " * 60 + "is_good": "nested more than 50",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_everything_else_is_refused_with_the_way_out(zoo: Zoo, text: str) -> None:
    with pytest.raises(UsageError, match=REFUSED[text].replace("(", r"\(")) as caught:
        zoo.select(where=text)
    assert caught.value.hint
    assert len(str(caught.value)) < 1500


def test_long_conditions_are_read(zoo: Zoo) -> None:
    assert zoo.select(where=" or ".join(["label == 3"] * 900)).rows.tolist() == [3, 6]
    assert zoo.select(where=f"label in [{', '.join(['3'] * 3000)}]").rows.tolist() == [3, 6]


@pytest.mark.parametrize(("wanted", "rows"), [
    ({"label": 3}, [3, 6]), ({"label": np.int64(3)}, [3, 6]), ({"label": 3.0}, [3, 6]),
    ({"label": [3, None]}, [3, 4, 6]),
    ({"label": np.array([3, 5])}, [3, 5, 6]), ({"label": {0: 1}.keys()}, [0]), ({"label": None}, [4]),
    ({"psnr": None}, [2, 4]), ({"is_good": True}, [0, 3, 4, 7]),
    ({"is_good": np.True_}, [0, 3, 4, 7]), ({"split": "test", "label": range(3)}, [2]),
    ({"test_accuracy": 0.91}, [0, 3]),
    ({"label": np.array(3)}, [3, 6]), ({"label": torch.tensor([3, 5])}, [3, 5, 6]),
    ({"label": torch.tensor(3)}, [3, 6]),
    ({"label": pd.Series([3, 5])}, [3, 5, 6]), ({"label": pd.NA}, [4]), ({"label": pa.array([3])}, [3, 6]),
    ({"label": pa.scalar(3)}, [3, 6]), ({"at": pd.Timestamp("2020-01-02 12:00")}, [1]),
    ({"at": np.datetime64("2020-01-02T12:00", "ns")}, [1]), ({"when": np.datetime64("2020-01-02")}, [1]),
    ({"big": 2**53 + 1}, [0]), ({"raw": b"x"}, [2]), ({"when": date(2020, 1, 2)}, [1]),
    ({"cost": Decimal("0.25")}, [1]),
    ({"where": "psnr > 30", "split": "train", "last": True}, [1, 5]), ({"label": 77}, []),
    ({"split": "validation"}, []),
])  # fmt: skip
def test_keywords_select_values(zoo: Zoo, wanted: dict, rows: list[int]) -> None:
    assert zoo.select(**wanted).rows.tolist() == rows


@pytest.mark.parametrize(("given", "message"), [
    (("split=test",), r"no str by position: write select\(where=\"split=test\"\)"),
    (({"split": "test"},), r"no dict.*\*\*conditions"),
    ((lambda row: True,), "no function.*where='psnr > 40'"), ((True,), "no bool.*last=True"),
    (([3, 5],), r"no list.*zoo\.take"),
    ((np.array([True]),), "no ndarray"), (("split", "test"), "no str"),
])  # fmt: skip
def test_positions_mean_nothing_to_select(zoo: Zoo, given: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        zoo.select(*given)


@pytest.mark.parametrize(("wanted", "message"), [
    ({"last": "yes"}, "last is true or false, got 'yes'"), ({"last": 1}, "last is true or false"),
    ({"last": None}, "last is true or false"),
    ({"label": 3.7}, "can't compare it with 3.7"), ({"label": "3"}, "can't compare it with '3'"),
    ({"label": True}, "can't compare it with True"),
    ({"is_good": 1}, "can't compare it with 1"), ({"label": {3: 4}}, "is no value of a column"),
    ({"label": lambda x: x > 3}, "is no value of a column"),
    ({"label": (i for i in [3])}, "is no value of a column"), ({"psnr": slice(3, 5)}, "is no value of a column"),
    ({"split": 3}, "can't compare it with 3"),
    ({"lable": 3}, "did you mean 'label'"), ({"where": 3}, "where is a text"),
    ({"where": {"split": "test"}}, "where is a text"), ({"label": [3, "x"]}, "can't compare it with 'x'"),
    ({"label": float("nan")}, "is null"), ({"label": 2**70}, "can't compare"),
])  # fmt: skip
def test_keywords_of_other_types_are_refused(zoo: Zoo, wanted: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        zoo.select(**wanted)


def test_an_empty_selection_says_which_values_nobody_has(zoo: Zoo) -> None:
    nobody = zoo.select(label=77)
    assert repr(nobody).endswith("; no network has label 77 (it has 0, 1, 2, 3, 5)>")
    with pytest.raises(UsageError, match=r"the selection has 0: no network has label 77"):
        nobody.state_dict(0)
    assert "no network has split 'tset' (did you mean 'test'?)" in repr(zoo.select(split="tset"))
    assert nobody.select(split="test").why_empty == nobody.why_empty
    assert "no network has label 77" in repr(zoo.select(where="label == 77"))
    assert zoo.select(split="validation").why_empty == ""
    assert zoo.select(label=[3, 77]).why_empty == ""


def test_labels_go_by_their_classes_names_where_they_are_known(tmp_path: Path) -> None:
    blocks = [random_block(siren_architecture(2, (3,), 1), 10)]
    write_store(tmp_path / "x.zoo", MemorySource(SourceInfo("x", sources=(ImageSource("cifar10"),)), blocks))
    zoo = open_zoo(tmp_path / "x.zoo")
    assert zoo.classes()[3] == "cat"
    assert (
        zoo.select(where="label == 'cat'").rows.tolist() == zoo.select(where="label=cat|dog").rows.tolist()[:1] == [3]
    )
    assert zoo.select(label="cat").rows.tolist() == [3]
    assert zoo.select(where="label != 'cat' and label < 5").rows.tolist() == [0, 1, 2, 4]
    with pytest.raises(UsageError, match="a class by its name or number: did you mean 'cat'"):
        zoo.select(where="label == 'cta'")


def test_a_column_called_last_or_where_is_a_column(tmp_path: Path) -> None:
    block = unchecked_block(random_block(siren_architecture(2, (3,), 1), 3), last=[True, False, True], where=[1, 2, 3])
    write_small_store(tmp_path / "x.zoo", block)
    zoo = open_zoo(tmp_path / "x.zoo")
    assert zoo.select(where="last").rows.tolist() == zoo.select(where="last=true").rows.tolist() == [0, 2]
    assert zoo.select(where="where > 1").rows.tolist() == [1, 2]


@pytest.mark.parametrize("text", [None, "label=3", "label == 3 or label == 2", "last", "label == 2 and last"])
def test_conditions_are_narrowed_whatever_their_form(zoo: Zoo, text: str | None) -> None:
    found = zoo.select(where=narrowed("split", "test", text)).rows.tolist()
    tested = zoo.select(split="test")
    assert found == (tested if text is None else tested.select(where=text)).rows.tolist()


def test_take_takes_positions_and_masks_and_nothing_else(zoo: Zoo) -> None:
    assert zoo.take([3, 1]).rows.tolist() == zoo.take(np.array([1, -5])).rows.tolist() == [1, 3]
    assert zoo.take(np.arange(8) > 5).rows.tolist() == zoo.take([False] * 6 + [True] * 2).rows.tolist() == [6, 7]
    assert len(zoo.take([])) == 0
    for wrong in ("split", [0.5], [[1]], np.array([True, False]), ["a"], None, {"a": 1}, [8], [-9]):
        with pytest.raises(UsageError, match="take needs numbers from 0 to 7, or 8 true and false"):
            zoo.take(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a position twice"):
        zoo.take([1, 1])
    for wrong in ("1", 1.0, True, None):
        with pytest.raises(UsageError, match="a whole number"):
            zoo.state_dict(wrong)  # type: ignore[arg-type]


def test_nothing_runs(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        zoo.select(where="__import__('pathlib').Path('ran').touch() == label")
    assert not list(tmp_path.iterdir())
    assert not re.search(r"\b(eval|exec)\(", (Path(__file__).parents[3] / "zootool" / "zoo" / "where.py").read_text())
