import hashlib

import numpy as np
import pytest
import torch

from tests.zootool.store.small_stores import random_tensors
from zootool.architecture import Architecture, ParameterSlot, Timestamp, check_slots
from zootool.errors import FormatError
from zootool.nets.siren import siren_architecture
from zootool.store.pack import are_finite, digests_of, narrow, pack, raw_dtype, unpack, widen

MIXED = Architecture(
    3,
    (Timestamp("linear", 4, 3), Timestamp("linear", 3, 4, has_bias=False), Timestamp("linear", 2, 3)),
    (
        ParameterSlot("a.weight", "edges", 0, (3, 4), "bfloat16", order=(1, 0), timestamp=1),
        ParameterSlot("a.bias", "nodes", 0, (4,), "float16", role="bias", timestamp=1),
        ParameterSlot("b.weight", "edges", 12, (3, 4), "float64", timestamp=2, rounded=True),
        ParameterSlot("b.weight", "exact", 0, (3, 4), "float64", timestamp=2),
        ParameterSlot("c.weight", "edges", 24, (2, 3), timestamp=3),
        ParameterSlot("c.bias", "nodes", 4, (2,), role="bias", timestamp=3),
        ParameterSlot("c.again", "edges", 24, (2, 3), timestamp=3, alias_of="c.weight"),
        ParameterSlot("norm.num_batches_tracked", "exact", 96, (), "int64", role="num_batches_tracked", timestamp=1),
        ParameterSlot("mask", "exact", 104, (5,), "bool", role="other"),
        ParameterSlot("position", "extras", 0, (2, 2), role="position"),
        ParameterSlot("empty", "extras", 4, (0, 7), role="other"),
    ),
)
"""A bit of everything: transposed, half, double, integer, boolean, tied and empty tensors, a layer without bias."""


def mixed_tensors(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    tensors = random_tensors(MIXED, count, seed)
    return tensors | {"c.again": tensors["c.weight"]}


def test_the_mixed_architecture_is_one() -> None:
    check_slots(MIXED)
    assert Architecture.from_dict(MIXED.to_dict()) == MIXED


def test_every_bit_comes_back() -> None:
    tensors = mixed_tensors(5)
    back = unpack(MIXED, pack(MIXED, tensors))
    assert list(back) == [slot.key for slot in MIXED.slots if not slot.rounded]
    for key, tensor in tensors.items():
        assert back[key].dtype == tensor.dtype, key
        assert back[key].shape == tensor.shape, key
        assert back[key].tobytes() == tensor.tobytes(), key


def test_the_graph_sees_rounded_numbers_of_doubles() -> None:
    tensors = mixed_tensors(2)
    edges = pack(MIXED, tensors)["edges"]
    np.testing.assert_array_equal(edges[:, 12:24], tensors["b.weight"].astype(np.float32).reshape(2, 12))


def test_edges_lie_by_target_then_source() -> None:
    tensors = mixed_tensors(2)
    edges = pack(MIXED, tensors)["edges"]
    wide = (tensors["a.weight"].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(edges[:, :12].reshape(2, 4, 3), wide.transpose(0, 2, 1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_half_number_widens_and_returns(dtype: str) -> None:
    values = np.arange(65536, dtype=np.uint16).view(raw_dtype(dtype))
    wide = widen(values, dtype)
    assert wide.dtype == np.float32
    assert narrow(wide, dtype).tobytes() == values.tobytes()


def test_widened_halves_are_the_same_numbers() -> None:
    values = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(widen(values, "float16")[finite], values[finite].astype(np.float64))


@pytest.mark.parametrize("kind", ["e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu"])
def test_eighth_floats_widen_as_torch_has_them(kind: str) -> None:
    bits = np.arange(256, dtype=np.uint8)
    wanted = torch.from_numpy(bits).view(getattr(torch, f"float8_{kind}")).to(torch.float32).numpy()
    np.testing.assert_array_equal(widen(bits, f"float8_{kind}"), wanted)


def test_digests_are_of_the_stored_bytes_in_the_documented_order() -> None:
    packed = pack(MIXED, mixed_tensors(3))
    for i, digest in enumerate(digests_of(packed)):
        joined = b"".join(packed[name][i].tobytes() for name in ("edges", "nodes", "extras", "exact"))
        assert digest.tobytes() == hashlib.sha256(joined).digest()


def test_tied_tensors_that_differ_are_refused() -> None:
    tensors = mixed_tensors(2)
    tensors["c.again"] = tensors["c.again"] + 1
    with pytest.raises(FormatError, match=r"'c.again' should be tied to 'c.weight'"):
        pack(MIXED, tensors)


def test_tensors_that_do_not_fit_are_named() -> None:
    architecture = siren_architecture(2, (4,), 1)
    tensors = random_tensors(architecture, 2)
    with pytest.raises(FormatError, match=r"'net.1.bias' is missing"):
        pack(architecture, {key: value for key, value in tensors.items() if key != "net.1.bias"})
    with pytest.raises(FormatError, match="isn't in the architecture"):
        pack(architecture, tensors | {"extra": tensors["net.1.bias"]})
    with pytest.raises(FormatError, match=r"is float32 \(4, 3\), the architecture says float32 \(4, 2\)"):
        pack(architecture, tensors | {"net.0.linear.weight": np.zeros((2, 4, 3), np.float32)})
    with pytest.raises(FormatError, match="float64"):
        pack(architecture, tensors | {"net.1.bias": np.zeros((2, 1))})
    with pytest.raises(FormatError, match=r"of \[2, 3\] networks"):
        pack(architecture, tensors | {"net.1.bias": np.zeros((3, 1), np.float32)})


def test_finite_looks_behind_sums_that_overflow() -> None:
    architecture = siren_architecture(2, (4,), 1)
    tensors = random_tensors(architecture, 4)
    tensors["net.0.linear.weight"][1] = np.finfo(np.float32).max
    tensors["net.1.bias"][2] = np.inf
    tensors["net.0.linear.bias"][3, 1] = np.nan
    assert are_finite(pack(architecture, tensors)).tolist() == [True, True, False, False]
