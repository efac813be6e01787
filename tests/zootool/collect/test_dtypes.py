"""Every dtype that a file can hold comes out of a store bit for bit, or is named where it can't go into one."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.zootool.collect.test_safe_load import NOT_IN_SAFETENSORS
from zootool import open_zoo
from zootool.architecture import DTYPE_BYTES
from zootool.conversion import convert
from zootool.errors import FormatError


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def values(dtype: str, *shape: int) -> Tensor:
    count = torch.Size(shape).numel() * DTYPE_BYTES[dtype]
    # No byte of these makes a NaN or an infinity of any float.
    raw = torch.arange(count, dtype=torch.int64).remainder(2 if dtype == "bool" else 48).to(torch.uint8)
    return raw.view(getattr(torch, dtype)).reshape(shape)


@pytest.mark.parametrize("dtype", [d for d in DTYPE_BYTES if not d.startswith("complex") and d != "bool"])
@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_weights_of_every_real_dtype_come_back(dtype: str, form: str, tmp_path: Path) -> None:
    state = {"0.weight": values(dtype, 3, 4), "0.bias": values(dtype, 3), "1.weight": values(dtype, 2, 3)}
    if form == "torch":
        torch.save(state, tmp_path / "a.pth")
    elif dtype in NOT_IN_SAFETENSORS:
        pytest.skip("not in safetensors")
    else:
        safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    convert(tmp_path, tmp_path / "x.zoo")
    zoo = open_zoo(tmp_path / "x.zoo")
    found = zoo.state_dict(0)
    assert {key: tensor.dtype for key, tensor in found.items()} == {key: tensor.dtype for key, tensor in state.items()}
    assert all(bits(found[key]) == bits(state[key]) for key in state)
    wanted = state["0.weight"].to(torch.float32).reshape(-1)
    assert torch.equal(zoo.graph(0).edges[0].reshape(-1), wanted)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_weights_are_refused_by_name(dtype: str, tmp_path: Path) -> None:
    torch.save({"0.weight": values(dtype, 3, 4), "0.bias": values(dtype, 3)}, tmp_path / "a.pth")
    with pytest.raises(FormatError, match=f"'0.weight' is {dtype}, and a graph's weights are real numbers"):
        convert(tmp_path, tmp_path / "x.zoo")


def test_a_dtype_that_no_store_knows_is_named(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(4, dtype=torch.float4_e2m1fn_x2)}, tmp_path / "a.pth")
    with pytest.raises(FormatError, match=r"dtype torch\.float4_e2m1fn_x2: known are float64"):
        convert(tmp_path, tmp_path / "x.zoo")
