"""From a live torch module to its Architecture, by torch.fx.

What can be expressed: the layers of `zootool.architecture.kinds` in a row, flattened or pooled in between; batch, layer
and group norms; pointwise activations; outputs of earlier layers that are added, cut and padded as parameter-free
shortcuts are. Dropout is left out, as at inference.
"""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from zootool.architecture import Activation, Architecture, Norm, Pooling, Residual, Role, Timestamp
from zootool.architecture.kinds import KINDS, TracedSources
from zootool.architecture.layers import traced_cut, traced_pad
from zootool.architecture.steps import scaled, traced_activation, traced_norm, traced_pooling
from zootool.errors import FormatError, printable
from zootool.nets.lay_out import NORM_ROLES, Entry, lay_out, norm_role
from zootool.nets.network import Network

_Step = tuple[str, Any]
"""A step behind or before a layer, and what goes with it: nothing, activation, norm (with its name), pooling, flatten,
scale, offset, cut (with its stride) or pad (with its width before)."""

_BEHIND_OR_BEFORE = {
    "norm": ("norm", "source_norm"),
    "pooling": ("output_pooling", "pooling"),
    "activation": ("activation", "source_activation"),
}
"""Steps that belong to the layer before them, where it still takes them, or else to the next one."""

# Modules that are looked into, for the function that each calls.
_CALLS = (
    nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.LeakyReLU, nn.GELU, nn.ReLU, nn.ReLU6, nn.Tanh, nn.Sigmoid,
    nn.SiLU, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.MaxPool2d,
)  # fmt: skip

_STEPS = ("product", "norm", "residual", "output_pooling", "activation", "late residual")


