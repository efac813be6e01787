"""In which order a checkpoint's layers follow one another, and which layer a norm belongs to, on which side of it.

Layers: as they were saved, by their names, by shapes that chain. Norms: by index, by name, or by order of definition.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice, pairwise

from zootool.errors import FormatError, printable
from zootool.nets.module_names import Module, last_numbers, num_shared, parts_of, precedes

ORDER_HINT = (
    "declare the order in YAML: `like: chain` with `order: [FIRST, SECOND, ...]`, then `zoo convert SRC DST.zoo "
    "--architecture NET.yaml`"
)
_OTHERWISE = (
    "a shortcut can be declared with the layers one by one; branches, concatenations and grouped or transposed "
    "convolutions aren't held: leave the file out, or take a part of it by --weights KEY"
)
MISFIT_HINT = f"if its layers follow one another, {ORDER_HINT}; {_OTHERWISE}"
_NORM_HINT = (
    "declare the order of layers and norms in YAML (`like: chain` with `order`), or all layers, each with its `norm` "
    "(on its sums) or `source_norm` (on its sources)"
)
_MAX_NORMS = 2000
_MAX_SEARCHED = 200
_MAX_STEPS = 20_000


def layer_order(layers: Sequence[Module], is_saved_in_order: bool, where: str) -> tuple[list[Module], str]:
    """The layers from first to last, and in words how that is known.

    A saved order counts where its shapes chain and no name contradicts it; else names and shapes have to leave one
    order only. Raises FormatError where none or several are left.
    """
    by_name = sorted(layers, key=lambda layer: [parts_of(segment) for segment in layer.path])
    is_total = all(precedes(a.path, b.path) for a, b in pairwise(by_name))
    fits_as_saved = is_saved_in_order and _misfit(layers) is None
    if fits_as_saved and (list(layers) == by_name if is_total else _is_allowed(layers)):
        return list(layers), "layers are taken in the order in which they were saved"
    found = [by_name] if is_total else _orders(layers, where)
    found = [order for order in found if _misfit(order) is None]
    if fits_as_saved:
        if not found:
            return list(layers), "layers are taken in the order in which they were saved, against their numbers"
        raise FormatError(
            f"{where}: layers were saved as {named(layers)}, their names say {named(found[0])}, and both fit",
            hint=ORDER_HINT,
        )
    if len(found) > 1:
        raise FormatError(
            f"{where}: its layers fit together as {named(found[0])} and as {named(found[1])}, and neither names nor "
            "the file's order decide",
            hint=ORDER_HINT,
        )
    if not found:
        raise FormatError(f"{where}: {_misfit(layers if is_saved_in_order else by_name)}", hint=MISFIT_HINT)
    return found[0], f"the order of layers is taken from names and shapes: {named(found[0])}"


def positions_behind(before: Module | None, layer: Module) -> int | None:
    """Inputs that `layer` takes of each node of the layer before it: above 1 behind a flatten, None where it can't."""
    if before is None:
        return 1
    nodes, sources = before.weight[0], layer.weight[1]
    if len(before.weight) == 4 and len(layer.weight) == 2:
        return sources // nodes if sources % nodes == 0 else None
    return 1 if nodes == sources and len(before.weight) == len(layer.weight) else None


def check_order(order: Sequence[Module], where: str) -> None:
    """Raise FormatError where the shapes of a declared order don't chain."""
    problem = _misfit(order)
    if problem is not None:
        raise FormatError(f"{where}: {problem}", hint=f"correct the order; {_OTHERWISE}")


def named(order: Sequence[Module]) -> str:
    """The names of layers for people, those of long networks cut."""
    names = [printable(layer.name, 40) for layer in order]
    return ", ".join(names if len(names) < 9 else [*names[:4], "...", *names[-3:]])


def _misfit(order: Sequence[Module]) -> str | None:
    for before, layer in pairwise(order):
        if positions_behind(before, layer) is None:
            return (
                f"{printable(layer.name, 80)!r} takes {layer.weight[1]} inputs, the layer before it, "
                f"{printable(before.name, 80)!r}, has {before.weight[0]} nodes"
            )
    return None


def _is_allowed(layers: Sequence[Module]) -> bool:
    """Whether no name contradicts this order."""
    pairs = ((a, b) for i, a in enumerate(layers) for b in layers[i + 1 :])
    return len(layers) <= _MAX_SEARCHED and not any(precedes(b.path, a.path) for a, b in pairs)


def _orders(layers: Sequence[Module], where: str) -> list[list[Module]]:
    """Up to two orders that names allow and shapes chain, found depth first with a bound on the steps."""
    if len(layers) > _MAX_SEARCHED:
        raise FormatError(f"{where}: names and shapes don't give the order of {len(layers)} layers", hint=ORDER_HINT)
    behind = [{j for j, b in enumerate(layers) if precedes(b.path, a.path)} for a in layers]
    steps = count(1)

    def orders(taken: list[int]) -> Iterator[list[Module]]:
        if next(steps) > _MAX_STEPS:
            raise FormatError(f"{where}: its layers may follow one another in many orders", hint=ORDER_HINT)
        if len(taken) == len(layers):
            yield [layers[i] for i in taken]
        last = layers[taken[-1]] if taken else None
        for i, layer in enumerate(layers):
            if i not in taken and behind[i] <= set(taken) and positions_behind(last, layer) is not None:
                yield from orders([*taken, i])

    return list(islice(orders([]), 2))


@dataclass(frozen=True)
class _Place:
    """A norm's layer (counted from 0), and whether it acts on the layer's sources instead of its sums.

    `is_source` is None while names have given the layer alone. `pair` is how the two are called, without numbers.
    """

    layer: int
    is_source: bool | None
    pair: tuple[object, ...] = ()


