from typing import Any

import pytest
import torch

from tests.zootool.untrusted.test_safe_load import saved
from zootool.errors import FormatError
from zootool.untrusted.file_stack import found_in
from zootool.untrusted.safe_load import load_checkpoint
from zootool.untrusted.state_dicts import StateDict, find_state_dict

STATE = {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)}


def found(value: Any, **options: Any) -> StateDict:
    return find_state_dict(load_checkpoint(saved(value)).value, **options)


def prefixed(prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, value in STATE.items()}


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "params"])
def test_wrappers_are_taken_off_and_told(wrapper: str) -> None:
    state = found({wrapper: STATE, "epoch": 3, "optimizer": {"state": {0: {"momentum": torch.ones(1)}}}})
    assert list(state.tensors) == list(STATE)
    assert state.place == wrapper
    assert state.others == {}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model."])
def test_prefixes_are_taken_off_and_told(prefix: str) -> None:
    state = found({"model": {"state_dict": prefixed(prefix)}})
    assert list(state.tensors) == list(STATE)
    assert state.place == "model.state_dict"


def test_a_prefix_that_some_keys_lack_stays() -> None:
    state = found(prefixed("model.") | {"head.weight": torch.ones(1)})
    assert list(state.tensors) == ["model.0.weight", "model.0.bias", "head.weight"]
    assert state.place == ""


def test_plain_values_among_the_tensors_are_kept_apart() -> None:
    state = found(prefixed("module.") | {"label": 7})
    assert list(state.tensors) == list(STATE)
    assert state.others == {"label": 7}


def test_two_state_dicts_need_a_name() -> None:
    value = {"model": STATE, "state_dict": prefixed("x."), "ema": prefixed("y.")}
    with pytest.raises(FormatError, match=r"2 state_dicts \(model, state_dict\).*--weights model"):
        found(value)
    assert list(found(value, weights="model").tensors) == list(STATE)
    assert list(found(value, weights="ema").tensors) == ["y.0.weight", "y.0.bias"]


OPTIMIZER = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2, 3)}}, "param_groups": [{"lr": 0.1}]}
NAMED_OPTIMIZER = {"state": {"0.weight": {"exp_avg": torch.ones(2, 3)}}}


@pytest.mark.parametrize("key", ["net", "network", "weights", "ema", "model_ema", "model_state", "state", "generator"])
def test_one_state_dict_is_found_under_any_key(key: str) -> None:
    beside = {
        "best_acc1": torch.tensor(71.5), "rng_state": torch.zeros(16, dtype=torch.uint8), "loss": torch.ones(5),
        "history": {"train_loss": torch.ones(9)}, "optimizer": OPTIMIZER, "optim_state": NAMED_OPTIMIZER,
        "optimizer_states": [OPTIMIZER], "lr_schedulers": {"last_epoch": 3}, "rng": {"cpu": torch.zeros(2)},
    }  # fmt: skip
    state = found({**beside, key: STATE})
    assert list(state.tensors) == list(STATE)
    assert state.place == key
    assert found({key: {"w": torch.ones(2), "b": torch.ones(2)}, "loss": torch.tensor(1.0)}).place == key


def test_a_copy_is_passed_over_for_what_it_is_of_and_told() -> None:
    for key in ("ema", "model_ema", "ema_state_dict", "swa_model", "teacher"):
        state = found({key: prefixed("y."), "net": STATE})
        assert list(state.tensors) == list(STATE)
        assert state.passed_over == (key,)
        assert f"weights are those of net; passed over: {key} (--weights KEY" in str(state.choice)
    assert found({"net": STATE}).choice is None


