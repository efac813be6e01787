from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from tests.zootool.store.small_stores import random_block, write_small_store
from zootool.nets.siren import siren_architecture
from zootool.zoo import open_zoo


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_data_loaders_fetch_whole_batches_also_in_spawned_workers(tmp_path: Path, num_workers: int) -> None:
    write_small_store(tmp_path / "x.zoo")
    zoo = open_zoo(tmp_path / "x.zoo")
    zoo.graph(0)
    dataset = zoo.select(split="train").as_torch_dataset()
    context = "spawn" if num_workers else None
    collate: Any = dataset.collate
    loader = DataLoader(
        dataset, 8, shuffle=True, collate_fn=collate, num_workers=num_workers, multiprocessing_context=context
    )
    rows = []
    for batch in loader:
        assert torch.equal(batch.targets["label"], torch.tensor(zoo.nets["label"].to_numpy()[batch.rows].copy()))
        assert torch.equal(batch.edges[0][0], zoo.graph(int(batch.rows[0])).edges[0][0])
        rows += batch.rows.tolist()
    assert sorted(rows) == zoo.select(split="train").rows.tolist()


def test_single_networks_are_batches_of_one(tmp_path: Path) -> None:
    write_small_store(tmp_path / "x.zoo")
    dataset = open_zoo(tmp_path / "x.zoo").as_torch_dataset(targets=["psnr"])
    assert len(dataset) == 30
    assert dataset[7].rows.tolist() == [7]
    assert dataset[7].targets.keys() == {"psnr"}


def test_networks_of_different_node_counts_share_no_batch(tmp_path: Path) -> None:
    blocks = [random_block(siren_architecture(2, (n,), 1), 2, n) for n in (3, 4)]
    write_small_store(tmp_path / "x.zoo", *blocks)
    with pytest.raises(ValueError, match="can't share a batch"):
        open_zoo(tmp_path / "x.zoo").as_torch_dataset().__getitems__([0, 2])
