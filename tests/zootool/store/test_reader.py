import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from tests.zootool.store.small_stores import random_block, reseal, write_small_store
from zootool.errors import BadDataError, FormatError, IntegrityError, MissingError, UsageError, ZooError
from zootool.files import canonical_json
from zootool.nets.siren import siren_architecture
from zootool.store import open_store
from zootool.zoo import open_zoo, verify


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "small.zoo"
    write_small_store(path)
    return path


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "x.zoo")
    return tmp_path / "x.zoo"


def change_json(store: Path, name: str, change: Callable[[Any], Any]) -> None:
    value = json.loads((store / name).read_bytes())
    (store / name).write_bytes(canonical_json(change(value) or value))
    reseal(store, name)


def change_table(store: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(store / "nets.parquet")), store / "nets.parquet")
    reseal(store, "nets.parquet")


def set_column(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, values)


def test_what_is_no_zoo_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no zoo at"):
        open_zoo(tmp_path / "nowhere.zoo")
    with pytest.raises(FormatError, match="isn't a zoo"):
        open_zoo(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FormatError, match="isn't a zoo"):
        open_zoo(tmp_path / "file")
    (tmp_path / "recipe.yaml").write_text("x")
    with pytest.raises(FormatError, match="folder of units"):
        open_zoo(tmp_path)


def test_a_store_without_manifest_is_refused(store: Path) -> None:
    (store / "manifest.json").unlink()
    with pytest.raises(IntegrityError, match=r"no manifest\.json"):
        open_zoo(store)


def test_a_newer_major_version_is_refused(store: Path) -> None:
    change_json(store, "zoo.json", lambda value: value | {"format_version": "2.0"})
    with pytest.raises(FormatError, match=r"of format 2\.0"):
        open_zoo(store)
    manifest = json.loads((store / "manifest.json").read_bytes()) | {"format_version": "2.0"}
    (store / "manifest.json").write_bytes(canonical_json(manifest))
    with pytest.raises(FormatError, match=r"manifest.json is of format 2.0.*upgrade zootool"):
        open_zoo(store)


def test_additions_of_a_newer_minor_version_are_ignored(store: Path) -> None:
    change_json(store, "zoo.json", lambda value: value | {"format_version": "1.9", "mood": "good"})
    (store / "moods").mkdir()
    (store / "moods" / "zarr.json").write_text("{}")
    reseal(store, "moods/zarr.json")
    manifest = json.loads((store / "manifest.json").read_bytes()) | {"format_version": "1.9", "signed": True}
    (store / "manifest.json").write_bytes(canonical_json(manifest))
    assert len(open_zoo(store)) == 30
    assert verify(store, "deep").passed


def huge_shape(value: dict[str, Any]) -> None:
    value["shape"] = [2**62]


def huge_chunks(value: dict[str, Any]) -> None:
    value["chunk_grid"]["configuration"]["chunk_shape"] = [2**60]
    value["codecs"][0]["configuration"]["chunk_shape"] = [2**60]


def odd_shards(value: dict[str, Any]) -> None:
    value["chunk_grid"]["configuration"]["chunk_shape"][0] += 1


def zero_chunks(value: dict[str, Any]) -> None:
    value["codecs"][0]["configuration"]["chunk_shape"] = [0]


def other_codec(value: dict[str, Any]) -> None:
    value["codecs"][0]["configuration"]["codecs"] = [{"name": "bytes"}, {"name": "blosc"}, {"name": "crc32c"}]


def no_checksums(value: dict[str, Any]) -> None:
    value["codecs"][0]["configuration"]["codecs"].pop()


def other_dtype(value: dict[str, Any]) -> None:
    value["data_type"] = "float64"


def two_axes(value: dict[str, Any]) -> None:
    value["shape"] = [10, 10]


@pytest.mark.parametrize(
    "change", [huge_shape, huge_chunks, odd_shards, zero_chunks, other_codec, no_checksums, other_dtype, two_axes]
)
def test_hostile_array_metadata_is_refused(store: Path, change: Callable[[Any], None]) -> None:
    change_json(store, "edges/zarr.json", change)
    with pytest.raises(FormatError, match=r"edges/zarr\.json"):
        open_zoo(store)


