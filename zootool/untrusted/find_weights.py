"""Where the weights are in what a file holds: found by structure, or chosen by a key where several might be meant."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zootool.errors import FormatError, printable
from zootool.untrusted.lazy_tensor import LazyTensor
from zootool.untrusted.pickle_names import Stub

WRAPPERS = ("state_dict", "model", "model_state_dict", "params", "net", "network", "weights", "model_state", "module")
"""Keys under which training scripts keep the weights."""

ROOT = "."
"""What `--weights` calls the file itself."""

_MAX_DEPTH = 6
_MAX_SHOWN = 12
# Averages and other copies of a network that are kept beside it.
_COPIES = {"ema", "swa", "average", "averaged", "avg", "teacher", "target", "shadow"}
_NO_WEIGHTS = {"optimizer", "optimizers", "optim", "optims", "scheduler", "schedulers", "rng", "scaler", "grads"}
_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "acc_delta", "grad_avg"}
_SCHEDULER = {"last_epoch", "_step_count", "base_lrs", "_last_lr"}
_GENERATORS = {"python", "numpy", "cpu", "cuda", "xpu", "npu", "mps", "hpu", "torch", "random", "xla"}
_PREFIXES = re.compile(r"((module|_orig_mod|model)\.)+")
_PARAMETER = re.compile(r"(?s:.*)(weight|bias|kernel|gamma|beta)")


@dataclass(frozen=True)
class Weights:
    """A state_dict, the keys that lead to it, and the places of others that were passed over for it."""

    value: dict[Any, Any]
    path: tuple[str, ...]
    passed_over: tuple[str, ...]


def find_weights(value: Any, key: str | None = None) -> Weights:
    """The state_dict in `value`, or within what the dotted path `key` leads to.

    Raises FormatError where there is none, saying what there is instead, and where several qualify, naming them.
    """
    path: tuple[str, ...] = ()
    inner = value
    if key is not None and key != ROOT:
        step = next(_steps(value, key), None)
        if step is None:
            return _part(value, key)
        path, inner = step
    found = _candidates(inner, path)
    if (key is not None and path in found) or (key == ROOT and () in found):
        return Weights(found[path], path, ())
    if not found:
        raise no_weights(inner)
    chosen = _chosen(found)
    return Weights(found[chosen], chosen, tuple(_place(other) for other in found if other != chosen))


def _part(value: Any, key: str) -> Weights:
    """The tensors of a state_dict whose keys begin with `key`, without it: a network's part, or one of its networks."""
    places = _candidates(value)
    parts: dict[tuple[str, ...], dict[Any, Any]] = {}
    for path, state in places.items():
        start = f"{key.removeprefix('.'.join((*path, '')))}."
        names = [name for name in state if type(name) is str]
        bare = {name: name if name.startswith(start) else _PREFIXES.sub("", name) for name in names}
        if part := {bare[name][len(start) :]: state[name] for name in names if bare[name].startswith(start)}:
            parts[*path, start[:-1]] = part
    if not parts:
        raise FormatError(
            f"holds nothing under {printable(key, 80)!r}: {_shown_places(places)}",
            hint="--weights KEY takes one of these, a path of keys with dots, or what keys of tensors begin with",
        )
    path = _chosen(parts)
    return Weights(parts[path], path, ("all other tensors",))


def no_weights(value: Any) -> FormatError:
    """The error for what holds no state_dict, which says what it is."""
    module = next(_modules(value, ""), None)
    if module is not None:
        place, stub = module
        return FormatError(
            f"holds a whole module of the class {printable(stub.class_name, 120)}, not its state_dict",
            hint="in the code that has the class, run torch.save(torch.load('{file}', weights_only=False)"
            f"{place}.state_dict(), 'weights.pth'), and convert weights.pth",
        )
    if isinstance(value, Stub):
        if value.class_name.startswith("torch.distributed.checkpoint"):
            return FormatError(
                "holds the index of a distributed checkpoint",
                hint="run python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth",
            )
        return FormatError(f"holds an object of the class {printable(value.class_name, 120)}, no state_dict")
    if isinstance(value, LazyTensor):
        kind = "a random generator's state" if _is_random_state(value) else "a single tensor"
        return FormatError(f"holds {kind}, no network")
    if not isinstance(value, dict):
        return FormatError(f"holds a {type(value).__name__} where a state_dict is wanted")
    if not value:
        return FormatError("holds an empty dict, no network")
    if any(isinstance(item, LazyTensor) and type(key) is not str for key, item in value.items()):
        return FormatError("holds tensors under keys that are no text, so no state_dict")
    kind = _training_state(value)
    if kind is not None:
        return FormatError(f"holds {kind} and no network", hint="leave it out: the weights are in another file")
    return FormatError(f"holds no state_dict under the keys {_keys(value)}", hint="save the model's state_dict")


