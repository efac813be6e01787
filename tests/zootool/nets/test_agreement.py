from pathlib import Path

import pytest
import torch
from torch import nn

from zootool.errors import FormatError, UsageError
from zootool.nets.agreement import check_agreement, load_object
from zootool.nets.infer import infer_architecture


def shapes_of(module: nn.Module) -> dict[str, tuple[tuple[int, ...], str]]:
    return {
        key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in module.state_dict().items()
    }


def mlp(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), activation, nn.Linear(8, 2))


def cnn(padding: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=padding), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    )


def check(module: nn.Module, factory) -> None:
    check_agreement(infer_architecture(shapes_of(module)).architecture, module.state_dict(), factory, "net:build")


def test_what_was_assumed_rightly_agrees() -> None:
    check(mlp(nn.ReLU()), lambda: mlp(nn.ReLU()))
    check(cnn(0), lambda: cnn(0))
    # Modules are made in training mode; their dropout is none of what a network computes.
    dropping = nn.Sequential(nn.ReLU(), nn.Dropout(0.9))
    check(mlp(dropping), lambda: mlp(dropping))


def test_another_activation_is_told_by_its_outputs() -> None:
    with pytest.raises(FormatError, match="outputs differ from those of net:build by"):
        check(mlp(nn.Tanh()), lambda: mlp(nn.Tanh()))


def test_nearly_the_same_activation_is_told_too() -> None:
    with pytest.raises(FormatError, match="outputs differ"):
        check(mlp(nn.ReLU()), lambda: mlp(nn.LeakyReLU(1e-4)))


def test_another_padding_fits_no_input_of_both() -> None:
    with pytest.raises((FormatError, UsageError), match="net:build"):
        check(cnn(1), lambda: cnn(1))


def test_a_factory_may_take_the_state_dict() -> None:
    def build(state_dict) -> nn.Module:
        hidden, inputs = state_dict["0.weight"].shape
        return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, len(state_dict["2.bias"])))

    check(mlp(nn.ReLU()), build)


def test_outputs_that_do_not_depend_on_inputs_are_no_check() -> None:
    module = mlp(nn.ReLU())
    nn.init.zeros_(module.get_parameter("2.weight"))
    with pytest.raises(FormatError, match="same output for all inputs"):
        check(module, lambda: mlp(nn.ReLU()))


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda: "no module", "gives a str"),
        (lambda: 1 / 0, "raised ZeroDivisionError"),
        (lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU()), "doesn't take the weights"),
        (lambda: nn.Sequential(nn.Linear(3, 8), nn.Linear(5, 5), nn.Linear(8, 2)), "doesn't take the weights"),
    ],
)
def test_a_factory_that_fails_is_named(factory, words: str) -> None:
    with pytest.raises((FormatError, UsageError), match=words):
        check(mlp(nn.ReLU()), factory)


def test_objects_are_named_by_module_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_code.py").write_text("def build():\n    return 7\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_object("their_code.py:build")() == 7
    assert load_object("their_code:build")() == 7
    assert load_object("torch.nn:Linear") is torch.nn.Linear


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("their_code", "can't read the name"),
        ("their_code:", "can't read the name"),
        ("nowhere.py:build", "there is no file nowhere.py"),
        ("no.such.module:build", "No module named 'no'"),
        ("torch.nn:Linaer", "did you mean 'Linear'"),
        ("broken.py:build", "ValueError: theirs"),
    ],
)
def test_what_cannot_be_imported_is_named(text: str, words: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('theirs')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        load_object(text)