def more_networks(value: dict[str, Any]) -> None:
    value["num_networks"] += 1


def longer_segment(value: dict[str, Any]) -> None:
    value["segments"][0]["count"] += 1
    value["num_networks"] += 1


def unknown_architecture(value: dict[str, Any]) -> None:
    value["segments"][0]["architecture"] = "f" * 16


def astronomical(value: dict[str, Any]) -> None:
    value["segments"][0]["count"] = value["num_networks"] = 2**60


@pytest.mark.parametrize("change", [more_networks, longer_segment, unknown_architecture, astronomical])
def test_segments_that_do_not_fit_are_refused(store: Path, change: Callable[[Any], None]) -> None:
    change_json(store, "zoo.json", change)
    with pytest.raises(FormatError):
        open_zoo(store)


def slot_gap(value: dict[str, Any]) -> None:
    next(iter(value.values()))["slots"][2]["start"] += 1


def slot_overlap(value: dict[str, Any]) -> None:
    next(iter(value.values()))["slots"][2]["start"] = 0


def slot_missing(value: dict[str, Any]) -> None:
    next(iter(value.values()))["slots"].pop()


def wrong_signature(value: dict[str, Any]) -> None:
    next(iter(value.values()))["family"] = "changed"


@pytest.mark.parametrize("change", [slot_gap, slot_overlap, slot_missing, wrong_signature])
def test_architectures_that_do_not_cover_the_arrays_are_refused(store: Path, change: Callable[[Any], None]) -> None:
    change_json(store, "architectures.json", change)
    with pytest.raises(FormatError):
        open_zoo(store)


def test_tables_with_wrong_columns_or_types_are_refused(store: Path) -> None:
    change_table(store, lambda table: table.drop_columns(["digest"]))
    with pytest.raises(FormatError, match="lacks the column 'digest'"):
        open_zoo(store).nets.to_pandas()
    write_other(store)
    with pytest.raises(FormatError, match="isn't a Parquet file"):
        open_zoo(store).nets.to_pandas()


def write_other(store: Path) -> None:
    (store / "nets.parquet").write_bytes(b"PAR1 is not enough PAR1")
    reseal(store, "nets.parquet")


def test_offsets_of_another_type_are_refused(store: Path) -> None:
    change_table(store, set_column("edge_offset", pa.array([0.5] * 30)))
    with pytest.raises(FormatError, match="'edge_offset' is double"):
        open_zoo(store).nets.to_pandas()


def test_a_table_with_a_row_less_is_refused(store: Path) -> None:
    change_table(store, lambda table: table.slice(1))
    with pytest.raises(FormatError, match="29 rows for 30 networks"):
        open_zoo(store).nets.to_pandas()


@pytest.mark.parametrize("values", [np.zeros(30, np.int64), np.full(30, 2**60), np.arange(30) * 52 - 52])
def test_offsets_that_overlap_or_leave_the_array_are_found(store: Path, values: np.ndarray) -> None:
    change_table(store, set_column("edge_offset", pa.array(values)))
    assert any("edge_offset" in problem for problem in verify(store, "deep").problems)


def test_networks_that_share_a_net_id_are_found(store: Path) -> None:
    change_table(store, set_column("net_id", pa.array(["same"] * 30)))
    assert any("29 networks share their net_id" in problem for problem in verify(store, "deep").problems)


def rewrite_index(shard: Path, change: Callable[[np.ndarray], None]) -> None:
    content = bytearray(shard.read_bytes())
    index = np.frombuffer(bytes(content[-3 * 16 - 4 : -4]), "<u8").reshape(3, 2).copy()
    change(index)
    raw = index.tobytes()
    content[-3 * 16 - 4 :] = raw + google_crc32c.value(raw).to_bytes(4, "little")
    shard.write_bytes(content)


def lose_a_chunk(index: np.ndarray) -> None:
    index[1] = 2**64 - 1


