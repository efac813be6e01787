"""The networks of the hyper-representation papers: which one a state_dict is, by the order and shapes of its tensors.

The published CNNs are known by their kernels: (5, 5, 2) has a max pooling of 2 behind its first two convolutions,
(3, 3, 3) behind all three; the pooling comes before the activation. MLPs are linear layers in a row.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zootool.architecture import Activation, Architecture, Pooling, Timestamp
from zootool.errors import FormatError, printable
from zootool.formats.collection import CollectedImages
from zootool.nets.lay_out import Entry, lay_out
from zootool.untrusted.lazy_tensor import LazyTensor

ASSUMED = (
    "layers are taken in the order in which they were saved, since their numbers shift with dropout",
    "the max poolings are taken for those of the papers' CNN with these kernels, before the activation",
)
"""What no tensor and no setting says; the second for networks with convolutions."""

_ACTIVATIONS = {
    "leakyrelu": "leaky_relu", "leaky_relu": "leaky_relu", "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid",
    "silu": "silu", "gelu": "gelu", "elu": "elu",
}  # fmt: skip
_POOLED: dict[tuple[int, ...], tuple[bool, ...]] = {(5, 5, 2): (True, True, False), (3, 3, 3): (True, True, True)}
_ACTIVATION_KEYS = ("model::nlin", "model.nlin", "nlin", "activation")
_MAX_LAYERS = 64
_IMAGE_SETS = {
    "fashion-mnist": CollectedImages("fashion-mnist", (28, 28, 1), 10),
    "mnist": CollectedImages("mnist", (28, 28, 1), 10),
    "usps": CollectedImages("usps", (16, 16, 1), 10),
    "cifar100": CollectedImages("cifar100", (32, 32, 3), 100),
    "cifar10": CollectedImages("cifar10", (32, 32, 3), 10),
    "svhn": CollectedImages("svhn", (32, 32, 3), 10),
    "stl10": CollectedImages("stl10", (96, 96, 3), 10),
}
_WRITTEN_AS = {"fashion": "fashion-mnist", "fmnist": "fashion-mnist", "cifar_100": "cifar100", "cifar_10": "cifar10"}


def trial_architecture(tensors: Mapping[str, LazyTensor], settings: Mapping[str, Any], shown: str) -> Architecture:
    """The architecture of a trial's networks. Raises FormatError for layers that none of the papers' networks has."""
    layers = _layers(tensors, shown)
    activation = _activation(settings, shown)
    kernels = tuple(tensors[weight].shape[2] for weight, _ in layers if len(tensors[weight].shape) == 4)
    pooled = _POOLED.get(kernels)
    if kernels and pooled is None:
        raise FormatError(
            f"{shown} has convolutions of {kernels}, the papers' CNNs have {', '.join(map(str, _POOLED))}",
            hint="convert it as a plain folder with a declared architecture",
        )
    timestamps: list[Timestamp] = []
    entries = []
    for number, (weight, bias) in enumerate(layers):
        is_last = number == len(layers) - 1
        timestamps.append(
            _timestamp(
                tensors[weight].shape,
                timestamps[-1] if timestamps else None,
                has_bias=bias is not None,
                activation=Activation() if is_last else activation,
                is_pooled=bool(pooled and number < len(pooled) and pooled[number]),
                shown=shown,
            )
        )
        for key, role in ((weight, "weight"), (bias, "bias")):
            if key is not None:
                entries.append(Entry(key, tensors[key].shape, role, number + 1, tensors[key].dtype))
    try:
        return lay_out(timestamps[0].num_sources, timestamps, entries, family="cnn" if kernels else "mlp")
    except FormatError as error:
        raise FormatError(f"{shown} has layers that don't fit together: {error.message}") from error


def _layers(tensors: Mapping[str, LazyTensor], shown: str) -> list[tuple[str, str | None]]:
    """(weight, bias) of every layer in the file's order. The numbers in the keys say nothing."""
    layers: list[tuple[str, str | None]] = []
    for key, tensor in tensors.items():
        prefix, _, part = key.rpartition(".")
        if part == "weight" and len(tensor.shape) in (2, 4):
            layers.append((key, None))
        elif part == "bias" and layers and layers[-1] == (f"{prefix}.weight", None) and len(tensor.shape) == 1:
            layers[-1] = (layers[-1][0], key)
        else:
            raise FormatError(
                f"{shown} has {printable(key, 80)!r} of {tensor.shape}, wanted are layers in a row",
                hint="convert it as a plain folder with a declared architecture",
            )
    if not 1 <= len(layers) <= _MAX_LAYERS:
        raise FormatError(f"{shown} has {len(layers)} layers, 1 to {_MAX_LAYERS} are read")
    return layers


def _timestamp(
    shape: tuple[int, ...],
    before: Timestamp | None,
    *,
    has_bias: bool,
    activation: Activation,
    is_pooled: bool,
    shown: str,
) -> Timestamp:
    num_sources = shape[1] if before is None or before.kind != "conv" or len(shape) == 4 else before.num_nodes
    if before is not None and (num_sources != before.num_nodes or shape[1] % num_sources):
        raise FormatError(f"{shown} has a layer of {shape} behind one of {before.num_nodes} nodes")
    rest: dict[str, Any] = {"has_bias": has_bias, "activation": activation}
    if len(shape) == 4:
        if before is not None and before.kind != "conv":
            raise FormatError(f"{shown} has a convolution behind a linear layer")
        pooling = Pooling("max", 2, 2) if is_pooled else None
        kernel = (shape[2], shape[3])
        return Timestamp(
            "conv", shape[0], num_sources, shape[2] * shape[3], kernel=kernel, output_pooling=pooling, **rest
        )
    if before is not None and before.kind == "conv":
        return Timestamp("flatten_linear", shape[0], num_sources, shape[1] // num_sources, **rest)
    return Timestamp("linear", shape[0], num_sources, **rest)


def _activation(settings: Mapping[str, Any], shown: str) -> Activation:
    found = next((settings[key] for key in _ACTIVATION_KEYS if key in settings), None)
    if not isinstance(found, str) or found.lower() not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise FormatError(f"{shown}: its settings have the activation {printable(found, 40)!r}, known are {known}")
    return Activation(_ACTIVATIONS[found.lower()])


def image_set_of(path: Path, settings: Sequence[Mapping[str, Any]]) -> tuple[CollectedImages, ...]:
    """The image set that the settings or the folder's name say, where they name one."""
    named = {str(value) for record in settings for key, value in record.items() if key.startswith("dataset")}
    for text in (*sorted(named), path.absolute().name):
        words = re.sub(r"[^a-z0-9]+", "_", text.lower())
        for name in (*_WRITTEN_AS, *_IMAGE_SETS):
            if name.replace("-", "_") in words:
                return (_IMAGE_SETS[_WRITTEN_AS.get(name, name)],)
    return ()
