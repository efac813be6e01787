"""Guessing an Architecture from the names, order and shapes of a checkpoint's tensors.

Names and shapes say how tensors follow one another, not what happens between them: activations, strides and paddings
are assumptions, and said to be. Whoever knows better declares the architecture (`zootool.nets.declared`).
"""

import re
from dataclasses import dataclass
from typing import Any

from zootool.architecture import Activation, Architecture, Norm, Pooling, Timestamp
from zootool.errors import FormatError, printable
from zootool.nets.declared import Shapes, declared_architecture
from zootool.nets.lay_out import Entry, lay_out

_HINT = "declare it in YAML: `zoo convert SRC DST.zoo --architecture NET.yaml`"
_COUNTER = "num_batches_tracked"
_STATISTICS = ("running_mean", "running_var", _COUNTER)
_SIREN_KEY = re.compile(r"net\.0\.linear\.(weight|bias)")
_SIREN_KEYS = re.compile(r"net\.\d{1,3}\.(linear\.)?(weight|bias)")
_RESNET_BLOCK = re.compile(r"layer([123])\.(\d+)\.conv[12]\.weight")


@dataclass(frozen=True)
class Inferred:
    """An architecture, and what was assumed about it in words."""

    architecture: Architecture
    assumptions: tuple[str, ...] = ()


def infer_architecture(shapes: Shapes, where: str = "the checkpoint") -> Inferred:
    """The architecture of a SIREN, a CIFAR ResNet or a chain of layers. Raises FormatError for anything else."""
    if "layer1.0.conv1.weight" in shapes and "linear.weight" in shapes:
        return Inferred(_cifar_resnet(shapes, where))
    if any(key.startswith("to_patch_embedding.") for key in shapes):
        raise FormatError(
            f"{where} is a SimpleViT, whose number of heads is in no tensor",
            hint="declare it in YAML: `like: simple-vit` with num_heads and the other sizes",
        )
    if _SIREN_KEY.fullmatch(next(iter(shapes), "")) and all(_SIREN_KEYS.fullmatch(key) for key in shapes):
        return Inferred(_siren(shapes, where), ("layers are taken for sines with omega_0 = 30, as their names are",))
    chain = _Chain(where)
    for prefix, tensors in _modules(shapes).items():
        chain.take(prefix, tensors)
    return chain.finish(shapes)


def _cifar_resnet(shapes: Shapes, where: str) -> Architecture:
    blocks = {match[0] for key in shapes if (match := _RESNET_BLOCK.fullmatch(key)) and match[1] == "1"}
    depth, classes = 3 * len(blocks) + 2, shapes["linear.weight"][0][0]
    if not 8 <= depth <= 1202 or classes > 100_000:
        raise FormatError(f"{where} has the names of a CIFAR ResNet, but {depth} layers", hint=_HINT)
    declaration = {"like": "cifar-resnet", "depth": depth, "num_classes": classes}
    return declared_architecture(declaration, shapes, where)


def _siren(shapes: Shapes, where: str) -> Architecture:
    weights = [shape for key, (shape, _) in shapes.items() if key.endswith("weight")]
    if any(len(shape) != 2 for shape in weights):
        raise FormatError(f"{where} has the names of a SIREN and weights of shapes {weights}", hint=_HINT)
    widths = [shape[0] for shape in weights]
    declaration = {"num_inputs": weights[0][1], "hidden": widths[:-1], "num_outputs": widths[-1]}
    return declared_architecture({"like": "siren", **declaration}, shapes, where)


def _modules(shapes: Shapes) -> dict[str, dict[str, tuple[tuple[int, ...], str]]]:
    """Tensors by the module that they are of, in order."""
    modules: dict[str, dict[str, tuple[tuple[int, ...], str]]] = {}
    for key, found in shapes.items():
        prefix, _, name = key.rpartition(".")
        modules.setdefault(prefix, {})[name] = found
    return modules


