"""From a small copy of a format to a verified store, and from there back to what the copy held."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zootool.conversion.convert import convert
from zootool.formats import reader_for, readers
from zootool.formats.options import ReadOptions
from zootool.zoo import Zoo, open_zoo
from zootool.zoo.verify import verify

State = Mapping[str, torch.Tensor]


def converted(source: Path, store: Path, **reading: Any) -> Zoo:
    """The store that `zoo convert` makes of `source`, its format found out, after `zoo verify` deep."""
    convert(source, store, reading=ReadOptions(**reading))
    result = verify(store, "deep")
    assert result.passed, result.problems
    return open_zoo(store)


def column(zoo: Zoo, name: str) -> dict[str, Any]:
    """net_id -> the value in a column."""
    rows = zoo.nets.to_arrow(["net_id", name]).to_pylist()
    return {row["net_id"]: row[name] for row in rows}


def assert_holds(zoo: Zoo, states: Mapping[str, State]) -> None:
    """The zoo has these networks and no others, each tensor with the bits, shape and dtype of the file's."""
    ids = list(column(zoo, "net_id"))
    assert sorted(ids) == sorted(states)
    for place, net_id in enumerate(ids):
        found = zoo.state_dict(place)
        assert found.keys() == states[net_id].keys()
        for key, tensor in states[net_id].items():
            assert found[key].dtype == tensor.dtype, key
            assert found[key].shape == tensor.shape, key
            assert raw(found[key]) == raw(tensor), f"{net_id} {key}"


def raw(tensor: torch.Tensor) -> bytes:
    """A tensor's bytes."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_claimed_by(name: str, path: Path) -> None:
    """This reader is the one found for `path`, and none but the plain folder would take it besides."""
    *specific, _ = readers().values()
    takers = [reader.NAME for reader in specific if reader.detect(path)]
    assert takers == [name]
    assert reader_for(path).NAME in takers


def notes_of(zoo: Zoo) -> str:
    """What the store says about its source."""
    return "\n".join(zoo.info.provenance["notes"])


def random_state(shapes: Mapping[str, tuple[int, ...]], seed: int, scale: float = 0.2) -> dict[str, torch.Tensor]:
    """Tensors of these shapes, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return {key: scale * torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def save(value: Any, path: Path) -> None:
    """torch.save into folders that are made on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
