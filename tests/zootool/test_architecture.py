import json

import pytest

from tests.zootool.nets.modules import Siren
from zootool.architecture import Architecture, ParameterSlot, Residual, Timestamp
from zootool.errors import FormatError
from zootool.nets.siren import siren_architecture


def test_counts_of_the_cifar_siren() -> None:
    architecture = siren_architecture(2, (32, 32), 3)
    assert architecture.node_counts == (2, 32, 32, 3)
    assert architecture.edges_per_pair == (1, 1, 1)
    assert architecture.num_edges + architecture.num_nodes == 1251


def test_the_slots_are_the_modules_state_dict() -> None:
    architecture = siren_architecture(2, (8, 16, 8), 1)
    state = Siren(2, (8, 16, 8), 1).state_dict()
    assert [slot.key for slot in architecture.slots] == list(state)
    assert [slot.shape for slot in architecture.slots] == [tuple(value.shape) for value in state.values()]


def test_json_round_trip_keeps_the_signature() -> None:
    architecture = siren_architecture(2, (32,), 1, omega_0=60.0, output_offset=0.5)
    again = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
    assert again == architecture
    assert again.signature == architecture.signature
    assert again.signature != siren_architecture(2, (32,), 1, omega_0=60.0).signature


def test_unknown_keys_of_a_later_minor_version_are_ignored() -> None:
    plain = siren_architecture(2, (4,), 1).to_dict() | {"colour": "blue"}
    assert Architecture.from_dict(plain) == siren_architecture(2, (4,), 1)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("num_inputs",), True, "must be an integer"),
        (("num_inputs",), 3, "layer 1 has 2 sources"),
        (("output_offset",), float("nan"), "must be finite"),
        (("timestamps",), [], "at least one timestamp"),
        (("timestamps",), "abc", "must be a list"),
        (("timestamps", 0, "num_nodes"), -4, "nodes of a layer must be an integer from 1"),
        (("timestamps", 0, "kind"), "exec", "must be one of"),
        (("timestamps", 0, "kind"), "conv", "kernel None"),
        (("slots", 0, "start"), -1, "start must be an integer from 0"),
        (("slots", 0, "dtype"), "object", "dtype"),
        (("slots", 0, "order"), [0, 0], "no permutation"),
    ],
)
def test_hostile_values_are_named(path: tuple, value: object, message: str) -> None:
    plain = json.loads(json.dumps(siren_architecture(2, (4,), 1).to_dict()))
    place = plain
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(FormatError, match=message):
        Architecture.from_dict(plain)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(FormatError, match="lacks the key 'num_inputs'"):
        Architecture.from_dict({"timestamps": []})


def test_residuals_come_from_earlier_layers() -> None:
    layers = (Timestamp("linear", 4, 2), Timestamp("linear", 4, 4, residuals=(Residual(source=2),)))
    with pytest.raises(ValueError, match="isn't before it"):
        Architecture(2, layers)


def test_slots_in_exact_count_bytes() -> None:
    slot = ParameterSlot("step", "exact", 0, (3,), dtype="int64", role="other")
    assert slot.length == 24
    layer, weight = Timestamp("linear", 1, 1, has_bias=False), ParameterSlot("w", "edges", 0, (1, 1), timestamp=1)
    assert Architecture(1, (layer,), (weight, slot)).array_length("exact") == 24
