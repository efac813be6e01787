"""Does an architecture compute what the network's own code computes? Outputs of both on the same random inputs.

Names and shapes don't tell activations, strides or frequencies. Whoever has the code that made a checkpoint can ask
it: any difference between the two functions is far above the rounding of float64.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from zootool.architecture import Architecture
from zootool.errors import FormatError, UsageError, did_you_mean, printable
from zootool.nets.network import Network, fitting_input

Factory = Callable[..., nn.Module]

TOLERANCE = 1e-6
"""Largest difference of outputs, relative to the largest output, both in float64."""

_BATCH = 8
_NAME_HINT = "write it like my_package.my_module:build, or my_file.py:build"


def check_agreement(architecture: Architecture, state_dict: Mapping[str, Tensor], factory: Factory, named: str) -> None:
    """Raise FormatError unless `factory`'s module, with these weights, computes what `architecture` does.

    `factory` takes nothing, or the state_dict, and returns a module; `named` is its name for messages. Raises
    UsageError for a factory that fails, FormatError for weights that its module doesn't take.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        theirs = _filled(_made(factory, state_dict, named), state_dict, named)
        ours = _filled(Network(architecture), state_dict, "the architecture")
        with torch.device("meta"):
            shape = fitting_input(Network(architecture).float().eval(), architecture)
        if shape is None:
            raise FormatError("the image size that its flatten needs isn't known, so outputs can't be compared")
        inputs = torch.rand((_BATCH, *shape[1:]), dtype=torch.float64) * 2 - 1
        expected = _outputs(theirs, inputs, named)
        found = ours(inputs)
    if found.shape != expected.shape and found.numel() == expected.numel():
        expected = expected.reshape(found.shape)
    if found.shape != expected.shape:
        raise FormatError(
            f"{named} gives outputs {tuple(expected.shape)} for inputs {tuple(inputs.shape)}, "
            f"the architecture {tuple(found.shape)}"
        )
    if bool((expected == expected[:1]).all()):
        raise FormatError(f"{named} gives the same output for all inputs, which can't be compared")
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        raise FormatError(f"outputs differ from those of {named} by {difference:.2g} of the largest")


def _made(factory: Factory, state_dict: Mapping[str, Tensor], named: str) -> nn.Module:
    try:
        needed = [p for p in inspect.signature(factory).parameters.values() if p.default is p.empty]
        needed = [p for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        module = factory(dict(state_dict)) if needed else factory()
    except Exception as error:
        raise _theirs(error, named) from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"{named} gives a {type(module).__name__}", hint="it should return a torch.nn.Module")
    return module


def _filled(module: nn.Module, state_dict: Mapping[str, Tensor], named: str) -> nn.Module:
    try:
        module.load_state_dict(dict(state_dict))
    except RuntimeError as error:
        raise FormatError(f"{named} doesn't take the weights: {printable(error, 400)}") from error
    return module.double().eval()


def _outputs(module: nn.Module, inputs: Tensor, named: str) -> Tensor:
    try:
        outputs: Any = module(inputs)
    except Exception as error:
        raise _theirs(error, named) from error
    outputs = getattr(outputs, "logits", outputs)
    outputs = outputs[0] if isinstance(outputs, tuple | list) and outputs else outputs
    if not isinstance(outputs, Tensor):
        raise UsageError(f"{named} computes a {type(outputs).__name__}", hint="its module should return a tensor")
    return outputs.double()


def _theirs(error: Exception, named: str) -> UsageError:
    return UsageError(
        f"{named} raised {type(error).__name__}: {printable(error, 300)}",
        hint="it takes nothing or a state_dict, and returns a module that takes float64 inputs",
    )


def load_object(text: str) -> Any:
    """The object that `package.module:name` or `path/to/file.py:name` names, such as a factory of the user's own.

    This runs the user's code: names come from the command line or from Python, never from a file that somebody else
    made. Raises UsageError where the module can't be imported or doesn't have the name.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise UsageError(f"can't read the name {printable(text, 120)!r}", hint=_NAME_HINT)
    try:
        module = _module_of_file(Path(place)) if place.endswith(".py") else _module(place)
    except Exception as error:
        # Whatever the user's module raises while it is imported is theirs to mend.
        what = f"{type(error).__name__}: {printable(error, 200)}"
        raise UsageError(f"can't import {printable(place, 120)} ({what})", hint=_NAME_HINT) from error
    if not hasattr(module, name):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UsageError(f"{printable(place, 120)} has no {name}", hint=did_you_mean(name, public))
    return getattr(module, name)


def _module(place: str) -> ModuleType:
    # A console script doesn't look into the current folder, where `python -m` would.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return import_module(place)
    finally:
        sys.path.remove(here)


def _module_of_file(path: Path) -> ModuleType:
    name = f"_zoo_user_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses and pickles of the module look it up there.
    spec.loader.exec_module(module)
    return module
