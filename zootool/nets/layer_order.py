"""In which order a checkpoint's layers follow one another: as they were saved, by their names, by shapes that chain."""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

from zootool.errors import FormatError, printable
from zootool.nets.module_names import Module, parts_of, precedes

ORDER_HINT = (
    "declare the order in YAML: `like: chain` with `order: [FIRST, SECOND, ...]`, then `zoo convert SRC DST.zoo "
    "--architecture NET.yaml`"
)
_OTHERWISE = (
    "a shortcut can be declared with the layers one by one; branches, concatenations and grouped or transposed "
    "convolutions aren't held: leave the file out, or take a part of it by --weights KEY"
)
MISFIT_HINT = f"if its layers follow one another, {ORDER_HINT}; {_OTHERWISE}"
_MAX_SEARCHED = 200
_MAX_STEPS = 20_000


def layer_order(layers: Sequence[Module], is_saved_in_order: bool, where: str) -> tuple[list[Module], str]:
    """The layers from first to last, and in words how that is known.

    A saved order counts where its shapes chain and no name contradicts it; else names and shapes have to leave one
    order only. Raises FormatError where none or several are left.
    """
    by_name = sorted(layers, key=lambda layer: [parts_of(segment) for segment in layer.path])
    is_total = all(precedes(a.path, b.path) for a, b in pairwise(by_name))
    if is_saved_in_order and _misfit(layers) is None and _agrees(layers, by_name if is_total else None):
        return list(layers), "layers are taken in the order in which they were saved"
    found = [by_name] if is_total else _orders(layers, where)
    found = [order for order in found if _misfit(order) is None]
    if is_saved_in_order and _misfit(layers) is None:
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


def _agrees(layers: Sequence[Module], by_name: Sequence[Module] | None) -> bool:
    if by_name is not None:
        return list(layers) == list(by_name)
    if len(layers) > _MAX_SEARCHED:
        return False
    return not any(precedes(b.path, a.path) for i, a in enumerate(layers) for b in layers[i + 1 :])


def _orders(layers: Sequence[Module], where: str) -> list[list[Module]]:
    """Up to two orders that names allow and shapes chain."""
    if len(layers) > _MAX_SEARCHED:
        raise FormatError(f"{where}: names and shapes don't give the order of {len(layers)} layers", hint=ORDER_HINT)
    behind = [{j for j, b in enumerate(layers) if precedes(b.path, a.path)} for a in layers]
    return list(islice(_Search(layers, behind, where).orders([]), 2))


class _Search:
    """Depth first through the orders, with a bound on the steps."""

    def __init__(self, layers: Sequence[Module], behind: list[set[int]], where: str) -> None:
        self._layers = layers
        self._behind = behind
        self._where = where
        self._steps = 0

    def orders(self, taken: list[int]) -> Iterator[list[Module]]:
        """The orders that begin with the layers at `taken`."""
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise FormatError(f"{self._where}: its layers may follow one another in many orders", hint=ORDER_HINT)
        if len(taken) == len(self._layers):
            yield [self._layers[i] for i in taken]
        last = self._layers[taken[-1]] if taken else None
        for i, layer in enumerate(self._layers):
            if i not in taken and self._behind[i] <= set(taken) and positions_behind(last, layer) is not None:
                yield from self.orders([*taken, i])
