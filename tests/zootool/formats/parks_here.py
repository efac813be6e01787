"""A small copy of the CNN Wild Park: real torch files whose configs are of classes that nobody has installed.

The classes are made here under their true names while a file is written, and are gone when it is read.
"""

import sys
import typing
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Any

import torch
from torch.nn import functional

from tests.zootool.formats.converting import random_state, save

SAMPLER = "experiments.cnn_generalization.dataset.cnn_sampler"

SMALL = {
    "n_layers": 2, "n_classes": 10, "channels": [3, 4, 8], "kernel_size": [3, 5], "stride": [1, 1], "padding": [1, 2],
    "residual": [-1, -1], "activation": ["relu", "leaky_relu"],
}  # fmt: skip
# Convolution 2 adds the output of 0, with more channels; 3 adds that of 1, with fewer.
RESIDUAL = {
    "n_layers": 4, "n_classes": 10, "channels": [3, 8, 4, 4, 8], "kernel_size": [3, 7, 5, 3], "stride": [1, 1, 1, 1],
    "padding": [1, 3, 2, 1], "residual": [-1, -1, 0, 1], "activation": ["tanh", "gelu", "sigmoid", "none"],
}  # fmt: skip


def park_state(config: Mapping[str, Any], seed: int) -> OrderedDict[str, torch.Tensor]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i, kernel in enumerate(config["kernel_size"]):
        sources, targets = config["channels"][i : i + 2]
        shapes |= {f"layers.{i}.weight": (targets, sources, kernel, kernel), f"layers.{i}.bias": (targets,)}
    shapes |= {"fc.weight": (config["n_classes"], config["channels"][-1]), "fc.bias": (config["n_classes"],)}
    return OrderedDict(random_state(shapes, seed))


def park_output(config: Mapping[str, Any], state: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The park's network, written out: the activated output of an earlier convolution enters before the activation."""
    functions = {
        "relu": torch.relu, "tanh": torch.tanh, "gelu": functional.gelu, "sigmoid": torch.sigmoid,
        "leaky_relu": functional.leaky_relu, "none": lambda x: x,
    }  # fmt: skip
    outputs: list[torch.Tensor] = []
    for i, name in enumerate(config["activation"]):
        x = functional.conv2d(
            x, state[f"layers.{i}.weight"], state[f"layers.{i}.bias"], config["stride"][i], config["padding"][i]
        )
        source = config["residual"][i]
        if source >= 0:
            shared = min(config["channels"][source + 1], config["channels"][i + 1])
            x = x.clone()
            x[:, :shared] += outputs[source][:, :shared]
        x = functions[name](x)
        outputs.append(x)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@contextmanager
def their_classes(*names: str) -> Iterator[dict[str, type]]:
    """Classes under these full names, for as long as files are written."""
    made: dict[str, type] = {}
    added: list[str] = []
    for name in names:
        module_name, _, class_name = name.rpartition(".")
        parts = module_name.split(".")
        for depth in range(1, len(parts) + 1):
            whole = ".".join(parts[:depth])
            if whole not in sys.modules:
                sys.modules[whole] = ModuleType(whole)
                added.append(whole)
        made[class_name] = type(class_name, (), {"__module__": module_name})
        setattr(sys.modules[module_name], class_name, made[class_name])
    try:
        yield made
    finally:
        for whole in added:
            del sys.modules[whole]


def _with_state(kind: type, **state: Any) -> Any:
    thing = kind()
    thing.__dict__.update(state)
    return thing


def omega_config(classes: Mapping[str, type], config: Mapping[str, Any]) -> Any:
    """As OmegaConf pickles a part of a larger config: nodes that refer to their parent, and notes about types."""
    root = _with_state(classes["DictConfig"], _parent=None, _flags_cache=None)
    part = _with_state(classes["DictConfig"], _parent=root, _flags_cache=None)
    part._metadata = _with_state(
        classes["ContainerMetadata"], ref_type=typing.Any, object_type=classes["CNNConfig"], optional=True, key="model",
        flags={}, flags_root=False, resolver_cache={}, key_type=str, element_type=int,
    )  # fmt: skip
    root._metadata = _with_state(
        classes["ContainerMetadata"], ref_type=typing.Any, object_type=dict, key_type=typing.Any
    )
    path = _with_state(classes["PathNode"], _parent=root, _val=PosixPath("/data/cifar10.pt"), _metadata=None)
    root._content = {"model": part, "efficient_dataset_path": path}
    part._content = {key: _omega_node(classes, key, value, part) for key, value in config.items()}
    return part


def _omega_node(classes: Mapping[str, type], key: Any, value: Any, parent: Any) -> Any:
    if isinstance(value, list):
        node = _with_state(classes["ListConfig"], _parent=parent, _flags_cache=None)
        node._metadata = _with_state(classes["ContainerMetadata"], ref_type=list[int], element_type=int, key=key)
        node._content = [_omega_node(classes, place, item, node) for place, item in enumerate(value)]
        return node
    kind = classes["IntegerNode" if isinstance(value, int) else "StringNode"]
    metadata = _with_state(classes["Metadata"], ref_type=int, optional=False, key=key, flags=None, flags_root=False)
    return _with_state(kind, _parent=parent, _val=value, _flags_cache=None, _metadata=metadata)


OMEGA = (
    "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.base.Metadata",
    "omegaconf.base.ContainerMetadata", "omegaconf.nodes.IntegerNode", "omegaconf.nodes.StringNode",
    "omegaconf.nodes.PathNode", f"{SAMPLER}.CNNConfig",
)  # fmt: skip


def checkpoint(config: Any, state: Mapping[str, torch.Tensor], step: int, score: float) -> dict[str, Any]:
    """What the trainer saves: the optimizer's state holds tensors too."""
    return {
        "model": state,
        "optimizer": {"state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.zeros(3)}}, "param_groups": []},
        "config": config,
        "iteration": step,
        "timesteps_total": None,
        "time_total": 1.5,
        "last_result": {"test/acc": score, "test/loss": 1.2, "training_iteration": step, "hostname": "somewhere"},
        "ray_version": "2.3.0",
    }


def write_park(
    root: Path, runs: Mapping[str, Mapping[str, Any]], steps: tuple[int, ...], form: str = "omega"
) -> dict[str, Any]:
    """net_id -> (config, state) of what was written; `form` is what the config is: omega, dataclass or dict."""
    written = {}
    with their_classes(*OMEGA) as classes:
        for number, (run, config) in enumerate(runs.items()):
            for step in steps:
                state = park_state(config, seed=100 * number + step)
                forms = {
                    "omega": lambda c=config: omega_config(classes, c),
                    "dataclass": lambda c=config: _with_state(classes["CNNConfig"], **c),
                    "dict": lambda c=config: dict(c),
                }
                content = checkpoint(forms[form](), state, step, score=number / 10 + step / 1000)
                save(content, root / run / f"checkpoint_{step:06d}" / "checkpoint.pt")
                written[f"{run}/checkpoint_{step:06d}"] = config, state
    return written


def zip_park(root: Path, archive: Path) -> Path:
    """The folder as a zip file, deflated, with what a Mac leaves in it."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(root.rglob("*.pt")):
            file.write(path, path.relative_to(root.parent))
        file.writestr("__MACOSX/cifar10_zooV2/run/checkpoint_000000/checkpoint.pt", b"resource fork")
    return archive
