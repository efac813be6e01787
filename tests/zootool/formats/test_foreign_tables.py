import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from zootool.errors import FormatError
from zootool.formats.foreign_tables import read_labels
from zootool.formats.options import ReadOptions
from zootool.formats.plain_folder import PlainFolder

CASES = Path(__file__).parents[2] / "cases" / "csv_reading"


def table_of(folder: Path, content: str | bytes, name: str = "labels.csv") -> tuple[list, dict, str]:
    """Paths, columns and notes of a table with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_labels(path)
    return list(found.paths), found.table.to_pydict(), " ".join(found.notes)


@pytest.mark.parametrize("case", ["csv_backslash", "csv_semicolon", "csv_space", "csv_zero_ids2"])
def test_each_case_is_read_right(case: str) -> None:
    assert PlainFolder.read(CASES / case, ReadOptions()).table["label"].to_pylist() == [1, 2, 3]


def test_ids_stay_the_text_that_they_are() -> None:
    assert PlainFolder.read(CASES / "csv_zero_ids2", ReadOptions()).table["run_id"].to_pylist() == ["007", "08", "7"]


def test_runs_of_two_names_are_two_runs(tmp_path: Path) -> None:
    _, table, _ = table_of(tmp_path, "path,run_id,zip,big\na,007,01234,123456789012345678901\nb,7,99,1\n")
    assert table == {"run_id": ["007", "7"], "zip": ["01234", "99"], "big": ["123456789012345678901", "1"]}
    _, table, _ = table_of(tmp_path, "path,run_id,count\na,1,10\nb,2,0\n")
    assert table == {"run_id": ["1", "2"], "count": [10, 0]}


@pytest.mark.parametrize(("content", "label"), [
    ("path, label\na, 1\nb, 2\n", [1, 2]), ("path;label\na;1\nb;2\n", [1, 2]),
    ("path\tlabel\na\tx y\nb\tz\n", ["x y", "z"]),
    ("\ufeffpath,label\r\na,1\r\nb,\r\n", [1, None]), ('path,label\n"a","x, ""y"""\nb, z \n', ['x, "y"', "z"]),
    ("path,label\na,NA\nb,1\n", [None, 1]), ("path,label\na,NA\nb,CH\n", ["NA", "CH"]),
    ("path,label\na,\nb,CH\n", [None, "CH"]),
    ("path;label\na;0,5\nb;2,25\n", [0.5, 2.25]), ("path;label\na;0.5\nb;2.25\n", [0.5, 2.25]),
    ("path,label\na,true\nb,false\n", [True, False]), ("path;label\na;x,y\nb;z\n", ["x,y", "z"]),
    ('label,path\n1,a\n"2",b\n', [1, 2]),
])  # fmt: skip
def test_separators_blanks_quotes_and_gaps(tmp_path: Path, content: str, label: list) -> None:
    paths, table, notes = table_of(tmp_path, content)
    assert (paths, table) == (["a", "b"], {"label": label})
    assert ("semicolons" in notes, "tabs" in notes) == ("path;" in content, "\t" in content)
    assert ("decimal commas" in notes) == ("0,5" in content)


@pytest.mark.parametrize(("content", "message"), [
    ("path,label\na,béé\n".encode("latin-1"), "isn't UTF-8 text.*iconv -f latin1 -t utf-8"),
    ("path,labél\na,b\n".encode("latin-1"), "isn't UTF-8 text.*iconv -f latin1 -t utf-8"),
    ("path,label\na,b\n".encode("utf-16"), "UTF-16.*save it as UTF-8"),
    ("path|label\na|1\n", "several ways or none: separate them by commas"),
    ("a;b,c\n1;2,3\n", "several ways or none: separate them by commas"),
    ("path,label,label\na,1,2\n", "a column 'label'"),
    ("path,label,b\na,1\n", "Expected 3 columns"),
    ("path," + "c," * 100_000 + "\n", "about 100,001 columns, at most 10,000"),
    ("x" * (5 << 20), "begins with a line of more than"),
    ("", "first line is empty"),
])  # fmt: skip
def test_what_cannot_be_read_right_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        table_of(tmp_path, content)


@pytest.mark.parametrize(("content", "message"), [
    ('{"path": "a", "x": ' + "[" * 500 + "]" * 500 + "}\n", "line 1 is nested more than 32 deep"),
    ('{"path": "a"}\n{"path": "b", "x": ' + '{"x":' * 50_000 + "1" + "}" * 50_000 + "}\n", "line 2 is nested more"),
    ('{"path": "a", "seed": 12345678901234567890123}\n', "line 1 has a whole number that would be rounded: put it in"),
    ('{"path": "a", "x": 1}\n{"path": "b", "x": "t"}\n', "changed from number to string"),
])  # fmt: skip
def test_lines_of_json_are_bounded_and_exact(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        table_of(tmp_path, content, "labels.jsonl")


def test_brackets_in_texts_are_no_nesting(tmp_path: Path) -> None:
    row = {"path": "a", "x": "[" * 500, "y": list(range(3)), "seed": "12345678901234567890"}
    _, table, _ = table_of(tmp_path, json.dumps(row), "labels.jsonl")
    assert table == {name: [value] for name, value in row.items() if name != "path"}


def test_a_file_whose_own_name_has_a_backslash_is_meant_first(tmp_path: Path) -> None:
    shutil.copytree(CASES / "csv_backslash" / "nets", tmp_path / "nets")
    shutil.copy(tmp_path / "nets" / "n0.pth", tmp_path / "nets\\n0.pth")
    rows = ["path,label", "nets\\n0.pth,9", "nets/n0.pth,1", "nets\\n1.pth,2", "nets\\n2.pth,3"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    table = PlainFolder.read(tmp_path, ReadOptions()).table
    assert dict(zip(table["net_id"].to_pylist(), table["label"].to_pylist(), strict=True)) == {
        "nets\\n0.pth": 9, "nets/n0.pth": 1, "nets/n1.pth": 2, "nets/n2.pth": 3,
    }  # fmt: skip


def test_a_mixed_table_of_parquet_converts(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    columns = {"path": ["a", "b"], "kind": pa.array(["x", "y"]).dictionary_encode(), "list": [[1], [2, 3]]}
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    assert list(read_labels(tmp_path / "labels.parquet").paths) == ["a", "b"]
