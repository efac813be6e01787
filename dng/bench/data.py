"""The bridge from a zoo's loader to the models: the only file of dng that knows zootool's loader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from zootool.loader import GraphBatch, Loader

from dng.graph import DynamicGraph


@dataclass(frozen=True)
class LabelledGraphs:
    """A batch of networks with their rows in the zoo's table, labels (int64, B) and source images (uint8, B H W C)."""

    graph: DynamicGraph
    rows: Tensor
    labels: Tensor | None = None
    images: Tensor | None = None


def to_graphs(batch: GraphBatch) -> LabelledGraphs:
    """A loader's batch as the models take it; no weight is copied."""
    graph = DynamicGraph(batch.architecture, batch.edges, batch.nodes, batch.edge_masks)
    return LabelledGraphs(graph, batch.rows, batch.targets.get("label"), batch.images)


class EndlessBatches:
    """A loader's epochs one after another, each batch turned by `convert`; continues from a small state."""

    def __init__(self, loader: Loader, convert: Callable[[GraphBatch], Any] = to_graphs) -> None:
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