def leave_the_file(index: np.ndarray) -> None:
    index[1, 0] = 2**63


def empty_a_chunk(index: np.ndarray) -> None:
    index[1, 1] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lose_a_chunk, "chunk 1 of .*edges/c/1 is missing"),
        (leave_the_file, "edges/c/1 points outside"),
        (empty_a_chunk, "edges/c/1 points outside"),
    ],
)
def test_a_lost_chunk_is_an_error_where_plain_zarr_shows_nan(
    store: Path, change: Callable[[np.ndarray], None], message: str
) -> None:
    rewrite_index(store / "edges" / "c" / "1", change)
    reseal(store, "edges/c/1")
    zoo = open_zoo(store)
    with pytest.raises(IntegrityError, match=message):
        zoo.store.arrays["edges"].read(0, 30 * 52)
    assert not verify(store, "deep").passed
    if change is lose_a_chunk:
        plain = np.asarray(zarr.open_array(store / "edges", mode="r")[:])
        assert np.isnan(plain).any()
        assert not (plain == 0).any()


def swap_chunks(index: np.ndarray) -> None:
    index[[0, 1]] = index[[1, 0]]


def test_swapped_chunks_are_other_networks(store: Path) -> None:
    rewrite_index(store / "edges" / "c" / "0", swap_chunks)
    reseal(store, "edges/c/0")
    problems = verify(store, "deep").problems
    assert problems
    assert all("differs from its digest" in problem for problem in problems)


def test_a_flipped_bit_under_the_loader_is_an_error_not_a_number(store: Path) -> None:
    path = store / "edges" / "c" / "0"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"chunk 0 of .*edges/c/0 doesn't match its checksum"):
        open_zoo(store).graph(0)


def test_an_open_zoo_keeps_its_files(store: Path, tmp_path: Path) -> None:
    zoo, twin = open_zoo(store), open_zoo(store)
    shutil.rmtree(store)
    write_small_store(store, random_block(siren_architecture(2, (3,), 1), 9))
    assert zoo.graph(29).edges[0].equal(twin.graph(29).edges[0])
    assert list(zoo.nets["net_id"]) == [*(f"net-0-{i}" for i in range(20)), *(f"net-1-{i}" for i in range(10))]
    assert len(open_zoo(store)) == 9


def test_a_shard_that_vanishes_unmapped_is_an_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zootool.store.reader._MAX_PINNED", 0)
    zoo = open_zoo(store)
    (store / "edges" / "c" / "0").unlink()
    with pytest.raises(IntegrityError, match="edges/c/0 is missing"):
        zoo.graph(0)


def test_flipped_bits_in_the_table_are_errors(store: Path) -> None:
    path = store / "nets.parquet"
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=r"nets\.parquet"):
        open_zoo(store).nets.to_pandas()


def test_a_manifest_with_a_byte_of_another_kind_is_refused(store: Path) -> None:
    content = (store / "manifest.json").read_bytes()
    for changed in (content.replace(b"view.html", b"view.htmm"), content + b"\n", content.replace(b":", b": ", 1)):
        (store / "manifest.json").write_bytes(changed)
        with pytest.raises(FormatError, match="isn't written as a manifest is"):
            open_store(store)


def test_manifests_name_no_paths_outside(store: Path) -> None:
    for path in ("../evil", "/etc/passwd", "a/../../b", "manifest.json", "c:\\x", ".hidden"):
        manifest = json.loads((store / "manifest.json").read_bytes())
        manifest["files"][path] = {"size": 1, "sha256": "0" * 64}
        (store / "manifest.json").write_bytes(canonical_json(manifest))
        with pytest.raises(FormatError, match="no store has"):
            open_store(store)


def test_selections_by_unknown_columns_and_values_are_usage_errors(store: Path) -> None:
    zoo = open_zoo(store)
    with pytest.raises(UsageError, match="did you mean 'label'"):
        zoo.select(lable=3)
    with pytest.raises(UsageError, match="can't compare"):
        zoo.select(label="three")
    with pytest.raises(ZooError, match="no network 30"):
        zoo.graph(30)
