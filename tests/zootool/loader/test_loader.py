import threading
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block, unchecked_block, write_small_store
from tests.zootool.store.unit_folders import write_unit_folder
from zootool.conversion.convert import convert
from zootool.errors import FormatError, IntegrityError, MissingError, UsageError
from zootool.images import load_images
from zootool.loader import GraphBatch, Loader, shuffle_quality
from zootool.loader.loader import ahead
from zootool.loader.weights import Mode
from zootool.nets.siren import siren_architecture
from zootool.store import WriteOptions
from zootool.zoo import Zoo, open_zoo

MODES: tuple[Mode, ...] = ("resident", "mapped", "streamed")
SIREN = siren_architecture(2, (8, 4), 1)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    path = tmp_path_factory.mktemp("loader") / "small.zoo"
    write_small_store(path, random_block(SIREN, 60, 0), random_block(SIREN, 41, 1))
    return open_zoo(path)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    path = tmp_path_factory.mktemp("loader") / "zstd.zoo"
    options = WriteOptions(zstd_level=1, chunk_bytes=800, shard_bytes=2400)
    write_small_store(path, random_block(SIREN, 60, 0), random_block(SIREN, 41, 1), options=options)
    return open_zoo(path)


def assert_equal(batch: GraphBatch, other: GraphBatch) -> None:
    assert torch.equal(batch.rows, other.rows)
    for mine, theirs in zip((*batch.edges, *batch.nodes), (*other.edges, *other.nodes), strict=True):
        assert torch.equal(mine, theirs)
    assert batch.targets.keys() == other.targets.keys()
    assert all(torch.equal(target, other.targets[name]) for name, target in batch.targets.items())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["zoo", "compressed"])
def test_batches_hold_the_networks_of_their_rows(request: pytest.FixtureRequest, name: str, mode: Mode) -> None:
    zoo: Zoo = request.getfixturevalue(name)
    selected = zoo.select(split="train")
    labels = zoo.nets["label"].to_numpy()
    seen = []
    for batch in selected.loader(16, shuffle=True, mode=mode, window=40):
        assert [tuple(e.shape[1:]) for e in batch.edges] == [(8, 2, 1), (4, 8, 1), (1, 4, 1)]
        assert [tuple(n.shape[1:]) for n in batch.nodes] == [(8, 1), (4, 1), (1, 1)]
        assert batch.node_names == (("bias",),) * 3
        assert batch.edge_masks == (None,) * 3
        assert batch.architecture == SIREN
        np.testing.assert_array_equal(batch.targets["label"].numpy(), labels[batch.rows.numpy()])
        for place, row in enumerate(batch.rows.tolist()):
            state = zoo.state_dict(row)
            assert torch.equal(batch.edges[1][place, :, :, 0], state["net.1.linear.weight"])
            assert torch.equal(batch.nodes[2][place, :, 0], state["net.2.bias"])
        seen += batch.rows.tolist()
    assert sorted(seen) == selected.rows.tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loader_goes_on_in_mid_epoch_from_a_small_state(zoo: Zoo, mode: Mode, prefetch: int) -> None:
    def make() -> Loader:
        return zoo.loader(8, shuffle=True, seed=5, mode=mode, window=24, prefetch=prefetch)

    whole = make()
    wanted = [batch for _ in range(3) for batch in whole]
    for stop in (0, 1, 5, 12, 13, 14, 25, 26):
        first, found = make(), []
        state = first.state_dict()
        while len(found) < stop:
            for batch in first:
                found.append(batch)
                state = first.state_dict()
                if len(found) == stop:
                    break
        again = make()
        again.load_state_dict(state)
        while len(found) < len(wanted):
            found += list(again)
        assert len(found) == len(wanted)
        for batch, other in zip(found, wanted, strict=True):
            assert_equal(batch, other)


def test_an_epoch_that_is_left_early_begins_again(zoo: Zoo) -> None:
    loader = zoo.loader(8, shuffle=True)
    first = next(iter(loader))
    batches = list(loader)
    assert_equal(first, batches[0])
    assert len(batches) == len(loader) == 13
    assert not torch.equal(next(iter(loader)).rows, first.rows)


def test_a_state_of_something_else_is_refused(zoo: Zoo) -> None:
    state = zoo.loader(8, shuffle=True).state_dict()
    for other in (
        zoo.loader(9, shuffle=True),
        zoo.loader(8, shuffle=True, seed=1),
        zoo.select(split="test").loader(8, shuffle=True),
    ):
        with pytest.raises(UsageError, match="the loader's state has"):
            other.load_state_dict(state)
    with pytest.raises(UsageError, match="batch 99"):
        zoo.loader(8, shuffle=True).load_state_dict(state | {"batch": 99})


