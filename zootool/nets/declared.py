"""An Architecture that a user declares for checkpoints: which tensor is what, in YAML.

    num_inputs: 49
    tokens: {patch_size: 7, patch_order: channels, positions: learned}
    position: pos_embed
    layers:
      - {kind: linear, weight: patch_embed.proj.weight, bias: patch_embed.proj.bias}
      - {kind: qkv, weight: blocks.0.qkv.weight, num_heads: 4, source_norm: {kind: layer, at: blocks.0.norm}}
      - {kind: attention, num_heads: 4}
      - {kind: linear, weight: blocks.0.out.weight, residuals: [{source: 1}]}

Sizes come from the tensors. What a layer computes is written as in `Timestamp`. Or a known family by its parameters,
under whatever keys the checkpoint has (`FAMILIES`):

    like: simple-vit
    num_heads: 4
"""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, model_validator

from zootool.architecture import Activation, Architecture, Norm, Pooling, Residual, Role, Timestamp, Tokens
from zootool.architecture.kinds import KINDS
from zootool.architecture.steps import ActivationName
from zootool.errors import FormatError, did_you_mean, printable
from zootool.nets.chain import ChainOptions, Inferred, chain_of
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.lay_out import NORM_ROLES, Entry, lay_out, norm_role, with_keys
from zootool.nets.module_names import Shapes
from zootool.nets.siren import siren_architecture
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture
from zootool.validation import Entry as Model
from zootool.validation import validate


def _known_kind(value: Any) -> str:
    if not isinstance(value, str) or value not in KINDS:
        *others, last = map(repr, KINDS)
        raise ValueError(f"Input should be {', '.join(others)} or {last}")
    return value


