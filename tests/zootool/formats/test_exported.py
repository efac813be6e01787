"""What `zoo export` writes, converted again: the same networks, columns, architectures and orders.

What went wrong with it stands in tests/cases/export_index.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.zootool.formats.converting import column, converted, notes_of, save
from tests.zootool.formats.sirens_here import write_nfn
from zootool.conversion.convert import convert
from zootool.errors import BadDataError, FormatError, MissingError, UntrustedError, UsageError
from zootool.formats import reader_for
from zootool.formats.exported import index_path
from zootool.formats.options import ReadOptions
from zootool.untrusted.file_stack import state_dict_of
from zootool.zoo import Zoo, open_zoo, verify
from zootool.zoo.export import export

Layout = Literal["safetensors", "torch", "nfn"]


def deep_mlps(folder: Path) -> Zoo:
    """Networks whose layers a sorted file holds in another order, with columns of all sorts; tanh, as declared."""
    (folder / "nets").mkdir(parents=True)
    for i in range(12):
        torch.manual_seed(i)
        layers = [nn.Linear(4, 4) for _ in range(12)]
        state = {f"fc{k}.{name}": value for k, layer in enumerate(layers) for name, value in layer.state_dict().items()}
        torch.save(state, folder / "nets" / f"{i:02d}.pth")
    rows = [f"{i:02d}.pth,{i},{0},{i % 3},{['train', 'test'][i % 2]},{30 + i / 8},n{i}" for i in range(12)]
    header = "path,source_index,copy,label,split,psnr,hp_note"
    (folder / "nets" / "labels.csv").write_text("\n".join([header, *rows]))
    layers = "".join(
        f"  - {{kind: linear, weight: fc{k}.weight, bias: fc{k}.bias, activation: tanh}}\n" for k in range(12)
    )
    (folder / "net.yaml").write_text(f"num_inputs: 4\nlayers:\n{layers}")
    convert(folder / "nets", folder / "x.zoo", reading=ReadOptions(architecture=folder / "net.yaml"))
    return open_zoo(folder / "x.zoo")


def assert_equal_zoos(found: Zoo, wanted: Zoo) -> None:
    assert found.nets.to_arrow(list(wanted.nets.columns)) == wanted.nets.to_arrow(list(wanted.nets.columns))
    assert list(found.nets.columns) == list(wanted.nets.columns)
    assert list(found.architectures) == list(wanted.architectures)
    assert found.info.sources == wanted.info.sources
    assert found.info.recipe == wanted.info.recipe
    assert found.info.kind == wanted.info.kind
    assert found.info.provenance["notes"] == wanted.info.provenance["notes"]
    assert found.info.assumptions == wanted.info.assumptions
    for place in range(len(wanted)):
        ours, theirs = found.state_dict(place), wanted.state_dict(place)
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("layout", ["safetensors", "torch", "nfn"])
def test_every_layout_converts_back_to_the_same_zoo(tmp_path: Path, layout: Layout) -> None:
    wanted = deep_mlps(tmp_path)
    export(wanted, tmp_path / "out", layout)
    assert reader_for(tmp_path / "out").NAME == "zoo-export"
    convert(tmp_path / "out", tmp_path / "y.zoo")
    assert verify(tmp_path / "y.zoo", "deep").passed
    assert_equal_zoos(open_zoo(tmp_path / "y.zoo"), wanted)


def test_an_exported_set_with_copies_converts_back(tmp_path: Path) -> None:
    root = tmp_path / "siren_mnist_wts"
    write_nfn(root, [(0, 3, 0), (1, 3, 0), (2, 3, 0), (0, 9, 60_000)])
    wanted = converted(root, tmp_path / "x.zoo")
    assert sorted(column(wanted, "copy").values()) == [0, 0, 1, 2]
    export(wanted, tmp_path / "out", "nfn")
    folders = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert folders == [
        "randinit_smaller_3s", "randinit_smaller_9s", "randinit_smaller_aug0_3s", "randinit_smaller_aug1_3s",
    ]  # fmt: skip
    assert_equal_zoos(converted(tmp_path / "out", tmp_path / "y.zoo"), wanted)


def test_a_selection_converts_back(tmp_path: Path) -> None:
    wanted = deep_mlps(tmp_path).select(split="test")
    export(wanted, tmp_path / "out")
    zoo = converted(tmp_path / "out", tmp_path / "y.zoo")
    assert column(zoo, "psnr") == column(wanted, "psnr")


def test_safetensors_keep_the_order_of_keys_and_metadata(tmp_path: Path) -> None:
    from zootool.untrusted.safe_load import load_checkpoint

    state = deep_mlps(tmp_path).state_dict(0)
    export(open_zoo(tmp_path / "x.zoo"), tmp_path / "out")
    loaded = load_checkpoint(tmp_path / "out" / "00.pth.safetensors")
    assert list(loaded.tensors) == list(state)
    # Sorted by name, fc10 comes before fc2: so the file alone, without the index, keeps its layers too.
    assert state_dict_of(tmp_path / "out" / "00.pth.safetensors").keys() == state.keys()
    for keys in ('["a"]', '["b", "b"]', "[[", "7", '["b", "a", "c"]', '["a", 5]'):
        save_file({"b": torch.ones(1), "a": torch.ones(1)}, tmp_path / "x.safetensors", {"zoo.keys": keys, "note": "n"})
        loaded = load_checkpoint(tmp_path / "x.safetensors")
        assert list(loaded.tensors) == ["a", "b"], keys
        assert loaded.metadata["note"] == "n"
    save_file({"b": torch.ones(1), "a": torch.ones(1)}, tmp_path / "x.safetensors", {"zoo.keys": '["b", "a"]'})
    assert list(load_checkpoint(tmp_path / "x.safetensors").tensors) == ["b", "a"]


def test_assumptions_stay_assumed_and_a_lost_index_is_noted(tmp_path: Path) -> None:
    save(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).state_dict(), tmp_path / "n" / "a.pt")
    wanted = converted(tmp_path / "n", tmp_path / "x.zoo")
    export(wanted, tmp_path / "out")
    zoo = converted(tmp_path / "out", tmp_path / "y.zoo")
    assert_equal_zoos(zoo, wanted)
    assert any("activations are taken for relu" in texts for texts in zoo.info.assumptions.values())
    index_path(tmp_path / "out").unlink()
    assert "doesn't lie beside them: columns and splits are lost" in notes_of(
        converted(tmp_path / "out", tmp_path / "z.zoo")
    )


def test_what_is_gone_or_came_along_is_named(tmp_path: Path) -> None:
    export(deep_mlps(tmp_path), tmp_path / "out")
    (tmp_path / "out" / "03.pth.safetensors").unlink()
    (tmp_path / "out" / "04.pth.safetensors").unlink()
    save({}, tmp_path / "out" / "mine.pth")
    with pytest.raises(MissingError, match="2 of 12 can't be read"):
        converted(tmp_path / "out", tmp_path / "y.zoo")
    zoo = converted(tmp_path / "out", tmp_path / "y.zoo", skip_bad=True, exclude=("05*",))
    assert len(zoo) == 9
    left = {left["file"]: left["reason"] for left in zoo.info.provenance["left_out"]}
    assert left["mine.pth"] == "isn't in the folder's index"
    assert left["05.pth.safetensors"] == "--exclude 05*"
    assert left["03.pth.safetensors"] == "isn't there, its index lists it"


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    export(deep_mlps(tmp_path), tmp_path / "out")
    save_file({"w": torch.ones(2)}, tmp_path / "out" / "03.pth.safetensors")
    with pytest.raises(BadDataError, match=r"03\.pth\.safetensors"):
        converted(tmp_path / "out", tmp_path / "y.zoo")


def test_indices_that_say_something_else_are_refused(tmp_path: Path) -> None:
    export(deep_mlps(tmp_path), tmp_path / "out")
    index = index_path(tmp_path / "out")
    table = pq.read_table(index)
    files = table["file"].to_pylist()

    def rewritten(**columns: list[str]) -> None:
        changed = table
        for name, values in columns.items():
            changed = changed.set_column(changed.schema.get_field_index(name), name, pa.array(values))
        pq.write_table(changed, index)

    rewritten(file=["../../etc/passwd", *files[1:]])
    with pytest.raises(UntrustedError, match="leads out of its folder"):
        converted(tmp_path / "out", tmp_path / "y.zoo")
    rewritten(architecture=["0" * 16] * 12)
    with pytest.raises(FormatError, match="lacks the architecture"):
        converted(tmp_path / "out", tmp_path / "y.zoo")
    pq.write_table(table.replace_schema_metadata({b"zoo.info": b"{}"}), index)
    with pytest.raises(FormatError, match="says nothing about its zoo"):
        converted(tmp_path / "out", tmp_path / "y.zoo")
    for key in (b"zoo.info", b"zoo.architectures"):
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, key: b"["}), index)
        with pytest.raises(FormatError, match="isn't readable JSON"):
            converted(tmp_path / "out", tmp_path / "y.zoo")
    key = b"zoo.architectures"
    relu = table.schema.metadata[key].replace(b"tanh", b"relu")
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, key: relu}), index)
    with pytest.raises(FormatError, match="an architecture under the signature of another"):
        converted(tmp_path / "out", tmp_path / "y.zoo")


def test_an_older_export_keeps_its_columns(tmp_path: Path) -> None:
    """Its index lies within the folder, and says nothing about architectures."""
    wanted = deep_mlps(tmp_path)
    export(wanted, tmp_path / "out", "torch")
    table = pq.read_table(index_path(tmp_path / "out")).replace_schema_metadata(None).drop_columns(["architecture"])
    index_path(tmp_path / "out").unlink()
    pq.write_table(table, tmp_path / "out" / "index.parquet")
    for name, reading in (("a", {}), ("b", {"labels": tmp_path / "out" / "index.parquet"})):
        zoo = converted(tmp_path / "out", tmp_path / f"{name}.zoo", **reading)
        for kept in ("split", "label", "psnr", "hp_note"):
            assert column(zoo, kept) == column(wanted, kept)


def test_a_table_whose_ids_are_none_gets_another_column(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        torch.manual_seed(0)
        save(nn.Linear(2, 1).state_dict(), tmp_path / "n" / name)
    (tmp_path / "n" / "labels.csv").write_text("path,net_id,split\na.pt,x,train\nb.pt,x,test\n")
    zoo = converted(tmp_path / "n", tmp_path / "x.zoo")
    assert column(zoo, "file_net_id") == {"a.pt": "x", "b.pt": "x"}


def test_an_index_in_the_way_is_refused(tmp_path: Path) -> None:
    wanted = deep_mlps(tmp_path)
    index_path(tmp_path / "out").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match=r"out\.index\.parquet exists"):
        export(wanted.take(np.arange(2)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
