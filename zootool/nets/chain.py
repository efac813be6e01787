"""Layers one behind the other: the architecture of a chain, from the names and shapes of its tensors.

What names and shapes don't say (activations, strides, what stands between the layers) is assumed, and said to be.
"""

from bisect import bisect, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from typing import Any, NamedTuple

from zootool.architecture import Activation, Architecture, Norm, Timestamp
from zootool.architecture.bounds import MAX_LAYERS
from zootool.architecture.kinds import KINDS
from zootool.errors import FormatError, printable
from zootool.nets.lay_out import Entry, lay_out, norm_role
from zootool.nets.layer_order import check_order, layer_order, place_norms, positions_behind
from zootool.nets.module_names import Module, Shapes, is_in_order_of_definition, modules_of

HINT = "declare it in YAML: `zoo convert SRC DST.zoo --architecture NET.yaml`, see docs/collecting.md"

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Inferred:
    """An architecture, and what was assumed about it in words."""

    architecture: Architecture
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChainOptions:
    """What is known of a chain: its order (names of its layers, or of norms too), its activations, its family."""

    order: tuple[str, ...] = ()
    activation: Activation | None = None
    output_activation: Activation | None = None
    family: str | None = None


def chain_of(shapes: Shapes, where: str, options: ChainOptions | None = None) -> Inferred:
    """The chain that these tensors are. Raises FormatError where they are none, or may be several."""
    options = options or ChainOptions()
    modules = modules_of(shapes)
    norms = [module for module in modules if _is_norm(module, where)]
    layers = [module for module in modules if len(module.weight) > 1]
    if not layers:
        raise FormatError(f"{where} has no layers", hint=HINT)
    if len(layers) > MAX_LAYERS:
        raise FormatError(f"{where} has {len(layers)} layers, an architecture at most {MAX_LAYERS}")
    saved: Sequence[Module] | None = modules if is_in_order_of_definition(shapes) else None
    if options.order:
        order, saved, notes = *_declared_order(options.order, modules, layers, where), []
    else:
        order, note = layer_order(layers, saved is not None, where)
        notes = [note] if len(layers) > 1 else []
    placed = place_norms(norms, order, saved, where, is_declared=bool(options.order) and saved is not None)
    links = _links(order, norms, where)
    timestamps, entries = [], dict[str, Entry]()
    for i, layer in enumerate(order):
        norms_here = {is_source: placed.get((i, is_source)) for is_source in (False, True)}
        fields, found = _layer(layer, order[i - 1] if i else None, norms_here, i + 1, where)
        activation = options.output_activation or Activation()
        if i < len(links):
            activation = (options.activation or Activation("relu")) if links[i].has_activation else Activation()
        timestamps.append(Timestamp(**fields, activation=activation))
        entries |= {entry.key: entry for entry in found}
    family = options.family or ("cnn" if any(t.traits.is_spatial for t in timestamps) else "mlp")
    try:
        architecture = lay_out(timestamps[0].num_sources, timestamps, [entries[key] for key in shapes], family=family)
    except ValueError as error:
        raise FormatError(f"{where}: {printable(error, 200)}", hint=HINT) from error
    return Inferred(architecture, (*_assumed(architecture, order, links, options, where), *notes))


def _declared_order(
    names: tuple[str, ...], modules: Sequence[Module], layers: Sequence[Module], where: str
) -> tuple[list[Module], Sequence[Module] | None]:
    """The layers as declared, and all modules where the declaration has the norms too."""
    by_name = {module.name: module for module in modules}
    missing = [layer.name for layer in layers if layer.name not in names]
    odd = [name for name in names if name not in by_name]
    if missing or odd or len(set(names)) < len(names):
        what = f"lacks {printable(missing[0], 80)!r}" if missing else f"has {printable((odd or names)[0], 80)!r}"
        raise FormatError(f"{where}: the declared order {what}", hint="name every layer once, without `.weight`")
    order = [by_name[name] for name in names if len(by_name[name].weight) > 1]
    check_order(order, where)
    return order, [by_name[name] for name in names] if len(names) == len(modules) else None


