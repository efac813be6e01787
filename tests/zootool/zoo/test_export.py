from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tests.zootool.store.small_stores import random_block, write_small_store
from tests.zootool.store.test_pack import MIXED, mixed_tensors
from zootool.errors import MissingError, UsageError
from zootool.nets.siren import siren_architecture
from zootool.store.blocks import Block
from zootool.zoo import open_zoo
from zootool.zoo.export import export


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


@pytest.mark.parametrize("layout", ["safetensors", "torch"])
def test_every_dtype_comes_back_bit_for_bit(tmp_path: Path, layout: str) -> None:
    tensors = mixed_tensors(3)
    table = random_block(siren_architecture(2, (3,), 1), 3).table
    write_small_store(tmp_path / "x.zoo", Block(MIXED, tensors, table))
    assert export(open_zoo(tmp_path / "x.zoo"), tmp_path / "out", layout) == 3  # type: ignore[arg-type]
    for i in range(3):
        path = tmp_path / "out" / f"net-0-{i}.{'safetensors' if layout == 'safetensors' else 'pth'}"
        state = load_file(path) if layout == "safetensors" else torch.load(path, weights_only=True)
        assert state.keys() == tensors.keys()
        for key, tensor in state.items():
            assert tuple(tensor.shape) == tensors[key].shape[1:]
            assert raw(tensor) == tensors[key][i].tobytes(), key
    if layout == "torch":
        assert list(state) == list(dict.fromkeys(slot.key for slot in MIXED.slots))
        assert state["c.again"].data_ptr() == state["c.weight"].data_ptr()


def test_the_nfn_layout_has_the_papers_folders(tmp_path: Path) -> None:
    write_small_store(tmp_path / "x.zoo")
    zoo = open_zoo(tmp_path / "x.zoo")
    with pytest.raises(UsageError, match="would become the same file"):
        export(zoo, tmp_path / "out", "nfn")
    export(zoo.take(np.arange(12)), tmp_path / "out", "nfn")
    state = torch.load(tmp_path / "out" / "randinit_smaller_1s" / "net11.pth", weights_only=True)
    assert torch.equal(state["net.0.linear.weight"], zoo.state_dict(11)["net.0.linear.weight"])
    index = pq.read_table(tmp_path / "out.index.parquet").to_pydict()
    assert index["file"][11] == "randinit_smaller_1s/net11.pth"
    assert "edge_offset" not in index


def test_ids_that_are_no_file_names_become_rows(tmp_path: Path) -> None:
    block = random_block(siren_architecture(2, (3,), 1), 2, prefix="../evil")
    write_small_store(tmp_path / "x.zoo", block)
    export(open_zoo(tmp_path / "x.zoo"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "00000000.safetensors", "00000001.safetensors",
    ]  # fmt: skip


def test_existing_folders_and_empty_selections_are_refused(tmp_path: Path) -> None:
    write_small_store(tmp_path / "x.zoo")
    zoo = open_zoo(tmp_path / "x.zoo")
    with pytest.raises(UsageError, match="exists"):
        export(zoo, tmp_path)
    with pytest.raises(MissingError, match="no network"):
        export(zoo.select(label=77), tmp_path / "out")
