from collections.abc import Callable
from dataclasses import replace

import pytest

from zootool.architecture import Architecture, ParameterSlot, check_slots
from zootool.errors import FormatError
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (3, 4), 1)


def changed(place: int, **fields: object) -> Architecture:
    slots = list(SIREN.slots)
    slots[place] = replace(slots[place], **fields)  # type: ignore[arg-type]
    return replace(SIREN, slots=tuple(slots))


def with_slot(slot: ParameterSlot) -> Architecture:
    return replace(SIREN, slots=(*SIREN.slots, slot))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: changed(2, start=7), "'net.1.linear.weight' starts at 7 of edges, what is before it ends at 6"),
        (lambda: changed(2, start=5), "starts at 5 of edges, what is before it ends at 6"),
        (lambda: changed(4, shape=(1, 3)), "the slots cover 21 of 22 elements of edges"),
        (lambda: changed(2, timestamp=1), "'net.1.linear.weight' isn't in the edges of its layer, 1"),
        (lambda: changed(2, timestamp=None), "isn't in the edges of its layer, None"),
        (lambda: changed(2, timestamp=9), "belongs to layer 9 of 3"),
        (lambda: changed(1, key="net.2.bias"), "two slots have the same key"),
        (
            lambda: with_slot(ParameterSlot("tie", "edges", 0, (3, 2), timestamp=1, alias_of="nothing")),
            "tied to 'nothing'",
        ),
        (
            lambda: with_slot(ParameterSlot("tie", "edges", 0, (2, 3), timestamp=1, alias_of="net.0.linear.weight")),
            "which isn't stored like it",
        ),
        (
            lambda: with_slot(ParameterSlot("twin", "extras", 0, (2,), "float64", "other", rounded=True)),
            "'twin' is rounded, but nothing holds the exact tensor",
        ),
    ],
)
def test_slots_that_do_not_fit_are_named(build: Callable[[], Architecture], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        build()


def test_ties_and_rounded_twins_that_fit_pass() -> None:
    tied = with_slot(ParameterSlot("tie", "edges", 0, (3, 2), timestamp=1, alias_of="net.0.linear.weight"))
    check_slots(tied)
    assert tied.array_length("edges") == SIREN.array_length("edges"), "a tie stores nothing of its own"
    extras = ParameterSlot("twin", "extras", 0, (2,), "float64", "other", rounded=True)
    exact = ParameterSlot("twin", "exact", 0, (2,), "float64", "other")
    rounded = replace(SIREN, slots=(*SIREN.slots, extras, exact))
    check_slots(rounded)
    assert (rounded.array_length("extras"), rounded.array_length("exact")) == (2, 16)
