"""Which files are networks: shards are one, two formats of one are one, and names may be in upper case."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.zootool.formats.converting import assert_holds, column, converted
from zootool.errors import FormatError
from zootool.formats.collection import Collection
from zootool.formats.options import ReadOptions
from zootool.formats.reading import read_collection

CASES = Path(__file__).parents[2] / "cases"
SHARDS = CASES / "hf_shards" / "hf_shards2"
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def read(path: Path, exclude: tuple[str, ...] = ()) -> Collection:
    return read_collection(path, None, ReadOptions(exclude=exclude))


def mlp(seed: int, width: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2)).state_dict()


@pytest.mark.parametrize("whole", [True, False])
def test_shards_joined_by_their_index_are_one_network(tmp_path: Path, whole: bool) -> None:
    state = load_file(SHARDS / FIRST) | load_file(SHARDS / SECOND)
    zoo = converted(SHARDS if whole else SHARDS / INDEX, tmp_path / "x.zoo")
    assert_holds(zoo, {"model.safetensors": state})


def test_shards_of_torch_files_are_one_network(tmp_path: Path) -> None:
    state = mlp(0)
    parts = {"pytorch_model-00001-of-00002.bin": ["0.weight", "0.bias"],
             "pytorch_model-00002-of-00002.bin": ["2.weight", "2.bias"]}  # fmt: skip
    folder = tmp_path / "nets"
    folder.mkdir()
    for name, keys in parts.items():
        torch.save({key: state[key] for key in keys}, folder / name)
    weight_map = {key: name for name, keys in parts.items() for key in keys}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_holds(converted(folder, tmp_path / "x.zoo"), {"pytorch_model.bin": state})


def test_shards_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    def with_map(changes: Mapping[str, str | None], problem: str) -> None:
        index = json.loads((SHARDS / INDEX).read_text())
        weight_map = {key: file for key, file in (index["weight_map"] | changes).items() if file is not None}
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(FormatError, match=problem):
            read(folder)

    folder = tmp_path / "nets"
    shutil.copytree(SHARDS, folder)
    with_map({"fc3.bias": FIRST}, "lacks 'fc3.bias', which the index says is there")
    with_map({"fc3.bias": None}, "holds 'fc3.bias', which the index doesn't know")
    with_map({"fc3.bias": None, "fc3.weight": None}, f"doesn't list {SECOND}")
    with_map({"fc3.bias": "../x.safetensors"}, "wanted is one beside it")
    save_file(load_file(SHARDS / SECOND) | {"fc1.bias": torch.zeros(8)}, folder / SECOND)
    with_map({}, f"holds 'fc1.bias' too, which the index says is in {FIRST}")
    (folder / SECOND).unlink()
    with_map({}, f"lists {SECOND}, which isn't there")
    (folder / INDEX).write_text("[]")
    with pytest.raises(FormatError, match="has no weight_map"):
        read(folder)


def test_shards_without_an_index_are_refused_and_numbered_networks_are_not(tmp_path: Path) -> None:
    for name in (FIRST, SECOND):
        shutil.copy(SHARDS / name, tmp_path)
    with pytest.raises(FormatError, match="is a part of a network of 2 files") as caught:
        read(tmp_path)
    assert "2 of 2" in caught.value.message
    (tmp_path / FIRST).unlink()
    with pytest.raises(FormatError, match="is a part of a network of 2 files") as caught:
        read(tmp_path)
    assert f"put {INDEX} beside them" in str(caught.value.hint)
    (tmp_path / SECOND).unlink()
    for i in (1, 2):
        torch.save(mlp(i), tmp_path / f"net-0000{i}-of-00002.pt")
    assert len(read(tmp_path)) == 2


@pytest.mark.parametrize("names", [("model.safetensors", "pytorch_model.bin"), ("a.safetensors", "a.PT")])
def test_two_formats_of_one_network_are_one(tmp_path: Path, names: tuple[str, str]) -> None:
    save_file(mlp(0), tmp_path / names[0])
    torch.save({"state_dict": mlp(0)}, tmp_path / names[1])
    found = read(tmp_path)
    assert found.table["net_id"].to_pylist() == [names[0]]
    assert [(left.file, left.reason) for left in found.left_out] == [
        (names[1], f"holds the same network as {names[0]}")
    ]
    torch.save(mlp(1), tmp_path / names[1])
    with pytest.raises(FormatError, match="are one network by their names, but their tensors differ") as caught:
        read(tmp_path)
    assert f"--exclude '{names[1]}'" in str(caught.value.hint)
    assert len(read(tmp_path, exclude=(names[1],))) == 1


def test_two_formats_of_shards_are_one(tmp_path: Path) -> None:
    shutil.copytree(SHARDS, tmp_path / "nets")
    torch.save(load_file(SHARDS / FIRST) | load_file(SHARDS / SECOND), tmp_path / "nets" / "pytorch_model.bin")
    assert read(tmp_path / "nets").table["net_id"].to_pylist() == ["model.safetensors"]


def test_other_networks_of_one_name_stay_two(tmp_path: Path) -> None:
    save_file(mlp(0), tmp_path / "a.safetensors")
    torch.save(mlp(0, width=5), tmp_path / "a.pt")
    assert len(read(tmp_path)) == 2
    save_file(mlp(0), tmp_path / "model.safetensors")
    torch.save(mlp(0, width=5), tmp_path / "pytorch_model.bin")
    with pytest.raises(FormatError, match="one network by their names"):
        read(tmp_path)


def test_suffixes_in_upper_case_and_of_tar_are_read(tmp_path: Path) -> None:
    assert sorted(column(converted(CASES / "suffixes" / "upper_suffix", tmp_path / "x.zoo"), "split")) == [
        "a.PTH", "b.pth",
    ]  # fmt: skip
    for i, name in enumerate(("model_best.pth.tar", "last.pt.tar", "a.CKPT", "b.Safetensors", "c.bin")):
        (save_file if "Safe" in name else torch.save)(mlp(i), tmp_path / name)
    (tmp_path / "archive.tar").write_bytes(b"no network")
    shutil.rmtree(tmp_path / "x.zoo")
    assert len(read(tmp_path)) == 5


def test_checkpoints_of_no_known_suffix_are_named_and_read_on_request(tmp_path: Path) -> None:
    torch.save(mlp(0), tmp_path / "a.pt")
    torch.save(mlp(1), tmp_path / "b.weights")
    torch.save(mlp(2), tmp_path / "checkpoint", _use_new_zipfile_serialization=False)
    save_file(mlp(3), tmp_path / "c.st")
    (tmp_path / "notes.txt").write_text("nothing")
    found = read(tmp_path)
    assert found.table["net_id"].to_pylist() == ["a.pt"]
    assert [left.file for left in found.left_out] == ["b.weights", "c.st", "checkpoint"]
    assert "name the file itself to read it" in found.left_out[0].reason
    for name in ("b.weights", "c.st", "checkpoint"):
        assert read(tmp_path / name).table["net_id"].to_pylist() == [name]
    with pytest.raises(FormatError, match="no format that zootool knows"):
        read(tmp_path / "notes.txt")
