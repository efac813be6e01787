"""Batches of dynamic graphs for training. `Zoo.loader` is the way in. Imports the store and what lies below it."""

from zootool.graph import BatchResidual, GraphBatch
from zootool.loader.loader import GraphDataset, Loader, ShuffleQuality, shuffle_quality
from zootool.loader.order import OrderConfig

__all__ = [
    "BatchResidual",
    "GraphBatch",
    "GraphDataset",
    "Loader",
    "OrderConfig",
    "ShuffleQuality",
    "shuffle_quality",
]
