"""From a live torch module to its Architecture, by torch.fx.

What can be expressed: linear and convolution layers in a row, flattened or pooled in between; batch, layer and group
norms; pointwise activations; outputs of earlier layers that are added, cut and padded as parameter-free shortcuts are.
Dropout is left out, as at inference.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from zootool.architecture import Architecture, Residual
from zootool.errors import FormatError, printable
from zootool.nets import trace_operations as operations
from zootool.nets.draft import Draft, Step, Value
from zootool.nets.lay_out import Entry, lay_out
from zootool.nets.network import Network


def trace(module: nn.Module, example_input: Tensor, family: str = "traced") -> Architecture:
    """The architecture of `module`, for inputs like `example_input` (with a batch axis).

    Raises FormatError that names the operation which no architecture can express.
    """
    was_training = module.training
    module.eval()
    try:
        graph = fx.symbolic_trace(module)
        _Recorder(graph).run(example_input)
    except Exception as error:
        # fx raises all sorts of errors for control flow that depends on values.
        raise FormatError(f"{type(module).__name__} can't be traced ({printable(error, 200)})") from error
    finally:
        module.train(was_training)
    walk = _Walk(module, graph)
    for node in graph.graph.nodes:
        walk.visit(node)
    architecture = walk.finish(family)
    _check_outputs(module, architecture, example_input)
    return architecture


@torch.no_grad()
def _check_outputs(module: nn.Module, architecture: Architecture, example_input: Tensor) -> None:
    """The rules above are about forms; this is about numbers."""
    rebuilt = Network(architecture, allow_unused=True).eval()
    rebuilt.load_state_dict(module.state_dict())
    was_training = module.training
    wanted = module.eval()(example_input)
    module.train(was_training)
    if not torch.allclose(rebuilt(example_input), wanted, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise FormatError(
            f"the architecture traced from {type(module).__name__} computes something else than the module",
            hint="describe the architecture by hand",
        )


class _Recorder(fx.Interpreter):
    """Runs the graph and notes on each node the shape of its tensor, or else its value, such as a size."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["shape" if isinstance(result, Tensor) else "value"] = (
            tuple(result.shape) if isinstance(result, Tensor) else result
        )
        return result