@torch.no_grad()
def architecture_of(module: nn.Module, example_input: Tensor, family: str = "traced") -> Architecture:
    """The architecture of `module`, for inputs like `example_input` (with a batch axis).

    Raises FormatError that names the operation which no architecture can express.
    """
    was_training = module.training
    module.eval()
    try:
        graph = fx.GraphModule(module, _Tracer().trace(module), type(module).__name__)
        _Recorder(graph).run(example_input)
        wanted = module(example_input)
    except Exception as error:
        # fx raises all sorts of errors for control flow that depends on values.
        raise FormatError(f"{type(module).__name__} can't be traced ({printable(error, 200)})") from error
    finally:
        module.train(was_training)
    walk = _Walk(module, graph)
    for node in graph.graph.nodes:
        walk.visit(node)
    architecture = walk.finish(family)
    # The walk's rules are about forms; this is about numbers.
    rebuilt = Network(architecture, allow_unused=True).eval()
    rebuilt.load_state_dict(module.state_dict())
    if not torch.allclose(rebuilt(example_input), wanted, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise FormatError(
            f"the architecture traced from {type(module).__name__} computes something else than the module",
            hint="describe the architecture by hand",
        )
    return architecture


class _Tracer(fx.Tracer):
    """Looks into modules of the user's own, but for those that are a layer as they are, and into plain calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_layer = any(type(m) in kind.modules for kind in KINDS.values())
        return is_layer or (type(m) not in _CALLS and super().is_leaf_module(m, module_qualified_name))


class _Recorder(fx.Interpreter):
    """Runs the graph and notes on each node the shape of its tensor, or else its value, such as a size."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta |= {"shape": tuple(result.shape)} if isinstance(result, Tensor) else {"value": result}
        return result


@dataclass
class _Draft:
    """A layer in the making: the fields of its timestamp, and the last of its steps that has been seen.

    A frozen layer's output is used elsewhere too, so that nothing may be added to it.
    """

    fields: dict[str, Any]
    residuals: list[Residual] = field(default_factory=list)
    step: str = "product"
    is_frozen: bool = False

    def took(self, step: str, given: Any) -> bool:
        """Add a step, if it still fits behind what has been seen."""
        fits = _STEPS.index(step) > _STEPS.index(self.step)
        if step == "norm":
            # Behind residuals too, which are then before it.
            fits = self.step in ("product", "residual") and "norm" not in self.fields
        if self.is_frozen or not fits:
            return False
        if step == "norm":
            self.residuals = [replace(residual, added="before_norm") for residual in self.residuals]
        self.fields[step] = given
        self.step = step
        return True


@dataclass(frozen=True)
class _Value:
    """What a node of the traced graph computes: layer `layer`'s output (0: the input), and steps for the next layer.

    `scale` is a factor that waits for its sine. `shortcut` is what cutting and padding have made of an output that
    will be added.
    """

    layer: int
    shape: tuple[int, ...]
    source_norm: tuple[Norm, str] | None = None
    source_activation: Activation | None = None
    pooling: Pooling | None = None
    positions: int | None = None
    scale: float | None = None
    shortcut: Residual | None = None
    offset: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether this is a layer's output itself."""
        return self == _Value(self.layer, self.shape)

    def after(self, name: str, given: Any, shape: tuple[int, ...]) -> "_Value | None":
        """This after a step that waits for the next layer or a sum; None where it comes too late for one."""
        is_fresh = self.shortcut is None and self.scale is None and not self.offset
        if name == "flatten":
            if not is_fresh or self.positions is not None:
                return None
            is_flat_anyway = (self.pooling is not None and self.pooling.size is None) or len(self.shape) <= 2
            return replace(self, shape=shape, positions=None if is_flat_anyway else math.prod(self.shape[2:]))
        if name in ("cut", "pad"):
            # Option A of CIFAR ResNets: every second pixel, zero channels around.
            if not replace(self, shortcut=None).is_plain:
                return None
            residual = self.shortcut or Residual(self.layer, count=self.shape[1])
            if name == "pad":
                residual = replace(residual, offset=residual.offset + given)
            elif residual.offset:
                return None
            else:
                residual = replace(residual, stride=residual.stride * given, count=shape[1])
            return replace(self, shape=shape, shortcut=residual)
        if name in ("scale", "offset"):
            fits = self.is_plain
        else:
            fits = is_fresh and self.pooling is None and self.positions is None
            fits = fits and (name == "pooling" or self.source_activation is None)
            fits = fits and (name != "source_norm" or self.source_norm is None)
        return replace(self, shape=shape, **{name: given}) if fits else None


class _Walk:
    """One pass over the graph in its order: values of nodes, drafts of layers, entries of the state_dict."""

    def __init__(self, module: nn.Module, graph: fx.GraphModule) -> None:
        self._module = module
        self._graph = graph
        self._values: dict[fx.Node, _Value] = {}
        self._drafts: list[_Draft] = []
        self._roles: dict[str, tuple[Role, int]] = {}
        self._num_inputs = 0
        self._result: _Value | None = None

    def visit(self, node: fx.Node) -> None:
        if "shape" not in node.meta and node.op != "output":
            return
        # Sizes that the module computes are plain numbers from here on.
        node.args = fx.node.map_arg(node.args, lambda n: n if "shape" in n.meta else n.meta["value"])
        if node.op == "placeholder":
            if self._num_inputs:
                raise _inexpressible(node, "a second input")
            shape = node.meta["shape"]
            self._num_inputs = shape[1] if len(shape) == 4 else shape[-1]
            self._values[node] = _Value(0, shape)
        elif node.op == "output":
            self._result = self._value(node.args[0])
        elif node.op == "call_module":
            called = self._graph.get_submodule(str(node.target))
            self._values[node] = self._module_value(node, called, self._value(node.args[0]))
        elif node.op in ("call_function", "call_method"):
            self._values[node] = self._function_value(node)
        else:
            raise _inexpressible(node, "a parameter that is used outside of a layer")

    def finish(self, family: str) -> Architecture:
        """The architecture, with every entry of the state_dict."""
        result = self._result
        if result is None or result.layer != len(self._drafts) or not self._drafts:
            raise FormatError("the module's output isn't that of its last layer")
        if not replace(result, offset=0.0).is_plain:
            raise FormatError("the module does something behind its last layer that can't be expressed")
        try:
            timestamps = [Timestamp(residuals=tuple(draft.residuals), **draft.fields) for draft in self._drafts]
        except ValueError as error:
            raise FormatError(f"a layer of the module can't be expressed: {error}") from error
        return lay_out(self._num_inputs, timestamps, self._entries(), family=family, output_offset=result.offset)

    def _module_value(self, node: fx.Node, called: nn.Module, value: _Value) -> _Value:
        is_pooled = value.pooling is not None and value.pooling.size is None
        sources = TracedSources(value.shape, value.positions, is_pooled)
        # A kind that names the module's own class knows it better than one that knows a class it inherits from.
        for kind in sorted(KINDS.values(), key=lambda kind: type(called) not in kind.modules):
            if (fields := kind.traced(called, sources)) is not None:
                has_bias = getattr(called, "bias", None) is not None
                return self._product(node, value, {"kind": kind.name, "has_bias": has_bias, **fields})
        if (norm := traced_norm(called)) is not None:
            return self._step(node, value, "norm", (norm, str(node.target)))
        pooling = traced_pooling(called, value.shape)
        if pooling is None:
            raise _inexpressible(node, f"{type(called).__name__}")
        return self._step(node, value, "pooling", pooling)

    def _function_value(self, node: fx.Node) -> _Value:
        arguments = [self._values.get(a) if isinstance(a, fx.Node) else a for a in node.args]
        values = [a for a in arguments if isinstance(a, _Value)]
        if _is_addition(node) and len(values) == 2:
            return self._addition(node, *values)
        step = _call_step(node, values[0]) if len(values) == 1 else None
        if step is None:
            raise _inexpressible(node, f"{printable(getattr(node.target, '__name__', node.target))}")
        return self._step(node, values[0], *step)

    def _product(self, node: fx.Node, value: _Value, fields: dict[str, Any]) -> _Value:
        self._freeze(value)
        if value.scale is not None or value.shortcut is not None or value.offset:
            raise _inexpressible(node, "numbers that are scaled, shifted or cut before a layer")
        if value.layer != len(self._drafts):
            raise _inexpressible(node, "a branch with a layer of its own")
        fields["pooling"] = value.pooling
        if value.source_activation is not None:
            fields["source_activation"] = value.source_activation
        index = len(self._drafts) + 1
        self._use(str(node.target), {"weight": "weight", "bias": "bias"}, index)
        if value.source_norm is not None:
            fields["source_norm"], prefix = value.source_norm
            self._use_norm(prefix, index, is_source=True)
        self._drafts.append(_Draft(fields))
        return _Value(index, node.meta["shape"])

    def _step(self, node: fx.Node, value: _Value, name: str, given: Any) -> _Value:
        shape: tuple[int, ...] = node.meta["shape"]
        if name == "nothing":
            return replace(value, shape=shape)
        if name == "activation":
            given, value = scaled(given, value.scale), replace(value, scale=None)
        behind, before = _BEHIND_OR_BEFORE.get(name, (None, name))
        # A pooling over everything is the next layer's.
        if behind is not None and (name != "pooling" or given.size is not None):
            draft = self._open_draft(node, value)
            if draft is not None and draft.took(behind, given[0] if name == "norm" else given):
                if name == "norm":
                    self._use_norm(given[1], value.layer, is_source=False)
                return _Value(value.layer, shape)
        if name not in ("scale", "offset"):
            self._freeze(value)
        after = value.after(before, given, shape)
        if after is None:
            raise _inexpressible(node, f"{before} at this place")
        return after

    def _addition(self, node: fx.Node, left: _Value, right: _Value) -> _Value:
        main, other = (left, right) if left.layer >= right.layer else (right, left)
        draft = self._open_draft(node, main, node.args[0] if main is left else node.args[1])
        if draft is None or draft.is_frozen or draft.step == "output_pooling" or main.layer == other.layer:
            raise _inexpressible(node, "a sum whose terms are not a layer's output and one from before it")
        residual = Residual(other.layer) if other.is_plain else other.shortcut
        if residual is None or main.shape != other.shape:
            raise _inexpressible(node, "a sum with something else than an earlier layer's output")
        self._freeze(other)
        widths = [self._num_inputs, *(draft.fields["num_nodes"] for draft in self._drafts)]
        if residual.count == min(widths[residual.source], widths[main.layer] - residual.offset):
            residual = replace(residual, count=None)  # its ends imply it anyway
        is_late = draft.step in ("activation", "late residual")
        draft.residuals.append(replace(residual, added="after_activation" if is_late else "before_activation"))
        draft.step = "late residual" if is_late else "residual"
        return _Value(main.layer, node.meta["shape"])

    def _open_draft(self, node: fx.Node, value: _Value, source: Any = None) -> _Draft | None:
        """The layer whose output `value` is, where nothing else uses that output."""
        source = next(a for a in node.args if isinstance(a, fx.Node)) if source is None else source
        if value.layer == 0 or not value.is_plain or sum("shape" in user.meta for user in source.users) != 1:
            return None
        return self._drafts[value.layer - 1]

    def _freeze(self, value: _Value) -> None:
        if value.layer:
            self._drafts[value.layer - 1].is_frozen = True

    def _value(self, argument: Any) -> _Value:
        if not isinstance(argument, fx.Node) or argument not in self._values:
            raise FormatError("the module computes something else than one tensor from one tensor")
        return self._values[argument]

    def _use_norm(self, prefix: str, layer: int, is_source: bool) -> None:
        self._use(prefix, {name: norm_role(name, is_source) for name in NORM_ROLES}, layer)

    def _use(self, prefix: str, roles: Mapping[str, Role], layer: int) -> None:
        for name, role in roles.items():
            key = f"{prefix}.{name}"
            if key in self._roles:
                raise FormatError(f"{prefix} is used twice: an architecture gives every parameter one layer")
            self._roles[key] = role, layer

    def _entries(self) -> list[Entry]:
        """The state_dict in its order; what no layer uses is kept beside the graph."""
        entries, first = [], dict[tuple[int, torch.Size], str]()
        for key, tensor in self._module.state_dict(keep_vars=True).items():
            used = self._roles.get(key)
            role, layer = ("other", None) if used is None else used
            tied_to = first.setdefault((tensor.data_ptr(), tensor.shape), key) if tensor.numel() else key
            dtype, alias_of = str(tensor.dtype).removeprefix("torch."), None if tied_to == key else tied_to
            entries.append(Entry(key, tuple(tensor.shape), role, layer, dtype, alias_of=alias_of))
        return entries


def _inexpressible(node: fx.Node, what: str) -> FormatError:
    return FormatError(
        f"the module can't be expressed as an architecture: {what} (at {printable(node.name)})",
        hint="describe the architecture by hand, or store the network without its graph",
    )


def _call_step(node: fx.Node, value: _Value) -> _Step | None:
    """The step that a function or method call is, None where there is no word for it."""
    target: Any = node.target
    if target in (functional.dropout, functional.dropout2d, "contiguous"):
        return "nothing", None
    if _is_addition(node) or target in (operator.mul, torch.mul, "mul"):
        numbers = [a for a in node.args if isinstance(a, int | float) and not isinstance(a, bool)]
        is_with_number = len(numbers) == 1 and len(node.args) == 2
        return ("offset" if _is_addition(node) else "scale", float(numbers[0])) if is_with_number else None
    if target in (torch.flatten, "flatten") and node.args[1:] in ((1,), (1, -1)):
        return "flatten", None
    if target in ("view", "reshape") and len(node.meta["shape"]) == 2:
        return ("flatten", None) if math.prod(value.shape[1:]) == node.meta["shape"][1] else None
    if target is operator.getitem:
        return _known("cut", traced_cut(node.args[1]))
    if target is functional.pad:
        return _known("pad", traced_pad(node, len(value.shape)))
    return _known("activation", traced_activation(node)) or _known("pooling", traced_pooling(node, value.shape))


def _known(name: str, found: Any) -> _Step | None:
    return None if found is None else (name, found)


def _is_addition(node: fx.Node) -> bool:
    return node.target in (operator.add, operator.iadd, torch.add, "add", "add_") and not node.kwargs
