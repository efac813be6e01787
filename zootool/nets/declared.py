"""An Architecture that a user declares for checkpoints: which tensor is what, in YAML.

    num_inputs: 49
    tokens: {patch_size: 7, patch_order: channels, positions: learned}
    position: pos_embed
    layers:
      - {kind: linear, weight: patch_embed.proj.weight, bias: patch_embed.proj.bias}
      - {kind: qkv, weight: blocks.0.qkv.weight, num_heads: 4, source_norm: {kind: layer, at: blocks.0.norm}}
      - {kind: attention, num_heads: 4}
      - {kind: linear, weight: blocks.0.out.weight, residuals: [{source: 1}]}

Sizes come from the tensors. What a layer computes is written as in `Timestamp`. Or a known family by its parameters:

    like: simple-vit
    num_heads: 4
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from zootool.architecture import Activation, Architecture, Norm, Pooling, Residual, Role, Timestamp, Tokens
from zootool.errors import FormatError, did_you_mean, printable
from zootool.nets.lay_out import Entry, lay_out, renamed
from zootool.validation import Entry as Model
from zootool.validation import validate

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""state_dict key -> (shape, dtype), in the checkpoint's order."""

Keys = Annotated[tuple[str, ...], Field(min_length=1)]
_NORM_KEYS: dict[str, Role] = {
    "weight": "scale", "bias": "shift", "running_mean": "running_mean", "running_var": "running_var",
    "num_batches_tracked": "num_batches_tracked",
}  # fmt: skip


class DeclaredNorm(Model):
    """A norm, and the prefix of its tensors: `at`.weight, `at`.bias, and running statistics where it has them."""

    kind: Literal["batch", "layer", "group"]
    at: str
    eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    num_groups: int | None = None


class DeclaredLayer(Model):
    """One layer. `weight` is a key, or several whose tensors stand behind one another: queries, keys and values."""

    kind: Literal["linear", "conv", "flatten_linear", "pool_linear", "qkv", "attention"]
    weight: str | Keys | None = None
    bias: str | Keys | None = None
    activation: str | dict[str, Any] = "none"
    source_activation: str | dict[str, Any] = "none"
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    pooling: dict[str, Any] | None = None
    output_pooling: dict[str, Any] | None = None
    norm: DeclaredNorm | None = None
    source_norm: DeclaredNorm | None = None
    num_heads: int | None = None
    residuals: tuple[dict[str, Any], ...] = ()


class DeclaredNetwork(Model):
    """All layers, and tensors that belong to none: positions, a class token, and `other` ones that are only kept."""

    num_inputs: Annotated[int, Field(gt=0)]
    layers: Annotated[tuple[DeclaredLayer, ...], Field(min_length=1)]
    family: str = "declared"
    tokens: dict[str, Any] | None = None
    position: str | None = None
    token: str | None = None
    other: tuple[str, ...] = ()
    output_offset: float = 0.0


def declared_architecture(declaration: Any, shapes: Shapes, where: str = "the declaration") -> Architecture:
    """The architecture that `declaration` (from YAML) gives to tensors of these shapes.

    Raises FormatError for unknown or missing keys, for tensors that no layer uses, and for sizes that don't fit.
    """
    if isinstance(declaration, dict) and "like" in declaration:
        return _like(declaration, shapes, where)
    network = validate(DeclaredNetwork, declaration, where)
    draft = _Draft(shapes, where)
    try:
        timestamps = [draft.layer(number, layer) for number, layer in enumerate(network.layers, start=1)]
        for key, role in ((network.position, "position"), (network.token, "token")):
            if key is not None:
                draft.use(key, role, None)
        for key in network.other:
            draft.use(key, "other", None)
        tokens = None if network.tokens is None else Tokens(**network.tokens)
        rest = {"family": network.family, "tokens": tokens, "output_offset": network.output_offset}
        return lay_out(network.num_inputs, timestamps, draft.entries(), **rest)
    except (ValueError, TypeError) as error:
        raise FormatError(f"{where}: {printable(error, 200)}", hint="compare it with the tensors' shapes") from error


