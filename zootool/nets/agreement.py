"""Does an architecture compute what the network's own code computes? Outputs of both on the same random inputs.

Names and shapes don't tell activations, strides or frequencies. Whoever has the code that made a checkpoint can ask
it: any difference between the two functions is far above the rounding of float64.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zootool.architecture import Architecture
from zootool.errors import FormatError, UsageError, printable
from zootool.nets.network import Network

Factory = Callable[..., nn.Module]

TOLERANCE = 1e-6
"""Largest difference of outputs, relative to the largest output, both in float64."""

_BATCH = 8
_NUM_TOKENS = 5
_SIDES = (32, 28, 64, 224, 16, 8, *range(1, 257))
"""Heights of square images that are tried, the usual ones first."""


def check_agreement(architecture: Architecture, state_dict: Mapping[str, Tensor], factory: Factory, named: str) -> None:
    """Raise FormatError unless `factory`'s module, with these weights, computes what `architecture` does.

    `factory` takes nothing, or the state_dict, and returns a module; `named` is its name for messages. Raises
    UsageError for a factory that fails, FormatError for weights that its module doesn't take.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        theirs = _filled(_made(factory, state_dict, named), state_dict, named)
        ours = _filled(Network(architecture), state_dict, "the architecture")
        inputs = example_inputs(architecture)
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


def example_inputs(architecture: Architecture) -> Tensor:
    """Random inputs of a size that the network takes, float64: coordinates, images or tokens in [-1, 1].

    Raises FormatError where no square image of up to 256 pixels fits.
    """
    tokens, kinds = architecture.tokens, {timestamp.kind for timestamp in architecture.timestamps}
    if tokens is None and "conv" not in kinds:
        axes = (_BATCH, _NUM_TOKENS) if kinds & {"qkv", "pool_linear"} else (_BATCH,)
        return _uniform(*axes, architecture.num_inputs)
    patch = 1 if tokens is None or tokens.patch_size is None else tokens.patch_size
    channels = architecture.num_inputs // patch**2
    bare = Network(architecture).double().to("meta").eval()
    for side in _SIDES:
        try:
            bare(torch.empty(_BATCH, channels, side * patch, side * patch, device="meta", dtype=torch.float64))
        except (FormatError, RuntimeError, ValueError):
            continue
        return _uniform(_BATCH, channels, side * patch, side * patch)
    raise FormatError(f"no square image of up to {_SIDES[-1] * patch} pixels fits the architecture")


def _uniform(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64) * 2 - 1


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
