"""Guessing an Architecture from the names, order and shapes of a checkpoint's tensors.

Names and shapes say how tensors follow one another, not what happens between them: activations, strides and paddings
are assumptions, and said to be. Whoever knows better declares the architecture (`zootool.nets.declared`).
"""

import re
from collections.abc import Callable

from zootool.architecture import Activation
from zootool.errors import FormatError, printable
from zootool.nets.chain import HINT, ChainOptions, Inferred, chain_of
from zootool.nets.families import bare_names, with_keys
from zootool.nets.foreign import refuse_foreign
from zootool.nets.module_names import Shapes, modules_of
from zootool.nets.siren_names import siren_names

__all__ = ["Inferred", "infer_architecture"]

_RESNET_BLOCK = re.compile(r"(?:.*\.)?layer[0-9]+\.[0-9]+\.(conv|bn)[0-9]+\..*")
_RESNET_DEPTHS = range(8, 1203, 6)
_SINE = Activation("sine", omega_0=30.0)


def infer_architecture(shapes: Shapes, where: str = "the checkpoint") -> Inferred:
    """The architecture of a SIREN, a CIFAR ResNet or a chain of layers. Raises FormatError for anything else."""
    recognisers: tuple[Callable[[Shapes, str], Inferred | None], ...] = (_simple_vit, _cifar_resnet, _foreign, _siren)
    for recognise in recognisers:
        try:
            found = recognise(shapes, where)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # Names without the weights that belong to them: it isn't what this one knows.
            continue
        if found is not None:
            return found
    try:
        return chain_of(shapes, where)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise FormatError(f"{where} has tensors that make no chain of layers", hint=HINT) from error


def _simple_vit(shapes: Shapes, where: str) -> None:
    if any("to_patch_embedding" in module.path for module in modules_of(shapes)):
        raise FormatError(
            f"{where} is a SimpleViT, whose number of heads is in no tensor",
            hint="declare it in YAML: `like: simple-vit` with num_heads and the other sizes",
        )


def _foreign(shapes: Shapes, where: str) -> None:
    refuse_foreign(modules_of(shapes), where)


def _cifar_resnet(shapes: Shapes, where: str) -> Inferred | None:
    """A CIFAR ResNet by the names of its blocks, behind whatever prefix; its classifier may be called fc."""
    bare = {re.sub(r"^fc\.", "linear.", name): key for name, key in bare_names(shapes).items()}
    if not any(_RESNET_BLOCK.fullmatch(name) for name in bare):
        return None
    depth = 2 + sum(re.fullmatch(r"layer[123]\.[0-9]+\.conv[12]\.weight", name) is not None for name in bare)
    classes = next((shapes[key][0][0] for name, key in bare.items() if name == "linear.bias" and shapes[key][0]), 0)
    try:
        if depth not in _RESNET_DEPTHS or not 1 <= classes <= 100_000:
            raise FormatError(f"it has {depth} layers and {classes} classes")
        from zootool.nets.resnet import cifar_resnet_architecture

        architecture = with_keys(cifar_resnet_architecture(depth, classes), shapes, "it", bare)
    except FormatError as error:
        raise FormatError(
            f"{where} has the names of a ResNet, but isn't one for CIFAR with bare shortcuts: {error.message}",
            hint="shortcuts with weights can't be held; any other network can be declared in YAML",
        ) from error
    return Inferred(
        architecture, ("shortcuts are taken to skip every second pixel and to add zero channels on both sides",)
    )


def _siren(shapes: Shapes, where: str) -> Inferred | None:
    modules = modules_of(shapes)
    if any(len(module.weight) != 2 or not set(module.tensors) <= {"weight", "bias"} for module in modules):
        return None
    found = siren_names(modules)
    if found is None:
        return None
    if not found.is_certain:
        chain_of(shapes, where)  # what is no chain is no SIREN either, and is refused for that
        raise FormatError(
            f"{where}: {printable(found.layers[0].name, 80)!r} is called like a SIREN's layer, but others are too",
            hint="declare `like: siren` with num_inputs, hidden, num_outputs and omega_0 (siren-pytorch: omega_0: 1, "
            "first_omega_0: 30), or `like: chain` with its `activation`",
        )
    output = _SINE if found.has_sine_output else Activation()
    options = ChainOptions(tuple(layer.name for layer in found.layers), _SINE, output, "siren")
    said = "a sine too, as its name is" if found.has_sine_output else "linear, with nothing added to it"
    notes = ("layers are taken for sines with omega_0 = 30, as their names are", f"the output is taken for {said}")
    return Inferred(chain_of(shapes, where, options).architecture, notes)