Keys = Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
Step = Annotated[int, Field(ge=1, le=100_000)]
Size = Annotated[int, Field(ge=1, le=1 << 24)]
Window = Annotated[int, Field(ge=1, le=1000)]
Frequency = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Offset = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class DeclaredActivation(Model):
    """A pointwise function, by its name or as a mapping with its parameters."""

    name: ActivationName = "none"
    omega_0: Frequency | None = None
    negative_slope: Offset | None = None
    approximate: Literal["tanh"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def activation(self) -> Activation:
        """As an architecture has it."""
        return Activation(**dict(self))


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

    kind: Annotated[str, PlainValidator(_known_kind)]
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

    def inferred(self, shapes: Shapes, where: str) -> Inferred:
        """The architecture, with what is left to be assumed: nothing."""
        draft = _Draft(shapes, where)
        timestamps = [draft.layer(number, layer) for number, layer in enumerate(self.layers, start=1)]
        for key, role in ((self.position, "position"), (self.token, "token"), *((key, "other") for key in self.other)):
            if key is not None:
                draft.use(key, role, None)
        rest = {"family": self.family, "tokens": self.tokens, "output_offset": self.output_offset}
        return Inferred(lay_out(self.num_inputs, timestamps, draft.entries(), **rest))


class _Chain(Model):
    """Layers one behind the other in this `order` (of layers, or of layers and norms), with these activations."""

    order: Annotated[tuple[str, ...], Field(max_length=10_000)] = ()
    activation: DeclaredActivation | None = None
    output_activation: DeclaredActivation | None = None

    def inferred(self, shapes: Shapes, where: str) -> Inferred:
        hidden, output = (None if a is None else a.activation for a in (self.activation, self.output_activation))
        return chain_of(shapes, where, ChainOptions(self.order, hidden, output))


class _Family(Model):
    """Base of families whose tensors follow from their parameters."""

    def architecture(self) -> Architecture:
        raise NotImplementedError

    def inferred(self, shapes: Shapes, where: str) -> Inferred:
        """The family's architecture under the checkpoint's keys."""
        return Inferred(with_keys(self.architecture(), shapes, where))


class _Siren(_Family):
    num_inputs: Size
    hidden: Annotated[tuple[Size, ...], Field(min_length=1, max_length=1000)]
    num_outputs: Size
    omega_0: Frequency = 30.0
    first_omega_0: Frequency | None = None
    output_offset: Offset = 0.0
    sine_output: bool = False

    def architecture(self) -> Architecture:
        return siren_architecture(**dict(self))


class _Cnn(_Family):
    channels: Annotated[tuple[Size, ...], Field(max_length=1000)] | None = None
    kernels: tuple[Window, ...] | None = None
    strides: tuple[Window, ...] | None = None
    paddings: tuple[Annotated[int, Field(ge=0, le=1000)], ...] | None = None
    activations: tuple[str, ...] | None = None
    residuals: tuple[int | None, ...] | None = None
    num_classes: Size | None = None
    head: str | None = None
    image_shape: tuple[Size, Size] | None = None

    def architecture(self) -> Architecture:
        return cnn_architecture(CnnConfig(**{name: value for name, value in self if value is not None}))


class _SimpleVit(_Family):
    channels: Annotated[int, Field(ge=1, le=10_000)] = 3
    patch_size: Annotated[int, Field(ge=1, le=10_000)] = 4
    dim: Annotated[int, Field(ge=1, le=1 << 20)] = 32
    depth: Annotated[int, Field(ge=1, le=1000)] = 2
    num_heads: Annotated[int, Field(ge=1, le=10_000)] = 4
    head_dim: Annotated[int, Field(ge=1, le=100_000)] = 16
    mlp_dim: Size = 64
    num_classes: Size = 10

    def architecture(self) -> Architecture:
        return simple_vit_architecture(SimpleVitConfig(**dict(self)))


class _CifarResnet(_Family):
    depth: Annotated[int, Field(ge=8, le=1202)] = 20
    num_classes: Annotated[int, Field(ge=1, le=100_000)] = 10

    def architecture(self) -> Architecture:
        from zootool.nets.resnet import cifar_resnet_architecture  # it is traced, by torch

        return cifar_resnet_architecture(self.depth, self.num_classes)

    def inferred(self, shapes: Shapes, where: str) -> Inferred:
        if self.depth % 6 != 2:
            raise FormatError(f"{where}: depth must be 6 n + 2, got {self.depth}", hint="such as 20, 32, 44 or 56")
        # Building the module of a thousand layers only to find that there are ten would take long.
        num_weights = sum(len(shape) == 4 for shape, _ in shapes.values())
        if num_weights != self.depth - 1:
            raise FormatError(f"{where}: depth {self.depth} has {self.depth - 1} convolutions, there are {num_weights}")
        return super().inferred(shapes, where)


FAMILIES: dict[str, type[_Chain] | type[_Family]] = {
    "chain": _Chain,
    "siren": _Siren,
    "cnn": _Cnn,
    "simple-vit": _SimpleVit,
    "cifar-resnet": _CifarResnet,
}


def read_declaration(declaration: Any, shapes: Shapes, where: str = "the declaration") -> Inferred:
    """The architecture that `declaration` (from YAML) gives to tensors of these shapes, and what it leaves to assume.

    Raises FormatError for unknown or missing keys, for tensors that no layer uses, and for sizes that don't fit.
    """
    kind, hint = DeclaredNetwork, "compare it with the tensors' shapes"
    if isinstance(declaration, dict) and "like" in declaration:
        name = declaration["like"]
        if not isinstance(name, str) or name not in FAMILIES:
            raise FormatError(
                f"{where}: there is no family {printable(name, 60)!r}", hint=did_you_mean(str(name)[:60], FAMILIES)
            )
        kind, hint = FAMILIES[name], f"the parameters of {name}"
        declaration = {str(key): value for key, value in declaration.items() if key != "like"}
    network = validate(kind, declaration, where)
    try:
        return network.inferred(shapes, where)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {printable(error, 200)}", hint=hint) from error


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
        fields: dict[str, Any] = self._sizes(number, layer)
        for name, is_source in (("norm", False), ("source_norm", True)):
            norm: DeclaredNorm | None = getattr(layer, name)
            if norm is not None:
                self._use_norm(norm, number, is_source)
                fields[name] = Norm(norm.kind, norm.eps, norm.num_groups)
        self._num_nodes = fields["num_nodes"]
        for name in ("stride", "padding", "dilation", "pooling", "output_pooling", "num_heads", "residuals"):
            fields[name] = getattr(layer, name)
        return Timestamp(
            layer.kind,
            activation=layer.activation.activation,
            source_activation=layer.source_activation.activation,
            **fields,
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
        kind = KINDS[layer.kind]
        if not kind.has_edges:
            return kind.sizes((), self._num_nodes)
        if layer.weight is None:
            raise FormatError(f"{self._where}: layer {number} ({layer.kind}) has no weight", hint="name its tensor")
        shapes = [self.use(key, "weight", number, part) for part, key in enumerate(_keys(layer.weight))]
        if any(len(shape) not in (2, 4) or shape[1:] != shapes[0][1:] for shape in shapes):
            raise FormatError(
                f"{self._where}: layer {number} has weights of shapes {shapes}", hint="wanted: 2 or 4 axes"
            )
        biases = [self.use(key, "bias", number, part) for part, key in enumerate(_keys(layer.bias))]
        joined = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        if biases and biases not in ([shape[:1] for shape in shapes], [joined[:1]]):
            raise FormatError(
                f"{self._where}: layer {number} has weights of {shapes} and biases of {biases}",
                hint="list a bias for each weight, in the same order, or one for all",
            )
        return {"has_bias": layer.bias is not None, **kind.sizes(joined, self._num_nodes)}

    def _use_norm(self, norm: DeclaredNorm, number: int, is_source: bool) -> None:
        for name in NORM_ROLES:
            key = f"{norm.at}.{name}"
            if key in self._shapes:
                self.use(key, norm_role(name, is_source), number)
            elif name == "weight" and f"{norm.at}.bias" not in self._shapes:
                raise FormatError(f"{self._where}: there is no norm at {printable(norm.at, 80)!r}")


def _keys(keys: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if keys is None else (keys,) if isinstance(keys, str) else keys