def _is_norm(module: Module, where: str) -> bool:
    """Whether a module is a norm, or else a layer. Raises FormatError for anything else."""
    shapes = {name: shape for name, (shape, _) in module.tensors.items()}
    odd = next((name for name in shapes if name not in ("weight", "bias", *_STATISTICS)), None)
    weight = shapes.get("weight", shapes.get("running_mean", ()))
    if odd is None and (len(weight) not in (1, 2, 4) or 0 in weight):
        odd = next((name for name in ("weight", "running_mean") if name in shapes), next(iter(shapes)))
    if odd is not None:
        raise _odd(module, odd, where)
    for name, (shape, dtype) in module.tensors.items():
        is_counter = name == "num_batches_tracked"
        wanted = () if is_counter else weight if name == "weight" else weight[:1]
        is_layer_part = name in ("weight", "bias") or len(weight) == 1
        if name == "bias" and len(weight) > 1 and shape == weight[1:2] != wanted:
            raise FormatError(
                f"{where}: {printable(module.key('weight'), 80)!r} of {weight} has a bias for its second axis, so it "
                "is a transposed convolution, or saved as inputs by outputs",
                hint="transpose it in torch and save again; transposed convolutions aren't held",
            )
        if shape != wanted or not (is_counter or "float" in dtype) or not is_layer_part:
            raise FormatError(
                f"{where}: {printable(module.key(name), 80)!r} is {dtype} {shape}, wanted are floats of {wanted}",
                hint=HINT,
            )
    if len(weight) == 1 and "running_mean" not in shapes and "bias" not in shapes:
        raise FormatError(
            f"{where}: {printable(module.key('weight'), 80)!r} may be a group or a layer norm, an RMS norm or a PReLU",
            hint=HINT,
        )
    return len(weight) == 1


def _odd(module: Module, name: str, where: str) -> FormatError:
    """The error for a tensor that no layer of a chain has."""
    shape, key = module.tensors[name][0], printable(module.key(name), 80)
    if list(module.tensors) == ["bias"]:
        return FormatError(
            f"{where}: {key!r} is a bias without its weight, which safetensors leaves out where it is another's too",
            hint="save the whole state_dict by torch.save, which keeps both",
        )
    hint = "it has no elements: leave the file out" if 0 in shape else HINT
    if name == "weight" and len(shape) in (3, 5):
        hint = f"layers of {len(shape)} axes aren't held: leave the file out, or keep them under `other` in YAML"
    return FormatError(f"{where}: can't tell what {key!r} of shape {shape} does", hint=hint)


class _Link(NamedTuple):
    """How a layer follows on the one before: whether there is room for an activation.

    `ends_box` where the one before is the last layer of a Sequential that shows its activations.
    """

    has_activation: bool
    ends_box: bool = False


def _links(order: Sequence[Module], norms: Sequence[Module], where: str) -> list[_Link]:
    """The links before layers 1, 2, ...; the indices of a Sequential show how many modules stand in between."""
    numbered: dict[tuple[str, ...], list[int]] = {}
    for path in {module.path for module in (*order, *norms) if module.path[-1].isdecimal()}:
        insort(numbered.setdefault(path[:-1], []), int(path[-1]))
    links = []
    for before, layer in pairwise(order):
        box = before.path[:-1]
        numbers = numbered.get(box, []) if before.path[-1].isdecimal() else []
        # Where no index is missing, activations are functions, of which nothing is seen.
        is_sequential = bool(numbers) and len(numbers) <= numbers[-1] - numbers[0]
        if not (is_sequential and box == layer.path[:-1] and layer.path[-1].isdecimal()):
            links.append(_Link(True, ends_box=is_sequential))
            continue
        first, last = int(before.path[-1]), int(layer.path[-1])
        free = last - first - (bisect(numbers, last) - bisect(numbers, first))
        # A flatten is one of them where maps become features; behind a pooling over everything nothing else matters.
        is_flat = len(before.weight) != len(layer.weight)
        is_pooled = is_flat and positions_behind(before, layer) == 1
        if len(before.weight) == 4 and free > (2 if is_flat else 1) and not is_pooled:
            raise FormatError(
                f"{where}: {free} modules without tensors stand between {printable(before.name, 80)!r} and "
                f"{printable(layer.name, 80)!r}, so perhaps a pooling",
                hint="declare the layers in YAML, with `pooling` where there is one",
            )
        links.append(_Link(free > (1 if is_flat else 0)))
    return links