@pytest.mark.parametrize("mode", MODES)
def test_ranks_are_disjoint_and_exhaustive(zoo: Zoo, mode: Mode) -> None:
    loaders = [zoo.loader(8, shuffle=True, rank=rank, world_size=3, mode=mode) for rank in range(3)]
    rows = [row for loader in loaders for batch in loader for row in batch.rows.tolist()]
    assert sorted(rows) == list(range(101))
    full = [list(zoo.loader(8, True, rank=r, world_size=3, drop_last=True, mode=mode)) for r in range(3)]
    assert [len(batches) for batches in full] == [4, 4, 4]


def test_targets_are_numeric_columns_without_gaps(zoo: Zoo, tmp_path: Path) -> None:
    batch = next(iter(zoo.loader(4, targets=["psnr", "source_index"])))
    assert batch.targets.keys() == {"psnr", "source_index"}
    assert batch.targets["psnr"].dtype == torch.float64
    with pytest.raises(UsageError, match="no column 'lable'"):
        zoo.loader(4, targets=["lable"])
    write_small_store(tmp_path / "gaps.zoo", unchecked_block(random_block(SIREN, 3), label=[1, None, 2]))
    with_gaps = open_zoo(tmp_path / "gaps.zoo")
    for targets in (None, ["label"], "label"):
        with pytest.raises(UsageError, match=r"1 of 3 networks have no value.*select\(where='label is not null'\)"):
            with_gaps.loader(3, targets=targets)
    assert next(iter(with_gaps.loader(3, targets=()))).targets == {}
    labelled = with_gaps.select(where="label is not null")
    assert next(iter(labelled.loader(2))).targets["label"].tolist() == [1, 2]


