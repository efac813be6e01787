"""Every column that a table can hold, through the page, the card and the command: never a crash, never a slip."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.zootool.store.small_stores import random_block, unchecked_block, write_small_store
from zootool.columns.values import codes, counted, numbers, plain_values
from zootool.conversion.convert import convert
from zootool.nets.siren import siren_architecture
from zootool.share.card import derived_files
from zootool.share.summary import histogram
from zootool.share.view import view_page
from zootool.zoo import Zoo, open_zoo

CASES = Path(__file__).parents[2] / "cases" / "label_column_crashes"

_BAD_UTF8 = pa.Array.from_buffers(pa.string(), 4, pa.array([b"caf\xe9", b"x", None, b"\xff"], pa.binary()).buffers())
_FAR_DATES = pa.array([10**9, -(10**9), 0, None], pa.int32()).cast(pa.date32())
_FAR_TIMES = pa.array([10**17, -(10**17), 0, None], pa.timestamp("ms"))
EVIL = "</script><img src=x onerror=alert(1)>\x1b[2J[red]"

STRANGE: dict[str, Any] = {
    "null": [1, None, 3, 1], "all null": [None] * 4, "flags": [True, None, False, True], "equal": [7] * 4,
    "category": pa.array(["a", "b", None, "a"]).dictionary_encode(), "list": [[1], [2], None, [1]],
    "struct": [{"a": 1}, {"a": 2}, None, {"a": 1}], "map": pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64())),
    "latin1": [b"caf\xe9", b"x", None, b"caf\xe9"], "bad text": _BAD_UTF8, "empty text": ["", " ", "a", None],
    "decimal": pa.array([Decimal(1), None, Decimal(3), Decimal(1)]), "date": [date(2020, 1, 1)] * 4,
    "far date": _FAR_DATES, "far time": _FAR_TIMES, "zone": _FAR_TIMES.cast(pa.timestamp("ms", "UTC")),
    "duration": pa.array([1, 2, None, 2**62], pa.duration("ns")), "time": pa.array([1, 2, None, 3], pa.time64("us")),
    "large": [2**53 + 1, 2**53, 2**62, None], "unsigned": pa.array([2**64 - 1, 0, 1, None], pa.uint64()),
    "float": [float("nan"), float("inf"), -float("inf"), None], "half": pa.array(np.arange(4, dtype=np.float16)),
    "huge": [1e308, -1e308, 0.0, None], "close": [1e17, 1e17 + 16, 1e17, 1e17], "tiny": [5e-324, 0.0, 0.0, 5e-324],
    "long": ["x" * 1_000_000, "y", None, "x" * 1_000_000], "evil": [EVIL, "a", EVIL, None],
    "deep": pa.array([[[[1]]], [[[2]]], None, []]), "view": pa.array(["a", "b", None, "a"]).cast(pa.string_view()),
    "many": [list(range(100_000)), [], None, [1]],
}  # fmt: skip
SHOWN = ("label", "split", "psnr", "test_accuracy", "loss", "source", "copy", "training_step", "hp_a", "is_finite")


def store_with(path: Path, **columns: Any) -> Zoo:
    write_small_store(path, unchecked_block(random_block(siren_architecture(2, (3,), 1), 4), **columns))
    return open_zoo(path)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "\x1b[2J" not in result.output
    return result.output


@pytest.mark.parametrize("kind", STRANGE)
def test_any_column_is_shown_everywhere(tmp_path: Path, kind: str) -> None:
    zoo = store_with(tmp_path / "x.zoo", **dict.fromkeys(SHOWN, STRANGE[kind]))
    page = view_page(zoo).decode()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert 1 <= len(data["records"]) <= 4
    assert "\x1b" not in page
    assert "<img" not in page
    assert len(page) < 200_000
    files = derived_files(zoo.store)
    assert json.loads(files["croissant.json"])
    assert b"\x1b" not in files["README.md"]
    assert "columns" in run("info", tmp_path / "x.zoo")
    assert json.loads(run("info", tmp_path / "x.zoo", "--json"))["splits"]
    assert json.loads(run("ls", tmp_path, "--json"))["stores"][0]["num_networks"] == 4


@pytest.mark.parametrize("kind", STRANGE)
def test_any_column_becomes_plain_values(kind: str) -> None:
    column = pa.chunked_array([pa.array(STRANGE[kind])])
    values = plain_values(column)
    assert len(values) == 4
    json.dumps(values, allow_nan=False)
    assert all(value is None or type(value) in (bool, int, float, str) for value in values)
    assert all(len(value) <= 120 for value in values if isinstance(value, str))
    assert sum(counted(column).values()) == 4
    numbered, distinct = codes(column)
    assert numbered.max() < len(distinct) or not len(distinct)
    found = numbers(column)
    assert found is None or len(found) == 4


@pytest.mark.parametrize(("kind", "values"), [
    ("flags", [True, None, False, True]), ("category", ["a", "b", None, "a"]),
    ("struct", ["{'a': 1}", "{'a': 2}", None, "{'a': 1}"]),
    ("latin1", ["caf\\xe9", "x", None, "caf\\xe9"]), ("bad text", ["caf\\xe9", "x", None, "\\xff"]),
    ("decimal", ["1", None, "3", "1"]),
    ("large", ["9007199254740993", 2**53, str(2**62), None]), ("float", [None, "inf", "-inf", None]),
    ("far date", ["<value out of range: 1000000000>", "<value out of range: -1000000000>", "1970-01-01", None]),
])  # fmt: skip
def test_plain_values_are_the_columns_values(kind: str, values: list) -> None:
    assert plain_values(pa.array(STRANGE[kind])) == values


def test_equal_values_are_one_group_and_long_ones_stay_apart() -> None:
    assert counted(pa.array([3, None, 3, float("nan")])) == {"3.0": 2, "missing": 2}
    assert codes(pa.array(["b", "a", "b", None]))[0].tolist() == [0, 1, 0, -1]
    assert codes(pa.array([[1], [2], [1], None]))[0].tolist() == [0, 1, 0, -1]
    assert codes(pa.array(["x" * 500 + "1", "x" * 500 + "2"]))[0].tolist() == [0, 1]


@pytest.mark.parametrize("values", [[1.0] * 5, [1e17, 1e17 + 16], [-1e308, 1e308], [0.0], [5e-324, 0.0]])
def test_a_histogram_counts_every_value(values: list[float]) -> None:
    found = histogram(np.array(values), 32, min(values), max(values))
    assert sum(found["counts"]) == len(values)
    assert np.isfinite([found["low"], found["high"]]).all()


def test_thousands_of_columns_are_counted_not_listed(tmp_path: Path) -> None:
    zoo = store_with(tmp_path / "x.zoo", **{f"hp_{i}": [1, 2, 3, 4] for i in range(3000)})
    assert "and 2,911 more" in derived_files(zoo.store)["README.md"].decode()
    assert len(run("info", tmp_path / "x.zoo")) < 5_000
    assert len(view_page(zoo)) < 200_000


@pytest.mark.parametrize(("case", "labels", "shown"), [
    ("csv_missing_label", [1, None, 3], "1 1, 3 1, missing 1"),
    ("lab_bool", [True, False, True, True], "False 1, True 3"),
    ("lab_struct", None, "{'a'"), ("pq_category", None, ""),
])  # fmt: skip
def test_each_case_goes_all_the_way(tmp_path: Path, case: str, labels: list | None, shown: str) -> None:
    assert shown in run("show", CASES / case)
    convert(CASES / case, tmp_path / "x.zoo")
    zoo = open_zoo(tmp_path / "x.zoo")
    assert labels is None or zoo.nets.to_arrow(["label"])["label"].to_pylist() == labels
    run("info", tmp_path / "x.zoo")
    run("view", tmp_path / "x.zoo")
    terms = ("--licence", "MIT", "--source-terms", "CC0")
    run("publish", tmp_path / "x.zoo", tmp_path / "published", *terms)
    assert (tmp_path / "published" / "README.md").stat().st_size


def test_what_is_not_utf8_is_refused_before_it_is_stored() -> None:
    result = CliRunner().invoke(app, ["show", str(CASES / "csv_latin1")])
    assert result.exit_code == 3
    assert "iconv" in result.output