class _Draft:
    """The tensors' parts so far; the number of nodes before the next layer."""

    def __init__(self, shapes: Shapes, where: str) -> None:
        self._shapes = shapes
        self._where = where
        self._entries: dict[str, Entry] = {}
        self._num_nodes = 0

    def use(self, key: str, role: Role, timestamp: int | None) -> tuple[int, ...]:
        """Give a tensor its part; returns its shape."""
        if key not in self._shapes:
            raise FormatError(f"{self._where} names {printable(key, 80)!r}, which the checkpoint lacks",
                              hint=did_you_mean(key, list(self._shapes)))  # fmt: skip
        if key in self._entries:
            raise FormatError(f"{self._where} uses {printable(key, 80)!r} twice", hint="each tensor has one part")
        shape, dtype = self._shapes[key]
        self._entries[key] = Entry(key, shape, role, timestamp, dtype)
        return shape

    def layer(self, number: int, layer: DeclaredLayer) -> Timestamp:
        """The timestamp of a declared layer, its tensors used."""
        if layer.kind == "attention":
            sizes: dict[str, Any] = {"num_nodes": self._num_nodes // 3, "num_sources": self._num_nodes}
            sizes |= {"edges_per_pair": 0, "has_bias": False}
        else:
            sizes = self._sizes(number, layer)
        if layer.norm is not None:
            self._use_norm(layer.norm, number, "")
        if layer.source_norm is not None:
            self._use_norm(layer.source_norm, number, "source_")
        self._num_nodes = sizes["num_nodes"]
        return Timestamp(
            layer.kind,
            **sizes,
            activation=_activation(layer.activation),
            source_activation=_activation(layer.source_activation),
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            pooling=None if layer.pooling is None else Pooling(**layer.pooling),
            output_pooling=None if layer.output_pooling is None else Pooling(**layer.output_pooling),
            norm=_norm(layer.norm),
            source_norm=_norm(layer.source_norm),
            num_heads=layer.num_heads,
            residuals=tuple(Residual(**residual) for residual in layer.residuals),
        )

    def entries(self) -> list[Entry]:
        """Every tensor's entry, in the checkpoint's order. Raises FormatError where one has no part."""
        unused = [key for key in self._shapes if key not in self._entries]
        if unused:
            raise FormatError(
                f"{self._where} gives no part to {printable(unused[0], 80)!r} and {len(unused) - 1} other tensors",
                hint="list them under `other` to keep them without a part in the graph",
            )
        return [self._entries[key] for key in self._shapes]

    def _sizes(self, number: int, layer: DeclaredLayer) -> dict[str, Any]:
        if layer.weight is None:
            raise FormatError(f"{self._where}: layer {number} ({layer.kind}) has no weight", hint="name its tensor")
        shapes = [self.use(key, "weight", number) for key in _keys(layer.weight)]
        if any(len(shape) not in (2, 4) or shape[1:] != shapes[0][1:] for shape in shapes):
            raise FormatError(
                f"{self._where}: layer {number} has weights of shapes {shapes}", hint="wanted: 2 or 4 axes"
            )
        for key in _keys(layer.bias):
            self.use(key, "bias", number)
        num_nodes, num_sources = sum(shape[0] for shape in shapes), shapes[0][1]
        sizes: dict[str, Any] = {"num_nodes": num_nodes, "has_bias": layer.bias is not None}
        if len(shapes[0]) == 4:
            kernel = shapes[0][2:]
            return sizes | {"num_sources": num_sources, "kernel": kernel, "edges_per_pair": kernel[0] * kernel[1]}
        if layer.kind == "flatten_linear":
            positions = num_sources // max(self._num_nodes, 1)
            return sizes | {"num_sources": self._num_nodes, "edges_per_pair": positions}
        return sizes | {"num_sources": num_sources}

    def _use_norm(self, norm: DeclaredNorm, number: int, prefix: str) -> None:
        for name, role in _NORM_KEYS.items():
            key = f"{norm.at}.{name}"
            if key in self._shapes:
                counts = role == "num_batches_tracked"
                self.use(key, role if counts else f"{prefix}{role}", number)  # type: ignore[arg-type]
            elif name == "weight" and f"{norm.at}.bias" not in self._shapes:
                raise FormatError(f"{self._where}: there is no norm at {printable(norm.at, 80)!r}")


def _like(declaration: dict[str, Any], shapes: Shapes, where: str) -> Architecture:
    """A known family with these parameters, its keys taken from the checkpoint in order."""
    parameters = {str(key): value for key, value in declaration.items() if key != "like"}
    name = declaration["like"]
    if name not in FAMILIES:
        raise FormatError(
            f"{where}: there is no family {printable(name, 60)!r}", hint=did_you_mean(str(name), FAMILIES)
        )
    try:
        architecture = FAMILIES[name](**{key: _tuple(value) for key, value in parameters.items()})
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {printable(error, 200)}", hint=f"the parameters of {name}") from error
    return with_keys(architecture, shapes, where)


def with_keys(architecture: Architecture, shapes: Shapes, where: str) -> Architecture:
    """The architecture under a checkpoint's own keys: equal names, else tensor by tensor in order.

    Counters that older versions of torch didn't save may be missing. Raises FormatError where shapes differ.
    """
    own = {slot.key: slot for slot in architecture.slots if not slot.rounded}
    kept = [key for key, slot in own.items() if key in shapes or slot.role != "num_batches_tracked"]
    names = dict(zip(kept, kept if set(kept) == set(shapes) else shapes, strict=False))
    if len(kept) != len(shapes):
        raise FormatError(f"{where}: the checkpoint has {len(shapes)} tensors, the architecture {len(kept)}")
    for old, new in names.items():
        if own[old].shape != shapes[new][0] or own[old].dtype != shapes[new][1]:
            raise FormatError(
                f"{where}: {printable(new, 80)!r} is {shapes[new][1]} {shapes[new][0]}, "
                f"the architecture says {own[old].dtype} {own[old].shape} for {old!r}"
            )
    return (
        renamed(architecture, names)
        if list(names) != list(own) or any(a != b for a, b in names.items())
        else (architecture)
    )


def _siren(**parameters: Any) -> Architecture:
    from zootool.nets.siren_architecture import siren_architecture

    return siren_architecture(**parameters)


def _cnn(**parameters: Any) -> Architecture:
    from zootool.nets.cnn_architecture import CnnConfig, cnn_architecture

    return cnn_architecture(CnnConfig(**parameters))


def _simple_vit(**parameters: Any) -> Architecture:
    from zootool.nets.vit_architecture import SimpleVitConfig, simple_vit_architecture

    return simple_vit_architecture(SimpleVitConfig(**parameters))


def _cifar_resnet(**parameters: Any) -> Architecture:
    from zootool.nets.resnet import cifar_resnet_architecture

    return cifar_resnet_architecture(**parameters)


FAMILIES: dict[str, Callable[..., Architecture]] = {
    "siren": _siren,
    "cnn": _cnn,
    "simple-vit": _simple_vit,
    "cifar-resnet": _cifar_resnet,
}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value


def _keys(keys: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if keys is None else (keys,) if isinstance(keys, str) else keys


def _activation(value: str | dict[str, Any]) -> Activation:
    return Activation(value) if isinstance(value, str) else Activation(**value)


def _norm(norm: DeclaredNorm | None) -> Norm | None:
    return None if norm is None else Norm(norm.kind, norm.eps, norm.num_groups)
