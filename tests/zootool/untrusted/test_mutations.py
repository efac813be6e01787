"""Valid files with random harm: what comes back is right, or a ZooError says what is wrong. Nothing else, ever."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.zootool.untrusted.test_safe_load import saved
from zootool.errors import ZooError
from zootool.untrusted.safe_load import load_checkpoint
from zootool.untrusted.state_dicts import find_state_dict

pytestmark = pytest.mark.slow

STATE = {
    "module.0.weight": torch.arange(6.0).reshape(2, 3),
    "module.0.bias": torch.arange(2.0),
    "module.1.weight": torch.arange(6.0).reshape(3, 2).T,
    "module.n": torch.tensor(3),
}
CHECKPOINT = {"state_dict": STATE, "epoch": 3, "config": {"lr": 0.1, "sizes": [1, (2, None)]}}

FILES: dict[str, bytes] = {
    "zip": saved(CHECKPOINT),
    "legacy": saved(CHECKPOINT, _use_new_zipfile_serialization=False),
    "zip, protocol 4": saved(CHECKPOINT, pickle_protocol=4),
    "safetensors": safetensors.torch.save({key: value.contiguous() for key, value in STATE.items()}),
}

Mutation = tuple[str, int, bytes]


def mutations(size: int) -> st.SearchStrategy[list[Mutation]]:
    kinds = st.sampled_from(["set", "insert", "remove", "repeat", "cut", "swap"])
    content = st.one_of(
        st.binary(min_size=1, max_size=8),
        st.sampled_from(
            [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x80", b".", b"R", b"Q", b"cos\nsystem\n", b"PK\1\2", b"PK\5\6"]
        ),
    )
    return st.lists(st.tuples(kinds, st.integers(0, size - 1), content), min_size=1, max_size=4)


def mutate(content: bytes, changes: list[Mutation]) -> bytes:
    for kind, place, new in changes:
        before, after = content[:place], content[place:]
        content = {
            "set": before + new + after[len(new) :],
            "insert": before + new + after,
            "remove": before + after[len(new) :],
            "repeat": before + after[:64] + after,
            "cut": before,
            "swap": after + before,
        }[kind]
    return content


def bits(value: Any) -> Any:
    """What a checkpoint holds, comparable: arrays as their bytes."""
    tensors = find_state_dict(value).tensors
    read = {key: tensor.read() for key, tensor in tensors.items()}
    return {key: (tensors[key].dtype, array.shape, array.tobytes()) for key, array in read.items()}


@pytest.mark.parametrize("form", FILES)
def test_a_mutated_file_is_right_or_refused(form: str) -> None:
    original = FILES[form]

    @settings(max_examples=5_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutations(len(original)))
    def check(changes: list[Mutation]) -> None:
        mutated = mutate(original, changes)
        try:
            found = bits(load_checkpoint(mutated).value)
        except ZooError as error:
            assert_shown(error)
            return
        assert_right(mutated, found)

    check()


def assert_shown(error: ZooError) -> None:
    assert str(error).replace("\n", " ").isprintable()


def assert_right(content: bytes, found: dict[str, Any]) -> None:
    """Where the file's own format accepts the change, what we read has to be what its reference reader reads."""
    try:
        wanted = reference(content)
    # Torch refuses some that we read: a name or an attribute that it can't make use of. Ours then stands by itself.
    except Exception:
        return
    for key, (dtype, shape, raw) in found.items():
        tensor = next(value for name, value in wanted.items() if name.endswith(key))
        assert str(tensor.dtype) == f"torch.{dtype}"
        assert tuple(tensor.shape) == shape
        assert np.array_equal(raw_bytes(tensor), np.frombuffer(raw, np.uint8))


def reference(content: bytes) -> dict[str, torch.Tensor]:
    if content[8:9] == b"{":
        return safetensors.torch.load(content)
    value = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    return next(item for item in value.values() if isinstance(item, dict) and "module.0.bias" in item)


def raw_bytes(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


@pytest.mark.parametrize("form", FILES)
def test_every_byte_set_and_every_length(form: str) -> None:
    """Each byte in turn set to values that mean something, and the file cut off behind each."""
    original = FILES[form]
    changes: list[Callable[[int], bytes]] = [
        lambda i: original[:i] + b"\xff" + original[i + 1 :],
        lambda i: original[:i] + b"\0" + original[i + 1 :],
        lambda i: original[:i] + bytes([original[i] ^ 1]) + original[i + 1 :],
        lambda i: original[:i],
    ]
    for i in range(len(original)):
        for change in changes:
            try:
                bits(load_checkpoint(change(i)).value)
            except ZooError as error:
                assert_shown(error)
