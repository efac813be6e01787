import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import zarr

from tests.zootool.store.unit_folders import write_unit_folder
from zootool.build.units import write_unit
from zootool.conversion.convert import convert
from zootool.errors import FormatError, IntegrityError, MissingError, NumericalError, UsageError
from zootool.store import WriteOptions
from zootool.zoo import open_zoo


def plain_edges(store: Path) -> np.ndarray:
    """The edges as the Zarr library itself reads them."""
    array = zarr.open_array(store / "edges", mode="r")
    return np.asarray(array[:])


@pytest.fixture
def units(tmp_path: Path) -> Path:
    folder = tmp_path / "units-of-test"
    write_unit_folder(folder)
    return folder


def test_every_number_of_the_units_is_in_the_zoo(tmp_path: Path) -> None:
    tensors = write_unit_folder(tmp_path / "units-of-test", units=(4, 4, 2))
    zoo_id = convert(tmp_path / "units-of-test", tmp_path / "x.zoo")
    zoo = open_zoo(tmp_path / "x.zoo")
    assert zoo.id == zoo_id
    assert zoo.info.name == "x"
    assert zoo.info.kind == "siren"
    assert zoo.info.sources[0].grid == "linspace(-1, 1), ij"
    assert list(zoo.nets["net_id"]) == [f"test-{i:06d}" for i in range(10)]
    for i in range(10):
        assert {k: v.numpy().tobytes() for k, v in zoo.state_dict(i).items()} == {
            k: v[i].tobytes() for k, v in tensors.items()
        }


def test_plain_zarr_reads_a_homogeneous_zoo_as_a_reshape(tmp_path: Path) -> None:
    tensors = write_unit_folder(tmp_path / "u", units=(4, 3))
    convert(tmp_path / "u", tmp_path / "x.zoo")
    edges = plain_edges(tmp_path / "x.zoo").reshape(7, -1)
    weights = [tensors[key].reshape(7, -1) for key in tensors if key.endswith("weight")]
    np.testing.assert_array_equal(edges, np.concatenate(weights, axis=1))


def test_equal_units_give_equal_ids_whatever_the_workers(units: Path, tmp_path: Path) -> None:
    first = convert(units, tmp_path / "a.zoo", name="same", options=WriteOptions(workers=1))
    second = convert(units, tmp_path / "b.zoo", name="same", options=WriteOptions(workers=4))
    assert first == second
    for path in sorted((tmp_path / "a.zoo").rglob("*")):
        if path.is_file():
            twin = tmp_path / "b.zoo" / path.relative_to(tmp_path / "a.zoo")
            assert path.read_bytes() == twin.read_bytes(), path


def test_a_unit_without_receipt_does_not_exist(units: Path, tmp_path: Path) -> None:
    (units / "units" / "00001.json").unlink()
    convert(units, tmp_path / "x.zoo")
    assert len(open_zoo(tmp_path / "x.zoo")) == 6


@pytest.mark.parametrize("suffix", ["safetensors", "parquet"])
def test_a_unit_that_differs_from_its_receipt_is_refused(units: Path, tmp_path: Path, suffix: str) -> None:
    path = units / "units" / f"00001.{suffix}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=f"00001.{suffix}"):
        convert(units, tmp_path / "x.zoo")
    assert sorted(os.listdir(tmp_path)) == ["units-of-test"]


def test_no_finished_unit_is_named(units: Path, tmp_path: Path) -> None:
    for path in (units / "units").glob("*.json"):
        path.unlink()
    with pytest.raises(MissingError, match="no finished unit"):
        convert(units, tmp_path / "x.zoo")


def test_networks_with_nan_are_refused_or_marked(units: Path, tmp_path: Path) -> None:
    tensors = write_unit_folder(tmp_path / "bad", units=(4,))
    tensors["net.1.linear.bias"][2, 3] = np.nan
    tensors["net.0.linear.weight"][0] = np.finfo(np.float32).max
    details = {"num_networks": 4, "num_refitted": 0, "num_diverged": 1, "seconds": 1.0, "threads": 1, "device": "cpu"}
    table = pq.read_table(tmp_path / "bad" / "units" / "00000.parquet")
    write_unit(tmp_path / "bad", 0, tensors, table, details | {"versions": {}})
    with pytest.raises(NumericalError, match=r"1 networks of x have NaN .* test-000002"):
        convert(tmp_path / "bad", tmp_path / "x.zoo")
    convert(tmp_path / "bad", tmp_path / "x.zoo", options=WriteOptions(nonfinite="keep"))
    zoo = open_zoo(tmp_path / "x.zoo")
    assert list(zoo.nets["is_finite"]) == [True, True, False, True]
    assert torch.isnan(zoo.state_dict(2)["net.1.linear.bias"][3])


def test_what_is_no_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="nothing at"):
        convert(tmp_path / "nowhere", tmp_path / "x.zoo")
    with pytest.raises(FormatError, match="no format"):
        convert(tmp_path, tmp_path / "x.zoo")


def test_an_existing_destination_stays(units: Path, tmp_path: Path) -> None:
    convert(units, tmp_path / "x.zoo")
    before = (tmp_path / "x.zoo" / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="exists"):
        convert(units, tmp_path / "x.zoo")
    assert (tmp_path / "x.zoo" / "manifest.json").read_bytes() == before


def test_compressed_chunks_hold_the_same_networks(units: Path, tmp_path: Path) -> None:
    convert(units, tmp_path / "plain.zoo")
    convert(units, tmp_path / "zstd.zoo", options=WriteOptions(zstd_level=3))
    plain, packed = open_zoo(tmp_path / "plain.zoo"), open_zoo(tmp_path / "zstd.zoo")
    assert plain.nets["digest"].tolist() == packed.nets["digest"].tolist()
    for key, tensor in plain.state_dict(9).items():
        assert torch.equal(tensor, packed.state_dict(9)[key])
    np.testing.assert_array_equal(plain_edges(tmp_path / "zstd.zoo"), plain_edges(tmp_path / "plain.zoo"))
