import math
from typing import Any

import pytest
import torch

from tests.zootool.collect.test_safe_load import saved
from zootool.collect.safe_load import load_checkpoint
from zootool.collect.state_dicts import StateDict, find_state_dict, read_tensors
from zootool.errors import FormatError, NumericalError

STATE = {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)}


def found(value: Any, **options: Any) -> StateDict:
    return find_state_dict(load_checkpoint(saved(value)).value, **options)


def prefixed(prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, value in STATE.items()}


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "params"])
def test_wrappers_are_taken_off_and_told(wrapper: str) -> None:
    state = found({wrapper: STATE, "epoch": 3, "optimizer": {"state": {0: {"momentum": torch.ones(1)}}}})
    assert list(state.tensors) == list(STATE)
    assert state.stripped == (wrapper,)
    assert state.others == {}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model."])
def test_prefixes_are_taken_off_and_told(prefix: str) -> None:
    state = found({"model": {"state_dict": prefixed(prefix)}})
    assert list(state.tensors) == list(STATE)
    assert state.stripped == ("model", "state_dict", *(f"{part}." for part in prefix.split(".")[:-1]))


def test_a_prefix_that_some_keys_lack_stays() -> None:
    state = found(prefixed("model.") | {"head.weight": torch.ones(1)})
    assert list(state.tensors) == ["model.0.weight", "model.0.bias", "head.weight"]
    assert state.stripped == ()


def test_plain_values_among_the_tensors_are_kept_apart() -> None:
    state = found(prefixed("module.") | {"label": 7})
    assert list(state.tensors) == list(STATE)
    assert state.others == {"label": 7}


def test_tied_tensors_are_told_by_their_keys() -> None:
    weight = torch.ones(3)
    assert found({"model": {"a": weight, "b": weight, "c": weight[1:]}}).aliases == {"b": "a"}


def test_two_state_dicts_need_a_name() -> None:
    value = {"model": STATE, "state_dict": prefixed("x."), "ema": prefixed("y.")}
    with pytest.raises(FormatError, match=r"2 state_dicts \(state_dict, model\).*name the one"):
        found(value)
    assert list(found(value, wrapper="model").tensors) == list(STATE)
    assert list(found(value, wrapper="ema").tensors) == ["y.0.weight", "y.0.bias"]


@pytest.mark.parametrize(
    "value", [{}, {"epoch": 3}, {"net": STATE}, [torch.ones(1)], torch.ones(1), {0: torch.ones(1)}]
)
def test_what_holds_no_state_dict_is_refused(value: Any) -> None:
    with pytest.raises(FormatError, match="holds"):
        found(value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_or_noted(dtype: torch.dtype, bad: float) -> None:
    state = found({"fine": torch.tensor([1e4, -1e-4], dtype=dtype), "bad": torch.tensor([1.0, bad], dtype=dtype)})
    with pytest.raises(NumericalError, match="bad"):
        read_tensors(state.tensors)
    assert read_tensors(state.tensors, allow_non_finite=True).non_finite == ("bad",)


def test_the_largest_finite_values_are_fine() -> None:
    state = {str(dtype): torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).min], dtype=dtype)
             for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}  # fmt: skip
    checked = read_tensors(found(state | {"n": torch.tensor([2**62]), "b": torch.tensor([True])}).tensors)
    assert checked.non_finite == ()
    assert len(checked.arrays) == 6