class _Walk:
    """One pass over the graph in its order: values of nodes, drafts of layers, entries of the state_dict."""

    def __init__(self, module: nn.Module, graph: fx.GraphModule) -> None:
        self._module = module
        self._graph = graph
        self._values: dict[fx.Node, Value] = {}
        self._drafts: list[Draft] = []
        self._roles: dict[str, tuple[str, int]] = {}
        self._num_inputs = 0
        self._result: Value | None = None

    def visit(self, node: fx.Node) -> None:
        if "shape" not in node.meta and node.op != "output":
            return
        # Sizes that the module computes are plain numbers from here on.
        node.args = fx.node.map_arg(node.args, lambda n: n if "shape" in n.meta else n.meta["value"])
        if node.op == "placeholder":
            self._start(node)
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
        if result != Value(result.layer, result.shape, offset=result.offset):
            raise FormatError("the module does something behind its last layer that can't be expressed")
        timestamps = [draft.timestamp() for draft in self._drafts]
        return lay_out(self._num_inputs, timestamps, self._entries(), family=family, output_offset=result.offset)

    def _start(self, node: fx.Node) -> None:
        if self._num_inputs:
            raise _inexpressible(node, "a second input")
        shape = _shape_of(node)
        self._num_inputs = shape[1] if len(shape) == 4 else shape[-1]
        self._values[node] = Value(0, shape)

    def _module_value(self, node: fx.Node, called: nn.Module, value: Value) -> Value:
        if isinstance(called, nn.Linear | nn.Conv2d):
            return self._product(node, called, value)
        norm = operations.norm_of(called)
        if norm is not None:
            return self._norm(node, norm, value)
        step = operations.step_of_module(called)
        if step is None:
            raise _inexpressible(node, f"{type(called).__name__}")
        return self._step(node, value, step)

    def _function_value(self, node: fx.Node) -> Value:
        arguments = [self._values.get(a) if isinstance(a, fx.Node) else a for a in node.args]
        values = [a for a in arguments if isinstance(a, Value)]
        if operations.is_addition(node) and len(values) == 2:
            return self._addition(node, *values)
        value = values[0] if len(values) == 1 else None
        step = None if value is None else operations.step_of_call(node, value)
        if value is None or step is None:
            raise _inexpressible(node, f"{printable(getattr(node.target, '__name__', node.target))}")
        return self._step(node, value, step)

    def _product(self, node: fx.Node, called: nn.Linear | nn.Conv2d, value: Value) -> Value:
        self._freeze(value)
        if value.scale is not None or value.shortcut is not None or value.offset:
            raise _inexpressible(node, "numbers that are scaled, shifted or cut before a layer")
        if value.layer != len(self._drafts):
            raise _inexpressible(node, "a branch with a layer of its own")
        kind, fields = operations.product_of(called, value)
        before: dict[str, Any] = {"source_norm": value.source_norm, "pooling": value.pooling}
        if value.source_activation is not None:
            before["source_activation"] = value.source_activation
        num_nodes, num_sources = called.weight.shape[0], called.weight.shape[1]
        if kind == "flatten_linear":
            num_sources //= fields["edges_per_pair"]
        fields |= before | {"has_bias": called.bias is not None}
        self._drafts.append(Draft(kind, num_nodes, num_sources, fields))
        index = len(self._drafts)
        self._use(node, {"weight": "weight", "bias": "bias"}, index)
        if value.source_norm_prefix is not None:
            names = {name: f"source_{role}" for name, role in _NORM_ROLES.items()}
            self._use_prefix(value.source_norm_prefix, names | _COUNTER, index)
        return Value(index, _shape_of(node))

    def _norm(self, node: fx.Node, norm: Any, value: Value) -> Value:
        draft = self._open_draft(node, value)
        if draft is not None and draft.can_take_norm():
            draft.take_norm(norm)
            self._use(node, _NORM_ROLES | _COUNTER, value.layer)
            return Value(value.layer, _shape_of(node))
        pending = Step("source_norm", {"source_norm": norm, "source_norm_prefix": str(node.target)})
        return self._wait(node, value, pending)

    def _step(self, node: fx.Node, value: Value, step: Step) -> Value:
        if step.name == "nothing":
            return operations.reshaped(value, _shape_of(node))
        if step.name == "activation":
            activation = operations.with_scale(step.fields["activation"], value.scale)
            unscaled = operations.unscaled(value)
            draft = self._open_draft(node, unscaled)
            if draft is not None and draft.can_take("activation"):
                draft.take("activation", activation=activation)
                return Value(value.layer, _shape_of(node))
            return self._wait(node, unscaled, Step("source_activation", {"source_activation": activation}))
        if step.name == "pooling" and step.fields["pooling"].size is not None:
            draft = self._open_draft(node, value)
            if draft is not None and draft.can_take("output_pooling"):
                draft.take("output_pooling", output_pooling=step.fields["pooling"])
                return Value(value.layer, _shape_of(node))
        return self._wait(node, value, step)

    def _wait(self, node: fx.Node, value: Value, step: Step) -> Value:
        """The step belongs to the next layer, or to a shortcut."""
        if step.name not in ("scale", "offset"):
            self._freeze(value)
        after = operations.with_step(value, step, _shape_of(node))
        if after is None:
            raise _inexpressible(node, f"{step.name} at this place")
        return after

    def _addition(self, node: fx.Node, left: Value, right: Value) -> Value:
        main, other = (left, right) if left.layer >= right.layer else (right, left)
        main_node = node.args[0] if main is left else node.args[1]
        draft = self._open_draft(node, main, main_node)
        if draft is None or not draft.can_take_residual() or main.layer == other.layer:
            raise _inexpressible(node, "a sum whose terms are not a layer's output and one from before it")
        residual = Residual(other.layer) if other.is_plain else other.shortcut
        if residual is None or main.shape != other.shape:
            raise _inexpressible(node, "a sum with something else than an earlier layer's output")
        self._freeze(other)
        draft.take_residual(operations.trimmed(residual, self._widths(), main.layer))
        return Value(main.layer, _shape_of(node))

    def _open_draft(self, node: fx.Node, value: Value, source: Any = None) -> Draft | None:
        """The layer whose output `value` is, where nothing else uses that output."""
        source = next(a for a in node.args if isinstance(a, fx.Node)) if source is None else source
        if value.layer == 0 or not value.is_plain or sum("shape" in user.meta for user in source.users) != 1:
            return None
        return self._drafts[value.layer - 1]

    def _freeze(self, value: Value) -> None:
        if value.layer:
            self._drafts[value.layer - 1].is_frozen = True

    def _widths(self) -> list[int]:
        return [self._num_inputs, *(draft.num_nodes for draft in self._drafts)]

    def _value(self, argument: Any) -> Value:
        if not isinstance(argument, fx.Node) or argument not in self._values:
            raise FormatError("the module computes something else than one tensor from one tensor")
        return self._values[argument]

    def _use(self, node: fx.Node, roles: dict[str, str], layer: int) -> None:
        self._use_prefix(str(node.target), roles, layer)

    def _use_prefix(self, prefix: str, roles: dict[str, str], layer: int) -> None:
        for name, role in roles.items():
            key = f"{prefix}.{name}"
            if key in self._roles:
                raise FormatError(f"{prefix} is used twice: an architecture gives every parameter one layer")
            self._roles[key] = role, layer

    def _entries(self) -> list[Entry]:
        """The state_dict in its order; what no layer uses is kept beside the graph."""
        entries, first = [], dict[tuple[int, torch.Size], str]()
        for key, tensor in self._module.state_dict(keep_vars=True).items():
            role, layer = self._roles.get(key, ("other", None))
            tied_to = first.setdefault((tensor.data_ptr(), tensor.shape), key) if tensor.numel() else key
            entries.append(
                Entry(
                    key,
                    tuple(tensor.shape),
                    role,  # type: ignore[arg-type]
                    layer,
                    str(tensor.dtype).removeprefix("torch."),
                    alias_of=None if tied_to == key else tied_to,
                )
            )
        return entries


_NORM_ROLES = {"weight": "scale", "bias": "shift", "running_mean": "running_mean", "running_var": "running_var"}
_COUNTER = {"num_batches_tracked": "num_batches_tracked"}


def _shape_of(node: fx.Node) -> tuple[int, ...]:
    return node.meta["shape"]


def _inexpressible(node: fx.Node, what: str) -> FormatError:
    return FormatError(
        f"the module can't be expressed as an architecture: {what} (at {printable(node.name)})",
        hint="describe the architecture by hand, or store the network without its graph",
    )