LABELS = {
    "texts": (["dog", "cat", "dog", "bird"], [2, 1, 2, 0], ("bird", "cat", "dog")),
    "categories": (pa.array(["b", "a", "b", "c"]).dictionary_encode(), [1, 0, 1, 2], ("a", "b", "c")),
    "flags": ([True, False, True, True], [1, 0, 1, 1], ()),
    "bytes of numbers": (pa.array([3, 1, 2, 3], pa.uint8()), [3, 1, 2, 3], ()),
    "decimals": (pa.array([Decimal("0.5"), 1, 2, 3], pa.decimal128(4, 1)), [0.5, 1, 2, 3], ()),
    "floats": ([0.5, 1.0, 2.0, 3.0], [0.5, 1, 2, 3], ()),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_every_kind_become_targets(tmp_path: Path, name: str) -> None:
    given, wanted, classes = LABELS[name]
    write_small_store(tmp_path / "x.zoo", unchecked_block(random_block(SIREN, 4), label=given))
    zoo = open_zoo(tmp_path / "x.zoo")
    labels = next(iter(zoo.loader(4))).targets["label"]
    assert labels.tolist() == wanted
    assert labels.dtype in (torch.int64, torch.float64)
    assert zoo.classes() == classes
    # Classes are those of the whole zoo, whatever is selected.
    assert next(iter(zoo.take([1, 3]).loader(2))).targets["label"].tolist() == wanted[1::2]
    assert zoo.as_torch_dataset()[1].targets["label"].tolist() == wanted[1:2]


@pytest.mark.parametrize("label", [
    [[1], [2], [3], [4]], [{"a": 1}] * 4, [date(2020, 1, 1)] * 4, [b"caf\xe9"] * 4, [None] * 4,
])  # fmt: skip
def test_labels_that_can_be_no_target_are_named(tmp_path: Path, label: list) -> None:
    write_small_store(tmp_path / "x.zoo", unchecked_block(random_block(SIREN, 4), label=label))
    zoo = open_zoo(tmp_path / "x.zoo")
    with pytest.raises(UsageError, match=r"the column 'label' holds .*targets=\(\)"):
        zoo.loader(4)
    assert next(iter(zoo.loader(4, targets=()))).targets == {}


@pytest.mark.parametrize(("given", "message"), [
    ({"batch_size": "8"}, "batch_size must be at least 1, a whole number"), ({"batch_size": 8.0}, "a whole number"),
    ({"batch_size": True}, "a whole number"), ({"shuffle": "no"}, "shuffle is true or false, got 'no'"),
    ({"drop_last": "false"}, "drop_last is true or false"), ({"images": "no"}, "images is true or false"),
    ({"seed": "1"}, "seed must be"), ({"rank": "0"}, "rank must be"), ({"window": 1.5}, "window must be"),
    ({"prefetch": "2"}, "prefetch must be"), ({"targets": True}, "targets are names of columns"),
    ({"targets": {"label": 1}}, "targets are names of columns"), ({"targets": [0]}, "targets are names of columns"),
    ({"weights": np.ones(3)}, "a column is named by a text"), ({"weights": ["label"]}, "a column is named by a text"),
])  # fmt: skip
def test_arguments_of_other_types_are_refused(zoo: Zoo, given: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        zoo.loader(**(dict[str, Any](batch_size=4) | given))


def test_one_target_needs_no_list(zoo: Zoo) -> None:
    assert next(iter(zoo.loader(4, targets="psnr"))).targets.keys() == {"psnr"}


def test_weights_choose_networks(zoo: Zoo) -> None:
    rows = torch.cat([batch.rows for batch in zoo.loader(16, weights="label")])
    labels = zoo.nets["label"].to_numpy()[rows.numpy()]
    assert len(rows) == 101
    assert labels.min() > 0
    assert labels.mean() > 5.5
    with pytest.raises(UsageError, match="numbers are needed"):
        zoo.loader(16, weights="split")


def test_images_of_the_local_set_come_with_their_networks(tmp_path: Path) -> None:
    images = load_images("digits")
    write_unit_folder(tmp_path / "units", units=(5, 4), digest=images.digest)
    convert(tmp_path / "units", tmp_path / "x.zoo", options=SMALL_CHUNKS)
    for batch in open_zoo(tmp_path / "x.zoo").loader(4, shuffle=True, images=True):
        assert batch.images is not None
        assert batch.images.dtype == torch.uint8
        np.testing.assert_array_equal(batch.images, images.pixels[batch.rows.numpy()])


def test_other_local_images_are_missing_not_wrong(tmp_path: Path, zoo: Zoo) -> None:
    write_unit_folder(tmp_path / "units", digest="f" * 64)
    convert(tmp_path / "units", tmp_path / "x.zoo")
    with pytest.raises(MissingError, match="the zoo was made from ffff"):
        open_zoo(tmp_path / "x.zoo").loader(4, images=True)
    with pytest.raises(FormatError, match="of image sets that zoo"):
        zoo.loader(4, images=True)


def test_images_that_the_set_lacks_are_named(tmp_path: Path) -> None:
    images = load_images("digits")
    write_unit_folder(tmp_path / "units", units=(1798,), hidden=(2,), digest=images.digest)
    convert(tmp_path / "units", tmp_path / "x.zoo")
    with pytest.raises(IntegrityError, match="image 1797"):
        open_zoo(tmp_path / "x.zoo").loader(4, images=True)


def test_unknown_modes_are_refused(zoo: Zoo) -> None:
    with pytest.raises(UsageError, match="mode must be"):
        zoo.loader(4, mode="telepathy")  # type: ignore[arg-type]


def test_errors_of_a_prefetching_loader_reach_the_caller(tmp_path: Path) -> None:
    write_small_store(tmp_path / "x.zoo")
    path = tmp_path / "x.zoo" / "edges" / "c" / "1"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    for mode in MODES:
        with pytest.raises(IntegrityError, match="edges/c/1"):
            list(open_zoo(tmp_path / "x.zoo").loader(4, mode=mode, prefetch=3))


def test_who_reads_ahead_ends_with_its_consumer() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    assert list(ahead(items(), 3)) == list(range(100))
    made.clear()
    left_early = ahead(items(), 2)
    assert [next(left_early), next(left_early)] == [0, 1]
    left_early.close()
    assert len(made) <= 4
    assert not any(thread.name.startswith("zoo-loader") for thread in threading.enumerate())


def test_shuffle_quality_tells_windows_from_a_full_shuffle(zoo: Zoo) -> None:
    full = shuffle_quality(zoo.loader(8, shuffle=True))
    windowed = shuffle_quality(zoo.loader(8, shuffle=True, mode="streamed", window=16))
    ordered = shuffle_quality(zoo.loader(8))
    assert abs(full.neighbour_correlation) < 0.3
    assert ordered.neighbour_correlation > 0.99
    assert ordered.median_places_apart < windowed.median_places_apart < 1.3 * full.median_places_apart
    assert full.median_runs_per_batch == 8


def test_batches_map_and_move(zoo: Zoo) -> None:
    batch = next(iter(zoo.loader(4)))
    moved = batch.to("cpu")
    assert_equal(batch, moved)
    doubled = batch.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    assert {tensor.dtype for tensor in (*doubled.edges, *doubled.nodes)} == {torch.float64}
    assert len(batch) == 4
