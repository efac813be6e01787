"""The bridge from zoos to the models: the only file of dng that knows zootool's stores and loaders."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from zootool.errors import ZooError
from zootool.graph import GraphBatch
from zootool.images import load_images
from zootool.loader import Loader
from zootool.loader.batch_targets import numbers_of
from zootool.nets.rendering import Indexing, indexing_of, render
from zootool.nets.siren import siren_architecture
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture
from zootool.zoo import Zoo

__all__ = [
    "Convention",
    "EndlessBatches",
    "Indexing",
    "Loader",
    "SimpleVitConfig",
    "Zoo",
    "class_names",
    "conventions",
    "indexing_of",
    "numbers_of",
    "render_network",
    "simple_vit_architecture",
    "siren_architecture",
]


class EndlessBatches:
    """A loader's epochs one after another, each batch turned by `convert`; continues from a small state."""

    def __init__(self, loader: Loader, convert: Callable[[GraphBatch], Any] = lambda batch: batch) -> None:
        self.loader = loader
        self.convert = convert

    def __iter__(self) -> Iterator[Any]:
        while True:
            for batch in self.loader:
                yield self.convert(batch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self.loader.load_state_dict(state)


@dataclass(frozen=True)
class Convention:
    """How a zoo's INRs show images: whether their first input is the row (ij) or the column (xy), and their values.

    `low` and `high` are what they compute for the pixels 0 and 255. None is what the zoo doesn't say.
    """

    indexing: Indexing | None = None
    target: tuple[float, float] | None = None

    def in_unit_range(self, values: Any) -> Any:
        """Values of networks, in [-1, 1] from 0 to 255; as they are where nobody knows."""
        low, high = self.target or (-1.0, 1.0)
        return 2 * (values - low) / (high - low) - 1


def conventions(zoo: Zoo) -> list[Convention]:
    """The convention of each network of a zoo of INRs."""
    by_source = [Convention(indexing_of(source.grid), source.target) for source in zoo.info.sources]
    numbers = zoo.nets.to_arrow(["source"])["source"].to_pylist() if "source" in zoo.nets else [0] * len(zoo)
    known = dict(enumerate(by_source))
    return [known.get(number, Convention()) for number in numbers]


def render_network(zoo: Zoo, index: int, side: int, convention: Convention) -> Float[np.ndarray, "side side channels"]:
    """The image, upright and in [-1, 1], that network `index` of a zoo of INRs computes; in ij where nobody knows."""
    return convention.in_unit_range(render(zoo.module(index), side, side, convention.indexing or "ij"))


def class_names(zoo: Zoo, num_classes: int) -> tuple[str, ...]:
    """What the labels mean, as the zoo's image set says, else the labels themselves."""
    names = tuple(map(str, range(num_classes)))
    if len(stated := zoo.classes()) >= num_classes:
        return stated
    if len(zoo.info.sources) != 1:
        return names
    try:
        known = load_images(zoo.info.sources[0].name).class_names
    except ZooError:
        # The names are a kindness: a report without the image set at hand still has its numbers.
        return names
    return known if len(known) >= num_classes else names
