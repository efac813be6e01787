"""The CNN Wild Park's configs: an OmegaConf object, a dataclass or a plain dictionary, read from inert stubs.

The classes aren't installed and never made: a `Stub` holds what was pickled about an object.
"""

from typing import Any

from zootool.errors import FormatError, printable
from zootool.nets.cnn_architecture import CnnConfig
from zootool.untrusted.pickle_names import Stub

# OmegaConf's, for the values in a config.
_NODES = ("AnyNode", "IntegerNode", "FloatNode", "StringNode", "BooleanNode", "BytesNode", "PathNode")
_KEYS = ("channels", "kernel_size", "stride", "padding", "residual", "activation")
_ACTIVATIONS = ("relu", "gelu", "tanh", "sigmoid", "leaky_relu", "none")
_MAX_LAYERS = 64
_MAX_SIZE = 1 << 14
# All of the park was trained on CIFAR-10.
_IMAGE_SHAPE = (32, 32)


def plain_config(value: Any, where: str) -> dict[str, Any]:
    """The settings in a config as plain values. Raises FormatError."""
    found = _plain(value)
    if not isinstance(found, dict):
        raise FormatError(f"{where} has a config of the kind {_kind(value)}", hint="get the file again")
    keys = ("n_layers", "n_classes", *_KEYS)
    missing = [key for key in keys if key not in found]
    if missing:
        raise FormatError(f"{where} has a config without {missing[0]}")
    return {key: found[key] for key in keys}


def cnn_config(settings: dict[str, Any], where: str) -> CnnConfig:
    """The config as ours. Raises FormatError for lists of odd lengths, absurd sizes and unknown activations."""
    num_layers = _whole(settings["n_layers"], f"{where}: n_layers", 1, _MAX_LAYERS)
    lists = {key: _list(settings[key], num_layers + (key == "channels"), f"{where}: {key}") for key in _KEYS}
    unknown = [name for name in lists["activation"] if name not in _ACTIVATIONS]
    if unknown:
        known = ", ".join(_ACTIVATIONS)
        raise FormatError(f"{where} has the activation {printable(unknown[0], 40)!r}, known are {known}")
    numbers = {
        key: tuple(_whole(n, f"{where}: {key}", low, _MAX_SIZE) for n in lists[key])
        for key, low in (("channels", 1), ("kernel_size", 1), ("stride", 1), ("padding", 0), ("residual", -1))
    }
    try:
        return CnnConfig(
            channels=numbers["channels"],
            kernels=numbers["kernel_size"],
            strides=numbers["stride"],
            paddings=numbers["padding"],
            activations=tuple(lists["activation"]),
            residuals=tuple(None if source < 0 else source for source in numbers["residual"]),
            num_classes=_whole(settings["n_classes"], f"{where}: n_classes", 1, _MAX_SIZE),
            image_shape=_IMAGE_SHAPE,
        )
    except ValueError as error:
        raise FormatError(f"{where} describes no network: {error}") from error


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > 8:
        return None
    if isinstance(value, Stub):
        state = value.state if isinstance(value.state, dict) else {}
        name = value.class_name.rpartition(".")[2]
        if name in _NODES:
            return _plain(state.get("_val"), depth + 1)
        return _plain(state.get("_content") if name in ("DictConfig", "ListConfig") else state, depth + 1)
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    return [_plain(item, depth + 1) for item in value] if isinstance(value, list | tuple) else value


def _list(value: Any, length: int, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        found = f"{len(value)} entries" if isinstance(value, list) else printable(value, 40)
        raise FormatError(f"{where} has {found}, wanted are {length}")
    return value


def _whole(value: Any, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"{where} has {printable(value, 40)}, wanted is a number from {low} to {high}")
    return value


def _kind(value: Any) -> str:
    return printable(value.class_name if isinstance(value, Stub) else type(value).__name__, 80)