def _layer(
    layer: Module, before: Module | None, norms: Mapping[bool, Module | None], number: int, where: str
) -> tuple[dict[str, Any], list[Entry]]:
    """The fields of a layer's timestamp, but for its activation, and its entries; norms by whether on its sources."""
    ends = before.weight if before is not None else ()
    kind = next(kind for kind in KINDS.values() if kind.is_likely(layer.weight, ends or None))
    fields: dict[str, Any] = {"kind": kind.name, "has_bias": "bias" in layer.tensors}
    fields |= kind.sizes(layer.weight, ends[0] if ends else 0)
    if kind.default_pooling is not None:
        fields["pooling"] = kind.default_pooling
    entries = [Entry(layer.key(name), shape, name, number, dtype) for name, (shape, dtype) in layer.tensors.items()]  # type: ignore[arg-type]
    for is_source, norm in norms.items():
        if norm is None:
            continue
        is_batch = "running_mean" in norm.tensors
        if not is_batch and (kind.is_spatial or (is_source and len(ends) == 4)):
            raise FormatError(
                f"{where}: {printable(norm.name, 80)!r} may be a group or a layer norm, and no tensor says which",
                hint="declare the layers in YAML, with the norm's `kind` and `num_groups`",
            )
        fields["source_norm" if is_source else "norm"] = Norm("batch" if is_batch else "layer")
        for name, (shape, dtype) in norm.tensors.items():
            entries.append(Entry(norm.key(name), shape, norm_role(name, is_source), number, dtype))
    return fields, entries


def _assumed(
    architecture: Architecture, order: Sequence[Module], links: Sequence[_Link], options: ChainOptions, where: str
) -> list[str]:
    """What no name and no shape says, in words."""
    timestamps = architecture.timestamps
    assumed = []
    if len(order) > 1:
        assumed.append(
            "each layer is taken to have the outputs of the one before and nothing else: no shortcuts, branches, gates "
            "or loops"
        )
    if options.activation is None and any(link.has_activation for link in links):
        assumed.append("activations are taken for relu")
    ends = [printable(layer.name, 40) for layer, link in zip(order, links, strict=False) if link.ends_box]
    if ends:
        assumed.append(f"an activation is taken to stand behind {', '.join(ends[:5])} too, where a Sequential ends")
    bare = [printable(layer.name, 40) for layer, link in zip(order, links, strict=False) if not link.has_activation]
    if bare:
        assumed.append(f"no activation is taken to stand behind {', '.join(bare[:5])}: the indices leave no room")
    if options.output_activation is None:
        assumed.append("nothing is taken to stand behind the last layer")
    if any(t.traits.is_spatial for t in timestamps):
        assumed.append("convolutions are taken for stride 1 without padding, dilation or pooling")
    for layer, timestamp in zip(order, timestamps, strict=True):
        if timestamp.traits.default_pooling is not None:
            assumed.append(f"{printable(layer.name, 40)!r} is taken to follow the mean over all pixels")
        if timestamp.traits.flattens:
            assumed.append(_flatten(layer, timestamp, timestamps, where))
    norms = {norm.kind for t in timestamps for norm in (t.norm, t.source_norm) if norm is not None}
    if norms:
        kinds = " and ".join(sorted(norms))
        assumed.append(f"norms are taken for {kinds} norms with eps 1e-05, those of a layer's sums before activations")
    return assumed


def _flatten(layer: Module, timestamp: Timestamp, timestamps: Sequence[Timestamp], where: str) -> str:
    """The size of images that a flatten means. Raises FormatError for positions that no square image gives."""
    side = isqrt(timestamp.edges_per_pair)
    shown = printable(layer.name, 80)
    if side**2 != timestamp.edges_per_pair:
        raise FormatError(
            f"{where}: {shown!r} takes {timestamp.edges_per_pair} inputs of each of {timestamp.num_sources} channels, "
            "which is no square",
            hint="declare the layers in YAML, if images aren't square",
        )
    kernels = [t.kernel for t in timestamps if t.kernel is not None]
    height, width = (side + sum(kernel[axis] - 1 for kernel in kernels) for axis in (0, 1))
    return f"{shown!r} is taken to flatten maps of {side} x {side}, so that images have {height} x {width} pixels"
