"""The state_dict inside a checkpoint: found by its structure, or chosen by a key where several might be meant; out of
its wrappers, without its prefixes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zootool.errors import FormatError, printable
from zootool.untrusted.byte_source import errors_name
from zootool.untrusted.lazy_tensor import LazyTensor
from zootool.untrusted.unpickler import Stub

_Path = tuple[str, ...]
_Found = tuple[dict[Any, Any], _Path, tuple[str, ...]]

# Keys under which training scripts keep the weights.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "params", "net", "network", "weights", "model_state", "module")
# What `--weights` calls the file itself.
_ROOT = "."
_MAX_DEPTH = 6
_MAX_SHOWN = 12
# Averages and other copies of a network that are kept beside it.
_COPIES = {"ema", "swa", "average", "averaged", "avg", "teacher", "target", "shadow"}
_NO_WEIGHTS = {"optimizer", "optimizers", "optim", "optims", "scheduler", "schedulers", "rng", "scaler", "grads"}
_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "acc_delta", "grad_avg"}
_SCHEDULER = {"last_epoch", "_step_count", "base_lrs", "_last_lr"}
_GENERATORS = {"python", "numpy", "cpu", "cuda", "xpu", "npu", "mps", "hpu", "torch", "random", "xla"}
_KEY_PREFIXES = re.compile(r"((module|_orig_mod|model)\.)+")
_PARAMETER = re.compile(r"(?s:.*)(weight|bias|kernel|gamma|beta)")
# What torch and libraries around it put before every key of a network: no name of the network's own.
_PREFIXES = (
    "module.", "_orig_mod.", "model.", "_module.", "_forward_module.", "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)  # fmt: skip


@dataclass(frozen=True)
class StateDict:
    """Tensors by their keys, in the file's order, without the prefixes that all had; and what else stood among them.

    `place` are the keys that lead to it, such as "state_dict", joined by dots, and `passed_over` the places of other
    state_dicts in the file.
    """

    tensors: dict[str, LazyTensor]
    others: dict[str, Any]
    place: str = ""
    passed_over: tuple[str, ...] = ()

    @property
    def choice(self) -> str | None:
        """A sentence on which state_dict of several this is, None where there was one."""
        if not self.passed_over:
            return None
        others = ", ".join(self.passed_over)
        place = printable(self.place, 80) or "the file itself"
        return f"the weights are those of {place}; passed over: {others} (--weights KEY takes another)"


def find_state_dict(value: Any, *, weights: str | None = None, shown: str = "the checkpoint") -> StateDict:
    """The state_dict in a loaded value, or in what the key or dotted path `weights` leads to.

    `shown` names the file in errors. Raises FormatError where there is none, and where several might be meant.
    """
    with errors_name(shown):
        state, path, passed_over = _find(value, weights)
        keys = [key for key, item in state.items() if isinstance(item, LazyTensor)]
        if any(type(key) is not str for key in keys):
            raise FormatError("holds tensors under keys that are no text, so no state_dict")
    prefix = _common_prefix(keys)
    others = {str(key).removeprefix(prefix): item for key, item in state.items() if not isinstance(item, LazyTensor)}
    tensors = {key[len(prefix) :]: state[key] for key in keys}
    return StateDict(tensors, others, ".".join(path), passed_over)


def _find(value: Any, key: str | None) -> _Found:
    """The state_dict in `value`, or within what the dotted path `key` leads to; its place, and those of others.

    Raises FormatError where there is none, saying what there is instead, and where several qualify, naming them.
    """
    path: _Path = ()
    inner = value
    if key is not None and key != _ROOT:
        step = next(_steps(value, key), None)
        if step is None:
            return _part(value, key)
        path, inner = step
    found = _candidates(inner, path)
    if (key is not None and path in found) or (key == _ROOT and () in found):
        return found[path], path, ()
    if not found:
        raise no_weights(inner)
    chosen = _chosen(found)
    return found[chosen], chosen, tuple(_shown_place(other) for other in found if other != chosen)


def _part(value: Any, key: str) -> _Found:
    """The tensors of a state_dict whose keys begin with `key`, without it: a network's part, or one of its networks."""
    places = _candidates(value)
    parts: dict[_Path, dict[Any, Any]] = {}
    for path, state in places.items():
        start = f"{key.removeprefix('.'.join((*path, '')))}."
        names = [name for name in state if type(name) is str]
        bare = {name: name if name.startswith(start) else _KEY_PREFIXES.sub("", name) for name in names}
        if part := {bare[name][len(start) :]: state[name] for name in names if bare[name].startswith(start)}:
            parts[*path, start[:-1]] = part
    if not parts:
        raise FormatError(
            f"holds nothing under {printable(key, 80)!r}: {_shown_places(places)}",
            hint="--weights KEY takes one of these, a path of keys with dots, or what keys of tensors begin with",
        )
    path = _chosen(parts)
    return parts[path], path, ("all other tensors",)


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
    keys = printable(", ".join(printable(key, 60) for key in list(value)[:_MAX_SHOWN]), 200)
    return FormatError(f"holds no state_dict under the keys {keys}", hint="save the model's state_dict")


def _candidates(value: Any, path: _Path = (), depth: int = 0) -> dict[_Path, dict[Any, Any]]:
    """Every state_dict by the keys that lead to it, the outermost first."""
    found: dict[_Path, dict[Any, Any]] = {}
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


def _common_prefix(keys: list[str]) -> str:
    whole = ""
    while True:
        prefix = next((p for p in _PREFIXES if all(key.startswith(whole + p) for key in keys)), None)
        if prefix is None or any(key == whole + prefix for key in keys):
            return whole
        whole += prefix


def _chosen(found: dict[_Path, dict[Any, Any]]) -> _Path:
    """The place of what is meant: names of parameters count first, then copies are passed over for what they are of."""
    best = [path for path, value in found.items() if _names_parameters(value)] or list(found)
    if len(best) > 1:
        best = [path for path in best if not any(_words(key) & _COPIES for key in path)] or best
    if len(best) > 1:
        known = [path for path in best if (path[-1] in _WRAPPERS if path else _names_parameters(found[path]))]
        best = known if len(known) == 1 else best
    if len(best) == 1:
        return best[0]
    raise FormatError(
        f"holds {len(best)} state_dicts ({_shown_places(best)})",
        hint=f"choose one by --weights KEY, such as --weights {_shown_place(best[0])}",
    )


def _steps(value: Any, rest: str, path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
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


def _shown_place(path: tuple[str, ...]) -> str:
    return printable(".".join(path), 80) or _ROOT


def _shown_places(paths: Any) -> str:
    shown = [_shown_place(path) for path in list(paths)[:_MAX_SHOWN]]
    return ", ".join(shown) + (", ..." if len(paths) > _MAX_SHOWN else "") if shown else "there is no state_dict"
