"""An Architecture that a user declares for checkpoints: which tensor is what, in YAML.

    num_inputs: 49
    tokens: {patch_size: 7, patch_order: channels, positions: learned}
    position: pos_embed
    layers:
      - {kind: linear, weight: patch_embed.proj.weight, bias: patch_embed.proj.bias}
      - {kind: qkv, weight: blocks.0.qkv.weight, num_heads: 4, source_norm: {kind: layer, at: blocks.0.norm}}
      - {kind: attention, num_heads: 4}
      - {kind: linear, weight: blocks.0.out.weight, residuals: [{source: 1}]}

Sizes come from the tensors. What a layer computes is written as in `Timestamp`. Or a known family by its parameters
(`zootool.nets.families`):

    like: simple-vit
    num_heads: 4
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from zootool.architecture import Architecture, Norm, Pooling, Residual, Role, Timestamp, Tokens
from zootool.errors import FormatError, did_you_mean, printable
from zootool.nets.chain import Inferred
from zootool.nets.families import DeclaredActivation, Offset, like
from zootool.nets.lay_out import Entry, lay_out
from zootool.nets.module_names import Shapes
from zootool.validation import Entry as Model
from zootool.validation import validate

Keys = Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
Step = Annotated[int, Field(ge=1, le=100_000)]
_NORM_KEYS: dict[str, Role] = {
    "weight": "scale", "bias": "shift", "running_mean": "running_mean", "running_var": "running_var",
    "num_batches_tracked": "num_batches_tracked",
}  # fmt: skip


class DeclaredNorm(Model):
    """A norm, and the prefix of its tensors: `at`.weight, `at`.bias, and running statistics where it has them."""

    kind: Literal["batch", "layer", "group"]
    at: str
    eps: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1e-5
    num_groups: Step | None = None


class DeclaredLayer(Model):
    """One layer. `weight` is a key, or several whose tensors stand behind one another as listed: queries, keys, values.

    `bias` is alike.
    """

    kind: Literal["linear", "conv", "flatten_linear", "pool_linear", "qkv", "attention"]
    weight: str | Keys | None = None
    bias: str | Keys | None = None
    activation: DeclaredActivation = DeclaredActivation()
    source_activation: DeclaredActivation = DeclaredActivation()
    stride: Step = 1
    padding: Annotated[int, Field(ge=0, le=100_000)] = 0
    dilation: Step = 1
    pooling: Pooling | None = None
    output_pooling: Pooling | None = None
    norm: DeclaredNorm | None = None
    source_norm: DeclaredNorm | None = None
    num_heads: Step | None = None
    residuals: Annotated[tuple[Residual, ...], Field(max_length=1000)] = ()


class DeclaredNetwork(Model):
    """All layers, and tensors that belong to none: positions, a class token, and `other` ones that are only kept."""

    num_inputs: Annotated[int, Field(gt=0, le=1 << 24)]
    layers: Annotated[tuple[DeclaredLayer, ...], Field(min_length=1, max_length=10_000)]
    family: str = "declared"
    tokens: Tokens | None = None
    position: str | None = None
    token: str | None = None
    other: tuple[str, ...] = ()
    output_offset: Offset = 0.0


def declared_architecture(declaration: Any, shapes: Shapes, where: str = "the declaration") -> Architecture:
    """The architecture that `declaration` (from YAML) gives to tensors of these shapes.

    Raises FormatError for unknown or missing keys, for tensors that no layer uses, and for sizes that don't fit.
    """
    return read_declaration(declaration, shapes, where).architecture


def read_declaration(declaration: Any, shapes: Shapes, where: str = "the declaration") -> Inferred:
    """The same with what the declaration leaves to be assumed."""
    if isinstance(declaration, dict) and "like" in declaration:
        return like(declaration, shapes, where)
    return Inferred(_layer_by_layer(declaration, shapes, where))


def _layer_by_layer(declaration: Any, shapes: Shapes, where: str) -> Architecture:
    network = validate(DeclaredNetwork, declaration, where)
    draft = _Draft(shapes, where)
    try:
        timestamps = [draft.layer(number, layer) for number, layer in enumerate(network.layers, start=1)]
        for key, role in ((network.position, "position"), (network.token, "token")):
            if key is not None:
                draft.use(key, role, None)
        for key in network.other:
            draft.use(key, "other", None)
        rest = {"family": network.family, "tokens": network.tokens, "output_offset": network.output_offset}
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

    def use(self, key: str, role: Role, timestamp: int | None, part: int = 0) -> tuple[int, ...]:
        """Give a tensor its role, and its part among those of one role; returns its shape."""
        if key not in self._shapes:
            raise FormatError(f"{self._where} names {printable(key, 80)!r}, which the checkpoint lacks",
                              hint=did_you_mean(key, list(self._shapes)))  # fmt: skip
        if key in self._entries:
            raise FormatError(f"{self._where} uses {printable(key, 80)!r} twice", hint="each tensor has one part")
        shape, dtype = self._shapes[key]
        if role in ("weight", "bias") and "float" not in dtype:
            raise FormatError(f"{self._where}: {printable(key, 80)!r} is {dtype}, no layer computes with that",
                              hint="convert the network before it was quantised")  # fmt: skip
        self._entries[key] = Entry(key, shape, role, timestamp, dtype, part=part)
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
            activation=layer.activation.activation,
            source_activation=layer.source_activation.activation,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            pooling=layer.pooling,
            output_pooling=layer.output_pooling,
            norm=_norm(layer.norm),
            source_norm=_norm(layer.source_norm),
            num_heads=layer.num_heads,
            residuals=layer.residuals,
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
        shapes = [self.use(key, "weight", number, part) for part, key in enumerate(_keys(layer.weight))]
        if any(len(shape) not in (2, 4) or shape[1:] != shapes[0][1:] for shape in shapes):
            raise FormatError(
                f"{self._where}: layer {number} has weights of shapes {shapes}", hint="wanted: 2 or 4 axes"
            )
        biases = [self.use(key, "bias", number, part) for part, key in enumerate(_keys(layer.bias))]
        num_nodes, num_sources = sum(shape[0] for shape in shapes), shapes[0][1]
        if biases and biases not in ([shape[:1] for shape in shapes], [(num_nodes,)]):
            raise FormatError(
                f"{self._where}: layer {number} has weights of {shapes} and biases of {biases}",
                hint="list a bias for each weight, in the same order, or one for all",
            )
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


def _keys(keys: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if keys is None else (keys,) if isinstance(keys, str) else keys


def _norm(norm: DeclaredNorm | None) -> Norm | None:
    return None if norm is None else Norm(norm.kind, norm.eps, norm.num_groups)
