"""Batches of dynamic graphs for training. `Zoo.loader` is the way in."""

from zootool.loader.batch import BatchResidual, GraphBatch
from zootool.loader.loader import Loader
from zootool.loader.order import OrderConfig

__all__ = ["BatchResidual", "GraphBatch", "Loader", "OrderConfig"]
