"""Whatever architectures and numbers go into a store come out of it, bit for bit, however it is cut."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.zootool.store.architectures import architectures
from zootool.architecture import Architecture, check_slots
from zootool.nets.lay_out import entries_of, lay_out
from zootool.nets.network import Network
from zootool.store import WriteOptions, write_store
from zootool.store.blocks import Block, MemorySource, SourceInfo
from zootool.store.pack import raw_dtype
from zootool.zoo import Zoo, open_zoo, verify


def any_bits(architecture: Architecture, count: int, seed: int) -> dict[str, np.ndarray]:
    """Tensors of random bytes: NaNs with payloads, infinities and denormals among them. Booleans are 0 and 1."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for slot in sorted(architecture.slots, key=lambda slot: slot.alias_of is not None):
        dtype = raw_dtype(slot.dtype)
        if slot.alias_of is not None:
            tensors[slot.key] = tensors[slot.alias_of]
        elif slot.dtype == "bool":
            tensors[slot.key] = rng.integers(0, 2, (count, *slot.shape)).astype(bool)
        else:
            size = count * int(np.prod(slot.shape, dtype=np.int64)) * dtype.itemsize
            tensors[slot.key] = np.frombuffer(rng.bytes(size), dtype).reshape(count, *slot.shape)
    return tensors


def block_of(architecture: Architecture, count: int, seed: int, name: str) -> Block:
    table = pa.table({"net_id": [f"{name}-{i}" for i in range(count)], "label": np.arange(count)})
    return Block(architecture, any_bits(architecture, count, seed), table)


OPTIONS = st.builds(
    WriteOptions,
    workers=st.integers(1, 3),
    zstd_level=st.none() | st.just(1),
    nonfinite=st.just("keep"),
    chunk_bytes=st.integers(8, 600),
    shard_bytes=st.integers(8, 2000),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(architectures(), st.integers(1, 9)), min_size=1, max_size=4), OPTIONS, st.integers(0, 2**32))
def test_every_network_comes_back(kinds: list[tuple[Architecture, int]], options: WriteOptions, seed: int) -> None:
    blocks = [block_of(architecture, count, seed + i, f"b{i}") for i, (architecture, count) in enumerate(kinds)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.zoo"
        write_store(path, MemorySource(SourceInfo("drawn"), blocks), options)
        assert verify(path, "deep").passed
        zoo = open_zoo(path)
        place = {net_id: i for i, net_id in enumerate(zoo.nets["net_id"])}
        assert len(place) == len(zoo) == sum(count for _, count in kinds)
        for block in blocks:
            check_block(zoo, block, place)
        check_arrays(path, zoo)


def check_block(zoo: Zoo, block: Block, place: dict[str, int]) -> None:
    for i, net_id in enumerate(block.table["net_id"].to_pylist()):
        architecture, tensors = zoo.tensors(place[net_id])
        assert architecture == block.architecture
        for key, tensor in block.tensors.items():
            assert tensors[key][0].tobytes() == tensor[i].tobytes(), key
            assert tensors[key].shape[1:] == tensor.shape[1:]


def check_arrays(path: Path, zoo: Zoo) -> None:
    """Zarr sees the same numbers as our own reader."""
    for name, array in zoo.store.arrays.items():
        plain = np.asarray(zarr.open_array(path / name, mode="r")[:])
        assert plain.tobytes() == array.read(0, len(array)).tobytes()


@given(architectures())
def test_architectures_survive_json(architecture: Architecture) -> None:
    again = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
    assert again == architecture
    assert again.signature == architecture.signature
    check_slots(again)
    rest = {"family": architecture.family}
    assert lay_out(architecture.num_inputs, architecture.timestamps, entries_of(architecture), **rest) == architecture


@given(architectures())
def test_rebuilt_networks_have_the_stored_keys_and_shapes(architecture: Architecture) -> None:
    state = Network(architecture, allow_unused=True).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == {s.key: s.shape for s in architecture.slots}