class _Chain:
    """Layers one behind the other, as far as the tensors have been read."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._layers: list[dict[str, Any]] = []
        self._entries: list[Entry] = []
        self._has_convolutions = False

    def take(self, prefix: str, tensors: dict[str, tuple[tuple[int, ...], str]]) -> None:
        """One module more: a linear layer, a convolution or a norm."""
        weight = tensors.get("weight")
        known = {"weight", "bias", *_STATISTICS}
        if weight is None or not set(tensors) <= known or len(weight[0]) not in (1, 2, 4):
            odd = next((name for name in tensors if name not in known), "weight")
            key = f"{prefix}.{odd}" if prefix else odd
            raise FormatError(f"{self._where}: can't tell what {printable(key, 80)!r} does", hint=_HINT)
        if len(weight[0]) == 1:
            self._norm(prefix, tensors)
        else:
            self._layer(prefix, tensors, weight[0])

    def finish(self, shapes: Shapes) -> Inferred:
        """The architecture of what was taken."""
        if not self._layers:
            raise FormatError(f"{self._where} has no layers", hint=_HINT)
        for layer in self._layers[:-1]:
            layer["activation"] = Activation("relu")
        by_key = {entry.key: entry for entry in self._entries}
        family = "cnn" if self._has_convolutions else "mlp"
        try:
            timestamps = [Timestamp(**layer) for layer in self._layers]
            entries = [by_key[key] for key in shapes]
            architecture = lay_out(self._layers[0]["num_sources"], timestamps, entries, family=family)
        except ValueError as error:
            raise FormatError(f"{self._where}: {printable(error, 200)}", hint=_HINT) from error
        assumed = ["activations are taken for relu"] if len(self._layers) > 1 else []
        if self._has_convolutions:
            assumed.append("convolutions for stride 1 without padding")
        return Inferred(architecture, tuple(assumed))

    def _layer(self, prefix: str, tensors: dict[str, tuple[tuple[int, ...], str]], shape: tuple[int, ...]) -> None:
        number = len(self._layers) + 1
        layer: dict[str, Any] = {"kind": "linear", "num_nodes": shape[0], "num_sources": shape[1]}
        if len(shape) == 4:
            self._has_convolutions = True
            layer |= {"kind": "conv", "kernel": shape[2:], "edges_per_pair": shape[2] * shape[3]}
        self._connect(prefix, layer)
        self._layers.append(layer | {"has_bias": "bias" in tensors})
        for name, (size, dtype) in tensors.items():
            role = {"weight": "weight", "bias": "bias"}.get(name)
            if role is None or (role == "bias" and size != (shape[0],)):
                raise FormatError(f"{self._where}: {printable(f'{prefix}.{name}', 80)!r} is {size}", hint=_HINT)
            self._entries.append(Entry(f"{prefix}.{name}" if prefix else name, size, role, number, dtype))  # type: ignore[arg-type]

    def _connect(self, prefix: str, layer: dict[str, Any]) -> None:
        """Make the layer follow on the one before: directly, behind a pooling over everything, or behind a flatten."""
        if not self._layers:
            return
        before, sources = self._layers[-1], layer["num_sources"]
        if layer["kind"] == "linear" and before["kind"] == "conv":
            if sources == before["num_nodes"]:
                layer |= {"kind": "pool_linear", "pooling": Pooling("mean")}
            elif sources % before["num_nodes"] == 0:
                positions = sources // before["num_nodes"]
                layer |= {"kind": "flatten_linear", "num_sources": before["num_nodes"], "edges_per_pair": positions}
        if layer["num_sources"] != before["num_nodes"]:
            raise FormatError(
                f"{self._where}: {printable(prefix, 80)!r} takes {sources} inputs, the layer before it has "
                f"{before['num_nodes']} nodes",
                hint=_HINT,
            )

    def _norm(self, prefix: str, tensors: dict[str, tuple[tuple[int, ...], str]]) -> None:
        if not self._layers or "norm" in self._layers[-1] or tensors["weight"][0] != (self._layers[-1]["num_nodes"],):
            raise FormatError(f"{self._where}: can't tell what the norm {printable(prefix, 80)!r} is for", hint=_HINT)
        is_batch = "running_mean" in tensors
        if not is_batch and self._layers[-1]["kind"] == "conv":
            raise FormatError(f"{self._where}: {printable(prefix, 80)!r} may be a group or a layer norm", hint=_HINT)
        self._layers[-1]["norm"] = Norm("batch" if is_batch else "layer")
        roles = {"weight": "scale", "bias": "shift", **{name: name for name in _STATISTICS}}
        for name, (size, dtype) in tensors.items():
            self._entries.append(Entry(f"{prefix}.{name}", size, roles[name], len(self._layers), dtype))  # type: ignore[arg-type]
