"""The models give the numbers of the reference implementations (tests/parity: weights, inputs and outputs of theirs).

Each folder's about.json says how: what to build, where each of their tensors goes and what to call.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from zootool.architecture import ARRAYS, Architecture, ArrayName
from zootool.graph import GraphBatch
from zootool.loader.assemble import Group, assemble

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "parity").glob("*/about.json"))

CALLS: dict[str, Callable[[Any, Any], Tensor]] = {
    "forward": lambda model, given: model(given),
    "encode": lambda model, given: model.encode(given),
    "memories": lambda model, given: model.encoder(given).flatten(1),
    "weights": lambda model, given: model.weights(model.encode(given)),
    "biases": lambda model, given: model.biases(model.encode(given)),
}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_there_are_27_sets() -> None:
    assert len(FOLDERS) == 27


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
@torch.no_grad()
def test_a_model_gives_the_numbers_of_its_reference(folder: Path) -> None:
    about = json.loads((folder / "about.json").read_text())
    tensors, wanted = load_file(folder / "input.safetensors"), load_file(folder / "output.safetensors")
    architectures = _architectures(about["networks"], tensors)
    model = _made(about["project"], architectures[:1])
    _load(model, about, load_file(folder / "weights.safetensors"))
    batches = list(_batches(architectures, tensors)) if architectures else [_inputs(about, tensors)]
    assert about["outputs"].keys() == wanted.keys()
    for name, output in about["outputs"].items():
        ours = torch.cat([CALLS[output["call"]](model.eval(), batch) for batch in batches])
        every = output.get("every", 1)
        ours = ours[..., ::every, ::every] if every > 1 else ours
        theirs = _after(output.get("reference_steps", []), wanted[name])
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype == torch.float64
        assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max(), name


def _made(plain: Any, architectures: Sequence[Architecture]) -> Any:
    """What {"make": "module:name", ...} stands for; only the project's own modules are imported."""
    if plain == "$architecture":
        return architectures[0]
    if isinstance(plain, list):
        return tuple(_made(item, architectures) for item in plain)
    if not isinstance(plain, dict):
        return plain
    module, name = plain["make"].split(":")
    assert module.split(".")[0] in ("dng", "zootool", "tests")
    arguments = {key: _made(value, architectures) for key, value in plain.items() if key != "make"}
    return getattr(import_module(module), name)(**arguments)


def _architectures(plain: Any, tensors: dict[str, Tensor]) -> list[Architecture]:
    """The architecture of each network: one of their own, or one for all."""
    if plain is None:
        return []
    count = len({key.split("/")[0] for key in tensors})
    own = plain if isinstance(plain, list) else [plain] * count
    assert len(own) == count
    return [_made(one, ()) for one in own]


def _load(model: nn.Module, about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Put every tensor of theirs in its place; none of ours may be left as it was."""
    assert about["parameters"].keys() == weights.keys()
    state = {
        key: value * torch.nan if value.is_floating_point() else value for key, value in model.state_dict().items()
    }
    for key, given in about["parameters"].items():
        place: dict[str, Any] = {"to": given} if isinstance(given, str) else given
        if place["to"] is not None:
            rows = slice(*place["rows"]) if "rows" in place else ...
            state[place["to"]][rows] = _after(place.get("steps", []), weights[key])
    for key, value in about.get("set", {}).items():
        state[key] = torch.tensor(value)
    model.load_state_dict(state)
    assert not any(value.isnan().any() for value in state.values())


def _after(steps: list[Any], tensor: Tensor) -> Tensor:
    for name, *arguments in steps:
        if name == "index":
            axis, places = arguments
            tensor = tensor.index_select(axis, torch.tensor(places))
        else:
            tensor = {"reshape": tensor.reshape, "permute": tensor.permute}[name](arguments[0])
    return tensor


def _inputs(about: dict[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    ((name, steps),) = about["input_steps"].items()
    return _after(steps, tensors[name])


def _batches(architectures: list[Architecture], tensors: dict[str, Tensor]) -> Iterator[GraphBatch]:
    """The networks, in batches of those that have the same node counts."""
    start = 0
    while start < len(architectures):
        counts = architectures[start].node_counts
        rows = [row for row in range(start, len(architectures)) if architectures[row].node_counts == counts]
        assert rows == list(range(start, start + len(rows))), "networks of one batch stand together"
        groups: dict[Architecture, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(architectures[row], []).append(place)
        parts = [_group(architecture, places, start, tensors) for architecture, places in groups.items()]
        yield assemble(parts, torch.tensor(rows))
        start += len(rows)


def _group(architecture: Architecture, places: list[int], start: int, tensors: dict[str, Tensor]) -> Group:
    arrays: dict[ArrayName, Tensor] = {}
    for array in ARRAYS[:3]:
        slots = sorted((slot for slot in architecture.slots if slot.array == array), key=lambda slot: slot.start)
        networks = []
        for place in places:
            found = [(tensors[f"net{start + place}/{slot.key}"], slot.order) for slot in slots]
            flat = [(tensor if order is None else tensor.permute(order)).flatten() for tensor, order in found]
            networks.append(torch.cat(flat) if flat else torch.empty(0))
        arrays[array] = torch.stack(networks)
    return Group(architecture, torch.tensor(places), arrays)