def place_norms(
    norms: Sequence[Module],
    layers: Sequence[Module],
    saved: Sequence[Module] | None,
    where: str,
    is_declared: bool = False,
) -> dict[tuple[int, bool], Module]:
    """The norms by (layer, whether on its sources); `layers` are in their order.

    `saved` are all modules in the order of their definition, None where the file doesn't have it; an order that
    `is_declared` alone decides. Raises FormatError for a norm whose place none of them tells.
    """
    if len(norms) > _MAX_NORMS:
        raise FormatError(f"{where} has {len(norms)} norms, the places of {_MAX_NORMS} are looked for", hint=_NORM_HINT)
    places = _Places(layers, saved, where)
    found = [(norm, places.of(norm, is_declared)) for norm in norms]
    known: dict[tuple[object, ...], set[bool]] = {}
    for _, place in found:
        if place.is_source is not None and place.pair:
            known.setdefault(place.pair, set()).add(place.is_source)
    placed: dict[tuple[int, bool], Module] = {}
    for norm, place in found:
        side = place.is_source
        # Of square layers no size says on which side; others with names of the same form do.
        if side is None and len(known.get(place.pair, ())) == 1:
            side = next(iter(known[place.pair]))
        if side is None or (place.layer, side) in placed:
            raise _unclear(norm, where)
        placed[place.layer, side] = norm
    return placed


class _Places:
    """The layers by what can tie a norm to them."""

    def __init__(self, layers: Sequence[Module], saved: Sequence[Module] | None, where: str) -> None:
        self._layers = layers
        self._where = where
        self._saved = None if saved is None else {module.name: place for place, module in enumerate(saved)}
        self._defined = sorted((self._saved[layer.name], i) for i, layer in enumerate(layers)) if self._saved else []
        self._indexed: dict[tuple[str, ...], dict[int, int]] = {}
        self._numbered: dict[tuple[int | None, ...], list[int]] = {}
        for i, layer in enumerate(layers):
            if layer.path[-1].isdecimal():
                self._indexed.setdefault(layer.path[:-1], {})[int(layer.path[-1])] = i
            self._numbered.setdefault(last_numbers(layer.path), []).append(i)

    def of(self, norm: Module, is_declared: bool) -> _Place:
        """The place of a norm, checked against the sizes."""
        size = next(shape[0] for shape, _ in norm.tensors.values() if shape)
        by_name = None if is_declared else self._by_index(norm) or self._by_name(norm, size)
        place = by_name or self._by_definition(norm)
        if place is None:
            gaps = [i for i, layer in enumerate(self._layers) if layer.weight[0] == size]
            # A norm of maps stands behind the one convolution that it fits; all else could be on either side.
            is_of_maps = len(gaps) == 1 and len(self._layers[gaps[0]].weight) == 4 and "running_mean" in norm.tensors
            place = _Place(gaps[0], False) if is_of_maps else None
        if place is None:
            raise _unclear(norm, self._where)
        layer = self._layers[place.layer]
        nodes, sources = layer.weight[:2]
        if place.is_source is None and size in (nodes, sources) and nodes != sources:
            place = replace(place, is_source=size == sources)
        if size != (sources if place.is_source else nodes):
            raise FormatError(
                f"{self._where}: the norm {printable(norm.name, 80)!r} of {size} doesn't fit "
                f"{printable(layer.name, 80)!r} of {sources} inputs and {nodes} nodes",
                hint=MISFIT_HINT,
            )
        return place

    def _by_index(self, norm: Module) -> _Place | None:
        """The place in a Sequential: directly behind a layer, or else directly before one."""
        beside = self._indexed.get(norm.path[:-1], {}) if norm.path[-1].isdecimal() else {}
        if not beside:
            return None
        number = int(norm.path[-1])
        if number - 1 in beside:
            return _Place(beside[number - 1], False)
        if number + 1 in beside:
            return _Place(beside[number + 1], True)
        raise FormatError(
            f"{self._where}: modules without tensors stand on both sides of the norm {printable(norm.name, 80)!r}",
            hint=_NORM_HINT,
        )

    def _by_name(self, norm: Module, size: int) -> _Place | None:
        """The layer with the same numbers in its name: conv1 for bn1, layers.3 for norms.3, block.conv for block.bn."""
        numbers = last_numbers(norm.path)
        shared = {i: num_shared([norm.path, self._layers[i].path]) for i in self._numbered.get(numbers, ())}
        most = max(shared.values(), default=0)
        best = [i for i, count in shared.items() if count == most]
        fitting = [i for i in best if size in self._layers[i].weight[:2]] if len(best) > 1 else best
        # Without a number, only a module around both ties the two.
        if len(fitting) != 1 or (set(numbers) == {None} and not shared[fitting[0]]):
            return None
        layer = self._layers[fitting[0]]
        pair = tuple(parts_of(segment)[1] for segment in (norm.path[-1], layer.path[-1]))
        side = None if self._saved is None else self._saved[norm.name] < self._saved[layer.name]
        return _Place(fitting[0], side, pair)

    def _by_definition(self, norm: Module) -> _Place | None:
        """Behind the layer that was defined before it, or before the first."""
        if self._saved is None:
            return None
        number = bisect(self._defined, (self._saved[norm.name], 0))
        return _Place(self._defined[number - 1][1], False) if number else _Place(0, True)


def _unclear(norm: Module, where: str) -> FormatError:
    return FormatError(
        f"{where}: can't tell what the norm {printable(norm.name, 80)!r} is for",
        hint=_NORM_HINT,
    )
