import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import zootool
from tests.zootool.nets.modules import Cnn, Siren
from tests.zootool.store.small_stores import random_block, write_small_store
from zootool.errors import FormatError, UsageError
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture
from zootool.zoo import Zoo, open_zoo


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zoo") / "small.zoo"
    write_small_store(path)
    return path


@pytest.fixture
def zoo(path: Path) -> Zoo:
    return open_zoo(path)


def test_the_package_opens_zoos_lazily(path: Path) -> None:
    assert len(zootool.open_zoo(path)) == 30
    with pytest.raises(AttributeError, match="no attribute 'open_zo'"):
        zootool.open_zo  # noqa: B018


def test_columns_are_read_when_they_are_used(zoo: Zoo) -> None:
    assert "label" in zoo.nets
    assert zoo.store.nets._columns == {}
    assert zoo.nets["label"].tolist() == [*(i % 10 for i in range(20)), *range(10)]
    assert list(zoo.store.nets._columns) == ["label"]
    assert zoo.nets[["label", "psnr"]].shape == (30, 2)
    assert zoo.nets.shape[0] == len(zoo.nets) == 30
    assert zoo.nets.groupby("split").size().to_dict() == {"test": 7, "train": 23}
    assert "30 networks" in repr(zoo.nets)


def test_selections_filter_by_value_membership_and_absence(zoo: Zoo) -> None:
    assert len(zoo.select(split="test")) == 7
    assert zoo.select(split="test", label=[3, 5]).nets["label"].tolist() == [3, 5, 3]
    assert len(zoo.select(label=range(5))) == 15
    assert len(zoo.select(label=None)) == 0
    selected = zoo.select(split="test").select(label=3)
    assert selected.rows.tolist() == [3, 23]
    assert selected.nets["net_id"].tolist() == ["net-0-3", "net-1-3"]
    assert selected.id == zoo.id


def test_selections_count_within_themselves(zoo: Zoo) -> None:
    selected = zoo.select(split="test")
    graph = selected.graph(1)
    assert graph.rows.tolist() == [selected.rows[1]] == [7]
    assert torch.equal(graph.edges[0], zoo.graph(7).edges[0])
    assert torch.equal(selected.state_dict(-1)["net.2.bias"], zoo.state_dict(int(selected.rows[-1]))["net.2.bias"])
    with pytest.raises(UsageError, match="no network 7"):
        selected.graph(7)


def test_a_zoo_travels_to_other_processes(zoo: Zoo) -> None:
    zoo.graph(0)
    again = pickle.loads(pickle.dumps(zoo.select(split="test")))
    assert torch.equal(again.graph(0).edges[1], zoo.graph(3).edges[1])
    assert again.nets["label"].tolist() == zoo.select(split="test").nets["label"].tolist()


def test_modules_compute_what_the_source_computed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    siren, cnn = Siren(2, (8, 4), 1), Cnn(CnnConfig())
    for module, architecture, x in (
        (siren, siren_architecture(2, (8, 4), 1), torch.rand(5, 2)),
        (cnn, cnn_architecture(CnnConfig()), torch.rand(2, 1, 28, 28)),
    ):
        block = random_block(architecture, 3)
        for key, tensor in module.state_dict().items():
            block.tensors[key][1] = tensor.numpy()  # type: ignore[index]
        path = tmp_path / f"{architecture.family}.zoo"
        write_small_store(path, block)
        rebuilt = open_zoo(path).module(1)
        assert not rebuilt.training
        assert torch.equal(rebuilt(x), module(x))


def test_keys_that_no_module_can_have_are_refused(tmp_path: Path) -> None:
    architecture = siren_architecture(2, (3,), 1)
    for key in ("forward", "a..b", "net.0.linear.weight.deeper"):
        slots = (*architecture.slots[:-1], replace(architecture.slots[-1], key=key))
        changed = replace(architecture, slots=slots)
        path = tmp_path / f"{len(key)}.zoo"
        write_small_store(path, random_block(changed, 2))
        assert key in open_zoo(path).state_dict(0)
        with pytest.raises(FormatError, match="no module can have the state_dict key"):
            open_zoo(path).module(0)
