"""Every dtype that a file can hold comes out of a store bit for bit, or is named where it can't go into one."""

import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.zootool.untrusted.test_safe_load import NOT_IN_SAFETENSORS
from zootool import open_zoo
from zootool.architecture import DTYPE_BYTES
from zootool.conversion.convert import convert
from zootool.errors import FormatError, NumericalError
from zootool.formats.options import ReadOptions
from zootool.store.layout import WriteOptions


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def values(dtype: str, *shape: int) -> Tensor:
    count = torch.Size(shape).numel() * DTYPE_BYTES[dtype]
    # No byte of these makes a NaN or an infinity of any float.
    raw = torch.arange(count, dtype=torch.int64).remainder(2 if dtype == "bool" else 48).to(torch.uint8)
    return raw.view(getattr(torch, dtype)).reshape(shape)


FLOATS = [dtype for dtype in DTYPE_BYTES if "float" in dtype]
OTHERS = [dtype for dtype in DTYPE_BYTES if "float" not in dtype]


def saved(state: dict[str, Tensor], dtype: str, form: str, folder: Path) -> None:
    if form == "torch":
        torch.save(state, folder / "a.pth")
    elif dtype in NOT_IN_SAFETENSORS:
        pytest.skip("not in safetensors")
    else:
        safetensors.torch.save_file(state, folder / "a.safetensors")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_weights_of_every_float_dtype_come_back(dtype: str, form: str, tmp_path: Path) -> None:
    state = {"0.weight": values(dtype, 3, 4), "0.bias": values(dtype, 3), "1.weight": values(dtype, 2, 3)}
    saved(state, dtype, form, tmp_path)
    convert(tmp_path, tmp_path / "x.zoo")
    zoo = open_zoo(tmp_path / "x.zoo")
    found = zoo.state_dict(0)
    assert {key: tensor.dtype for key, tensor in found.items()} == {key: tensor.dtype for key, tensor in state.items()}
    assert all(bits(found[key]) == bits(state[key]) for key in state)
    wanted = state["0.weight"].to(torch.float32).reshape(-1)
    assert torch.equal(zoo.graph(0).edges[0].reshape(-1), wanted)


@pytest.mark.parametrize("dtype", OTHERS)
@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_tensors_of_every_other_dtype_are_kept_beside_weights(dtype: str, form: str, tmp_path: Path) -> None:
    state = {"0.weight": values("float32", 3, 4), "table": values(dtype, 5, 2)}
    saved(state, dtype, form, tmp_path)
    declaration = "num_inputs: 4\nlayers: [{kind: linear, weight: 0.weight}]\nother: [table]\n"
    (tmp_path / "net.yaml").write_text(declaration, encoding="utf-8")
    convert(tmp_path, tmp_path / "x.zoo", reading=ReadOptions(architecture=tmp_path / "net.yaml"))
    found = open_zoo(tmp_path / "x.zoo").state_dict(0)["table"]
    assert found.dtype == state["table"].dtype
    assert bits(found) == bits(state["table"])


@pytest.mark.parametrize("dtype", ["int8", "uint16", "complex64"])
def test_weights_that_are_no_floats_are_named(dtype: str, tmp_path: Path) -> None:
    torch.save({"0.weight": values(dtype, 3, 4)}, tmp_path / "a.pth")
    with pytest.raises(FormatError, match=rf"'0.weight' is {dtype} \(3, 4\), wanted are floats"):
        convert(tmp_path, tmp_path / "x.zoo")
    (tmp_path / "net.yaml").write_text("num_inputs: 4\nlayers: [{kind: linear, weight: 0.weight}]\n", encoding="utf-8")
    with pytest.raises(FormatError, match=f"'0.weight' is {dtype}"):
        convert(tmp_path, tmp_path / "x.zoo", reading=ReadOptions(architecture=tmp_path / "net.yaml"))


def test_a_dtype_that_no_store_knows_is_named(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(4, dtype=torch.float4_e2m1fn_x2)}, tmp_path / "a.pth")
    with pytest.raises(FormatError, match=r"dtype torch\.float4_e2m1fn_x2: known are float64"):
        convert(tmp_path, tmp_path / "x.zoo")


IEEE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", IEEE)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_or_noted(dtype: torch.dtype, bad: float, tmp_path: Path) -> None:
    state = {"0.weight": torch.tensor([[1e4, -1e-4]], dtype=dtype), "0.bias": torch.tensor([bad], dtype=dtype)}
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(NumericalError, match="NaN or infinite parameters, the first is bad"):
        convert(tmp_path / "bad.pth", tmp_path / "x.zoo")
    convert(tmp_path / "bad.pth", tmp_path / "x.zoo", options=WriteOptions(nonfinite="keep"))
    assert open_zoo(tmp_path / "x.zoo").nets["is_finite"].tolist() == [False]


@pytest.mark.parametrize("dtype", IEEE)
def test_the_largest_finite_values_are_fine(dtype: torch.dtype, tmp_path: Path) -> None:
    # A store holds float32, beyond which float64 counts as infinite.
    most = torch.finfo(torch.float32 if dtype == torch.float64 else dtype).max
    extremes = (most, -most)
    torch.save({"0.weight": torch.tensor([extremes], dtype=dtype)}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "x.zoo")
    assert tuple(open_zoo(tmp_path / "x.zoo").state_dict(0)["0.weight"].tolist()[0]) == extremes
