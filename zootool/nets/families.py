"""Known families by their parameters, `like: NAME` in a declaration, under whatever keys a checkpoint has."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zootool.architecture import Activation, Architecture
from zootool.errors import FormatError, did_you_mean, printable
from zootool.nets.chain import ChainOptions, Inferred, chain_of
from zootool.nets.lay_out import renamed
from zootool.nets.layer_order import layer_order
from zootool.nets.module_names import Shapes, common_path, is_in_order_of_definition, modules_of
from zootool.validation import Entry as Model
from zootool.validation import validate

Size = Annotated[int, Field(ge=1, le=1 << 24)]
Frequency = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Offset = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Names = Annotated[tuple[str, ...], Field(max_length=10_000)]


class DeclaredActivation(Model):
    """A pointwise function, by its name or as a mapping with its parameters."""

    name: Literal[
        "none", "sine", "relu", "relu6", "leaky_relu", "gelu", "tanh", "sigmoid", "silu", "elu", "softplus"
    ] = "none"  # fmt: skip
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


class Chain(Model):
    """Layers one behind the other in this `order` (of layers, or of layers and norms), with these activations."""

    order: Names = ()
    activation: DeclaredActivation | None = None
    output_activation: DeclaredActivation | None = None

    def inferred(self, shapes: Shapes, where: str) -> Inferred:
        """The chain that these tensors are."""
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
        from zootool.nets.siren_architecture import siren_architecture

        return siren_architecture(**dict(self))


class _Cnn(_Family):
    channels: Annotated[tuple[Size, ...], Field(max_length=1000)] | None = None
    kernels: tuple[Annotated[int, Field(ge=1, le=1000)], ...] | None = None
    strides: tuple[Annotated[int, Field(ge=1, le=1000)], ...] | None = None
    paddings: tuple[Annotated[int, Field(ge=0, le=1000)], ...] | None = None
    activations: tuple[str, ...] | None = None
    residuals: tuple[int | None, ...] | None = None
    num_classes: Size | None = None
    head: str | None = None
    image_shape: tuple[Size, Size] | None = None

    def architecture(self) -> Architecture:
        from zootool.nets.cnn_architecture import CnnConfig, cnn_architecture

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
        from zootool.nets.vit_architecture import SimpleVitConfig, simple_vit_architecture

        return simple_vit_architecture(SimpleVitConfig(**dict(self)))


class _CifarResnet(_Family):
    depth: Annotated[int, Field(ge=8, le=1202)] = 20
    num_classes: Annotated[int, Field(ge=1, le=100_000)] = 10

    def architecture(self) -> Architecture:
        from zootool.nets.resnet import cifar_resnet_architecture

        return cifar_resnet_architecture(self.depth, self.num_classes)

    def inferred(self, shapes: Shapes, where: str) -> Inferred:
        if self.depth % 6 != 2:
            raise FormatError(f"{where}: depth must be 6 n + 2, got {self.depth}", hint="such as 20, 32, 44 or 56")
        # Building the module of a thousand layers only to find that there are ten would take long.
        num_weights = sum(len(shape) == 4 for shape, _ in shapes.values())
        if num_weights != self.depth - 1:
            raise FormatError(f"{where}: depth {self.depth} has {self.depth - 1} convolutions, there are {num_weights}")
        return super().inferred(shapes, where)


FAMILIES: dict[str, type[Chain] | type[_Family]] = {
    "chain": Chain,
    "siren": _Siren,
    "cnn": _Cnn,
    "simple-vit": _SimpleVit,
    "cifar-resnet": _CifarResnet,
}


def like(declaration: Mapping[str, Any], shapes: Shapes, where: str) -> Inferred:
    """A known family with the declared parameters. Raises FormatError for unknown, missing and excessive ones."""
    name = declaration["like"]
    if not isinstance(name, str) or name not in FAMILIES:
        raise FormatError(
            f"{where}: there is no family {printable(name, 60)!r}", hint=did_you_mean(str(name)[:60], FAMILIES)
        )
    parameters = {str(key): value for key, value in declaration.items() if key != "like"}
    family = validate(FAMILIES[name], parameters, where)
    try:
        return family.inferred(shapes, where)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {printable(error, 200)}", hint=f"the parameters of {name}") from error


def with_keys(
    architecture: Architecture, shapes: Shapes, where: str, bare: Mapping[str, str] | None = None
) -> Architecture:
    """The architecture under a checkpoint's own keys and dtypes: by equal names, by names behind a prefix, by order.

    `bare` says which key is to be known under which name, by default those of `bare_names`. Counters that older
    versions of torch didn't save may be missing. Raises FormatError where shapes differ, or where nothing tells which
    tensor is which.
    """
    own = {slot.key: slot for slot in architecture.slots if not slot.rounded}
    needed = [key for key, slot in own.items() if slot.role != "num_batches_tracked"]
    bare = bare_names(shapes) if bare is None else bare
    if set(needed) <= set(bare) <= set(own):
        names = {key: bare[key] for key in own if key in bare}
    else:
        counts = {len(own): list(own), len(needed): needed}
        if len(shapes) not in counts:
            raise FormatError(
                f"{where}: the checkpoint has {len(shapes)} tensors, the architecture {len(own)}, "
                f"{len(own) - len(needed)} of them counters",
                hint="compare the parameters with the tensors' shapes",
            )
        names = dict(zip(counts[len(shapes)], _in_order(shapes, where), strict=True))
    for old, new in names.items():
        shape, dtype = shapes[new]
        is_counter = own[old].role == "num_batches_tracked"
        if own[old].shape != shape or (dtype != own[old].dtype and ("float" not in dtype or is_counter)):
            raise FormatError(
                f"{where}: {printable(new, 80)!r} is {dtype} {shape}, "
                f"the architecture says {own[old].dtype} {own[old].shape} for {old!r}",
                hint="compare the parameters with the tensors' shapes",
            )
    dtypes = {new: shapes[new][1] for new in names.values()}
    if list(names) == list(own) and all(old == new and own[old].dtype == dtypes[new] for old, new in names.items()):
        return architecture
    return renamed(architecture, names, dtypes)


def bare_names(shapes: Shapes) -> dict[str, str]:
    """What keys are called without wrappers and the prefix that all share -> the key."""
    modules = modules_of(shapes)
    shared = len(common_path(modules))
    return {
        ".".join((*(segment for segment in module.path[shared:] if segment), name)): module.key(name)
        for module in modules
        for name in module.tensors
    }


def _in_order(shapes: Shapes, where: str) -> list[str]:
    """The keys as the modules were defined, or else as names and shapes put layers without norms."""
    modules = modules_of(shapes)
    is_saved_in_order = is_in_order_of_definition(shapes)
    are_layers = all(set(m.tensors) <= {"weight", "bias"} and len(m.weight) in (2, 4) for m in modules)
    if are_layers:
        modules, _ = layer_order(modules, is_saved_in_order, where)
    elif not is_saved_in_order:
        raise FormatError(
            f"{where}: its names aren't the family's, and its tensors are sorted, so nothing tells which is which",
            hint="convert the torch file that it was made from, or declare the layers one by one",
        )
    else:
        return list(shapes)
    return [module.key(name) for module in modules for name in ("weight", "bias") if name in module.tensors]
