"""Which layer a norm belongs to, and on which side of it: by index, by name, or by the order of definition."""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zootool.errors import FormatError, printable
from zootool.nets.layer_order import MISFIT_HINT
from zootool.nets.module_names import Module, last_numbers, parts_of

_HINT = (
    "declare the order of layers and norms in YAML (`like: chain` with `order`), or all layers, each with its `norm` "
    "(on its sums) or `source_norm` (on its sources)"
)
_MAX_NORMS = 2000


@dataclass(frozen=True)
class Place:
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
        raise FormatError(f"{where} has {len(norms)} norms, the places of {_MAX_NORMS} are looked for", hint=_HINT)
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

    def of(self, norm: Module, is_declared: bool) -> Place:
        """The place of a norm, checked against the sizes."""
        size = next(shape[0] for shape, _ in norm.tensors.values() if shape)
        by_name = None if is_declared else self._by_index(norm) or self._by_name(norm, size)
        place = by_name or self._by_definition(norm)
        if place is None:
            gaps = [i for i, layer in enumerate(self._layers) if layer.weight[0] == size]
            # A norm of maps stands behind the one convolution that it fits; all else could be on either side.
            is_of_maps = len(gaps) == 1 and len(self._layers[gaps[0]].weight) == 4 and "running_mean" in norm.tensors
            place = Place(gaps[0], False) if is_of_maps else None
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

    def _by_index(self, norm: Module) -> Place | None:
        """The place in a Sequential: directly behind a layer, or else directly before one."""
        beside = self._indexed.get(norm.path[:-1], {}) if norm.path[-1].isdecimal() else {}
        if not beside:
            return None
        number = int(norm.path[-1])
        if number - 1 in beside:
            return Place(beside[number - 1], False)
        if number + 1 in beside:
            return Place(beside[number + 1], True)
        raise FormatError(
            f"{self._where}: modules without tensors stand on both sides of the norm {printable(norm.name, 80)!r}",
            hint=_HINT,
        )

    def _by_name(self, norm: Module, size: int) -> Place | None:
        """The layer with the same numbers in its name: conv1 for bn1, layers.3 for norms.3, block.conv for block.bn."""
        numbers = last_numbers(norm.path)
        shared = {i: _num_shared(norm.path, self._layers[i].path) for i in self._numbered.get(numbers, ())}
        most = max(shared.values(), default=0)
        best = [i for i, count in shared.items() if count == most]
        fitting = [i for i in best if size in self._layers[i].weight[:2]] if len(best) > 1 else best
        # Without a number, only a module around both ties the two.
        if len(fitting) != 1 or (set(numbers) == {None} and not shared[fitting[0]]):
            return None
        layer = self._layers[fitting[0]]
        pair = tuple(parts_of(segment)[1] for segment in (norm.path[-1], layer.path[-1]))
        side = None if self._saved is None else self._saved[norm.name] < self._saved[layer.name]
        return Place(fitting[0], side, pair)

    def _by_definition(self, norm: Module) -> Place | None:
        """Behind the layer that was defined before it, or before the first."""
        if self._saved is None:
            return None
        number = bisect(self._defined, (self._saved[norm.name], 0))
        return Place(self._defined[number - 1][1], False) if number else Place(0, True)


def _num_shared(a: Sequence[str], b: Sequence[str]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _unclear(norm: Module, where: str) -> FormatError:
    return FormatError(
        f"{where}: can't tell what the norm {printable(norm.name, 80)!r} is for",
        hint=_HINT,
    )
