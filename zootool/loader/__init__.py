"""Batches of dynamic graphs for training. `Zoo.loader` is the way in."""

from zootool.graph import BatchResidual, GraphBatch
from zootool.loader.dataset import GraphDataset
from zootool.loader.loader import Loader
from zootool.loader.order import OrderConfig
from zootool.loader.quality import ShuffleQuality, shuffle_quality

__all__ = [
    "BatchResidual",
    "GraphBatch",
    "GraphDataset",
    "Loader",
    "OrderConfig",
    "ShuffleQuality",
    "shuffle_quality",
]