def _candidates(value: Any, path: tuple[str, ...] = (), depth: int = 0) -> dict[tuple[str, ...], dict[Any, Any]]:
    """Every state_dict by the keys that lead to it, the outermost first."""
    found: dict[tuple[str, ...], dict[Any, Any]] = {}
    if depth > _MAX_DEPTH or not isinstance(value, dict | list | tuple):
        return found
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, dict):
        if _is_optimizer(value):
            return found
        if _holds_weights(value):
            found[path] = value
    for key, item in items:
        if isinstance(item, dict | list | tuple) and type(key) in (str, int) and not _words(str(key)) & _NO_WEIGHTS:
            found |= _candidates(item, (*path, str(key)), depth + 1)
    return found


def _chosen(found: dict[tuple[str, ...], dict[Any, Any]]) -> tuple[str, ...]:
    """The place of what is meant: names of parameters count first, then copies are passed over for what they are of."""
    best = [path for path, value in found.items() if _names_parameters(value)] or list(found)
    if len(best) > 1:
        best = [path for path in best if not any(_words(key) & _COPIES for key in path)] or best
    if len(best) > 1:
        known = [path for path in best if (path[-1] in WRAPPERS if path else _names_parameters(found[path]))]
        best = known if len(known) == 1 else best
    if len(best) == 1:
        return best[0]
    raise FormatError(
        f"holds {len(best)} state_dicts ({_shown_places(best)})",
        hint=f"choose one by --weights KEY, such as --weights {_place(best[0])}",
    )


def _steps(value: Any, rest: str, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Where a dotted path leads; keys may have dots themselves."""
    if isinstance(value, list | tuple):
        value = {str(i): item for i, item in enumerate(value)}
    if isinstance(value, dict):
        for key, item in value.items():
            if rest == str(key):
                yield (*path, str(key)), item
            elif rest.startswith(f"{key}."):
                yield from _steps(item, rest[len(str(key)) + 1 :], (*path, str(key)))


def _holds_weights(value: dict[Any, Any]) -> bool:
    tensors = {key: item for key, item in value.items() if isinstance(item, LazyTensor) and type(key) is str}
    if tensors.keys() & _MOMENTS:
        return False
    return any(
        (item.shape and item.dtype.startswith(("float", "bfloat", "complex"))) or _PARAMETER.fullmatch(key)
        for key, item in tensors.items()
    )


def _names_parameters(value: dict[Any, Any]) -> bool:
    return any(
        isinstance(item, LazyTensor) and type(key) is str and ("." in key or _PARAMETER.fullmatch(key) is not None)
        for key, item in value.items()
    )


def _modules(value: Any, place: str, depth: int = 0) -> Iterator[tuple[str, Stub]]:
    """Every pickled module, and how Python gets to it from the file's value."""
    if isinstance(value, Stub) and isinstance(value.state, dict) and {"_modules", "_parameters"} <= value.state.keys():
        yield place, value
    elif isinstance(value, dict) and depth < _MAX_DEPTH:
        for key, item in value.items():
            yield from _modules(item, f"{place}[{printable((key,), 80)[1:-2]}]", depth + 1)


def _training_state(value: dict[Any, Any]) -> str | None:
    inner = [value, *(item for item in value.values() if isinstance(item, dict))]
    if any(map(_is_optimizer, inner)) or any("optimizer" in _words(str(key)) for key in list(value)[:1000]):
        return "an optimizer's state"
    if len(value.keys() & _SCHEDULER) > 1:
        return "a scheduler's state"
    if value.keys() >= {"scale", "growth_factor", "growth_interval"}:
        return "a gradient scaler's state"
    tensors = [item for item in value.values() if isinstance(item, LazyTensor)]
    is_random = all(map(_is_random_state, tensors)) if tensors else bool(value) and value.keys() <= _GENERATORS
    return "a random generator's state" if is_random else None


def _is_optimizer(value: dict[Any, Any]) -> bool:
    return isinstance(value.get("param_groups"), list) or bool(
        _MOMENTS & {key for key, item in value.items() if isinstance(item, LazyTensor)}
    )


def _is_random_state(tensor: LazyTensor) -> bool:
    return tensor.dtype == "uint8" and len(tensor.shape) == 1


def _words(key: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key[:200]).lower()))


def _place(path: tuple[str, ...]) -> str:
    return printable(".".join(path), 80) or ROOT


def _shown_places(paths: Any) -> str:
    shown = [_place(path) for path in list(paths)[:_MAX_SHOWN]]
    return ", ".join(shown) + (", ..." if len(paths) > _MAX_SHOWN else "") if shown else "there is no state_dict"


def _keys(value: dict[Any, Any]) -> str:
    return printable(", ".join(printable(key, 60) for key in list(value)[:_MAX_SHOWN]), 200)