def test_networks_of_equal_rank_are_refused_by_their_names() -> None:
    value = {"generator": {"state_dict": STATE}, "discriminator": {"state_dict": prefixed("d.")}, "epoch": 1}
    with pytest.raises(FormatError, match=r"2 state_dicts \(generator.state_dict, discriminator.state_dict\)"):
        found(value)
    for key in ("discriminator", "discriminator.state_dict"):
        assert list(found(value, weights=key).tensors) == ["d.0.weight", "d.0.bias"]
    with pytest.raises(FormatError, match=r"2 state_dicts \(\., model\)"):
        found(STATE | {"model": prefixed("x.")})
    assert list(found(STATE | {"model": prefixed("x.")}, weights=".").tensors) == list(STATE)
    with pytest.raises(FormatError, match=r"2 state_dicts"):
        found({"w": torch.ones(2), "cache": {"x": torch.ones(2)}})
    with pytest.raises(FormatError, match=r"2 state_dicts \(models.0, models.1\)"):
        found({"models": [STATE, STATE]})
    assert list(found({"models": [STATE, prefixed("x.")]}, weights="models.1").tensors) == ["x.0.weight", "x.0.bias"]
    assert list(found({"a.b": {"c": STATE}}, weights="a.b.c").tensors) == list(STATE)


def test_a_part_of_a_state_dict_is_chosen_by_what_its_keys_begin_with() -> None:
    state = prefixed("a.actor.") | prefixed("a.critic.") | {"n_averaged": torch.tensor(3)}
    for value, key in (
        (state, "a.actor"),
        ({"model": state, "ema": state}, "a.actor"),
        ({"net": state}, "net.a.actor"),
    ):
        part = found(value, weights=key)
        assert list(part.tensors) == list(STATE)
        assert "passed over: all other tensors" in str(part.choice)
    assert found({"net": state}, weights="net.a.actor").place == "net.a.actor"
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    assert list(found(wrapped, weights="a.critic").tensors) == list(STATE)
    assert len(found(wrapped, weights="module").tensors) == len(state)
    with pytest.raises(FormatError, match=r"nothing under 'a\.act'"):
        found(state, weights="a.act")
    with pytest.raises(FormatError, match=r"2 state_dicts \(x.a, y.a\)"):
        found({"x": state, "y": state}, weights="a")


def test_a_key_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(FormatError, match=r"nothing under 'emma': net, ema.*--weights"):
        found({"net": STATE, "ema": STATE}, weights="emma")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (OPTIMIZER, "an optimizer's state"),
        ({"optimizer": OPTIMIZER, "epoch": 3}, "an optimizer's state"),
        ({"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}, "an optimizer's state"),
        ({"last_epoch": 3, "_step_count": 4, "base_lrs": [0.1]}, "a scheduler's state"),
        ({"last_epoch": 3, "best": 0.1, "_last_lr": [0.1]}, "a scheduler's state"),
        ({"scale": 65536.0, "growth_factor": 2.0, "growth_interval": 2000}, "a gradient scaler's state"),
        ({"python": (3, (1, 2), None), "numpy": ("MT19937", 3)}, "a random generator's state"),
        (torch.zeros(5056, dtype=torch.uint8), "a random generator's state"),
        ({"cpu": torch.zeros(16, dtype=torch.uint8), "python": (3, 4)}, "a random generator's state"),
    ],
)
def test_training_state_is_no_network(value: Any, what: str) -> None:
    with pytest.raises(FormatError, match=f"holds {what}.*no network"):
        found(value)
    if isinstance(value, dict) and "optimizer" in value:
        with pytest.raises(FormatError, match="an optimizer's state"):
            found(value, weights="optimizer")


def test_an_empty_dict_is_called_that() -> None:
    with pytest.raises(FormatError, match="holds an empty dict, no network"):
        found({})


@pytest.mark.parametrize("value", [{"epoch": 3}, [torch.ones(1)], torch.ones(1), {0: torch.ones(1)}])
def test_what_holds_no_state_dict_is_refused(value: Any) -> None:
    with pytest.raises(FormatError, match="holds"):
        found(value)


def test_whole_modules_are_refused_with_the_line_to_type() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    for value, place in ((module, ""), ({"model": module, "epoch": 1}, r"\['model'\]")):
        loaded = load_checkpoint(saved(value))
        line = rf"weights_only=False\){place}\.state_dict\(\), 'weights.pth'\)"
        with pytest.raises(
            FormatError, match=rf"whole module of the class torch.nn.modules.container.Sequential.*{line}"
        ):
            found_in(loaded)
