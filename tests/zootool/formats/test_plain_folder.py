import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zootool.conversion.convert import convert
from zootool.errors import FormatError, MissingError
from zootool.formats import reader_for
from zootool.formats.options import ReadOptions
from zootool.formats.plain_folder import PlainFolder
from zootool.nets.resnet import CifarResnet
from zootool.zoo import open_zoo, verify


def mlp(seed: int = 0, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


def write_folder(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Five networks of two architectures, each wrapped and written in another way; their state_dicts by path."""
    (folder / "deep").mkdir(parents=True)
    states = {f"{name}": mlp(i, width).state_dict() for i, (name, width) in enumerate(
        {"a.pth": 4, "b.pt": 4, "c.safetensors": 7, "deep/d.ckpt": 4, "deep/e.th": 7}.items())}  # fmt: skip
    torch.save(states["a.pth"], folder / "a.pth")
    torch.save({"model_state_dict": states["b.pt"], "epoch": 7, "test_acc": 0.5}, folder / "b.pt")
    save_file(states["c.safetensors"], folder / "c.safetensors")
    prefixed = {f"module.{key}": value for key, value in states["deep/d.ckpt"].items()}
    torch.save({"state_dict": prefixed, "epoch": 9}, folder / "deep" / "d.ckpt")
    torch.save(states["deep/e.th"], folder / "deep" / "e.th", _use_new_zipfile_serialization=False)
    (folder / "notes.txt").write_text("not a checkpoint")
    return states


def test_every_file_is_a_network_whatever_it_is_wrapped_in(tmp_path: Path) -> None:
    states = write_folder(tmp_path / "nets")
    assert reader_for(tmp_path / "nets").NAME == "folder"
    convert(tmp_path / "nets", tmp_path / "x.zoo")
    assert verify(tmp_path / "x.zoo", "deep").passed
    zoo = open_zoo(tmp_path / "x.zoo")
    assert sorted(zoo.nets["net_id"]) == sorted(states)
    # safetensors keeps its tensors sorted by name: the same layers, but a state_dict in another order.
    assert len(zoo.architectures) == 3
    for place, net_id in enumerate(zoo.nets["net_id"]):
        found = zoo.state_dict(place)
        keys = list(states[net_id])
        assert list(found) == (sorted(keys) if net_id.endswith("safetensors") else keys)
        assert all(torch.equal(found[key], states[net_id][key]) for key in found)
    epochs = dict(zip(zoo.nets["net_id"], zoo.nets["epoch"].tolist(), strict=True))
    assert epochs["b.pt"] == 7
    assert epochs["deep/d.ckpt"] == 9
    assert zoo.info.provenance["notes"] == []
    assert set(zoo.info.assumptions) == set(zoo.architectures)
    assert all("activations are taken for relu" in texts for texts in zoo.info.assumptions.values())
    assert "seed 0" in zoo.info.recipe["splits"]


LABELS = [("a.pth", 3, "train"), ("b.pt", 1, "test"), ("c.safetensors", 0, "train"), ("deep/d.ckpt", 2, "test"),
          ("deep/e.th", 9, "validation")]  # fmt: skip


def write_labels(folder: Path, form: str) -> Path:
    path = folder / f"labels.{form}"
    if form == "csv":
        path.write_text("path,label,split\n" + "".join(f"{p},{label},{split}\n" for p, label, split in LABELS))
    elif form == "jsonl":
        rows = [{"label": label, "file": f"./{p}", "split": split} for p, label, split in LABELS]
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        columns = list(zip(*LABELS, strict=True))
        pq.write_table(pa.table({"name": columns[0], "label": columns[1], "split": columns[2]}), path)
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_labels_come_from_the_table_beside_the_files(tmp_path: Path, form: str) -> None:
    write_folder(tmp_path)
    write_labels(tmp_path, form)
    table = PlainFolder.read(tmp_path, ReadOptions()).table
    found = list(zip(*(table[name].to_pylist() for name in ("net_id", "label", "split")), strict=True))
    assert found == LABELS


def test_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    labels = write_labels(tmp_path, "csv")
    text = labels.read_text()
    for broken, message in (
        (text.replace("a.pth,3,train\n", ""), "no row for a.pth"),
        (text + "a.pth,3,train\n", "two rows for one file"),
        (text.replace("label", "split"), "a column 'split'"),
        (text + "a,b\n", "readable table"),
        ("", "readable table"),
    ):
        labels.write_text(broken)
        with pytest.raises(FormatError, match=message):
            PlainFolder.read(tmp_path, ReadOptions())
    write_labels(tmp_path, "jsonl")
    with pytest.raises(FormatError, match="2 tables of labels"):
        PlainFolder.read(tmp_path, ReadOptions())
    with pytest.raises(MissingError, match="no table"):
        PlainFolder.read(tmp_path, ReadOptions(labels=tmp_path / "absent.csv"))


def test_formulas_and_escapes_in_a_table_stay_text(tmp_path: Path) -> None:
    write_folder(tmp_path)
    labels = write_labels(tmp_path, "csv")
    text = labels.read_text().replace("split", "words")
    labels.write_text(text.replace("train", "=cmd|'/c calc'!A1").replace("test", "\x1b[31mred"))
    table = PlainFolder.read(tmp_path, ReadOptions()).table
    assert table["words"].to_pylist()[:2] == ["=cmd|'/c calc'!A1", "\x1b[31mred"]


@torch.no_grad()
def test_a_declared_architecture_replaces_the_guess(tmp_path: Path) -> None:
    torch.save(mlp().state_dict(), tmp_path / "a.pth")
    declared = tmp_path / "net.yaml"
    declared.write_text(
        "num_inputs: 3\nlayers:\n"
        "  - {kind: linear, weight: 0.weight, bias: 0.bias, activation: tanh}\n"
        "  - {kind: linear, weight: 2.weight, bias: 2.bias}\n"
    )
    convert(tmp_path / "a.pth", tmp_path / "x.zoo", reading=ReadOptions(architecture=declared))
    zoo = open_zoo(tmp_path / "x.zoo")
    x, module = torch.randn(5, 3), mlp()
    torch.testing.assert_close(zoo.module(0)(x), module[2](torch.tanh(module[0](x))))
    assert zoo.info.assumptions == {}


@torch.no_grad()
def test_a_legacy_resnet_of_a_parallel_module_comes_back_whole(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, x = CifarResnet(8).eval(), torch.randn(2, 3, 32, 32)
    state = {f"module.{key}": value for key, value in module.state_dict().items() if "num_batches" not in key}
    torch.save({"state_dict": state, "best_prec1": 91.5}, tmp_path / "r.th", _use_new_zipfile_serialization=False)
    convert(tmp_path / "r.th", tmp_path / "r.zoo")
    zoo = open_zoo(tmp_path / "r.zoo")
    assert zoo.nets["best_prec1"].tolist() == [91.5]
    found = zoo.state_dict(0)
    assert {f"module.{key}" for key in found} == set(state)
    assert all(torch.equal(value, state[f"module.{key}"]) for key, value in found.items())
    torch.testing.assert_close(zoo.module(0)(x), module(x))


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no format that zootool knows"):
        reader_for(tmp_path)
    (tmp_path / "a.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(FormatError, match=r"a\.pth is a web page"):
        PlainFolder.read(tmp_path, ReadOptions())
    torch.save({"weights": [1, 2]}, tmp_path / "a.pth")
    with pytest.raises(FormatError, match=r"a\.pth holds no state_dict"):
        PlainFolder.read(tmp_path, ReadOptions())
    torch.save(mlp(), tmp_path / "a.pth")
    with pytest.raises(FormatError, match=r"a\.pth holds a whole module of the class"):
        PlainFolder.read(tmp_path, ReadOptions())


def test_a_file_that_changed_under_the_reader_is_refused(tmp_path: Path) -> None:
    torch.save(mlp().state_dict(), tmp_path / "a.pth")
    torch.save(mlp(1).state_dict(), tmp_path / "b.pth")
    found = PlainFolder.read(tmp_path, ReadOptions())
    torch.save(mlp(width=5).state_dict(), tmp_path / "b.pth")
    with pytest.raises(FormatError, match=r"b\.pth: float32 .5, 3. is '0\.weight'"):
        found.load(found.architecture_index * 0 + [0, 1])
