"""Image sets: one file per format, all read into `Images`."""

from zootool.catalog import SPLITS, SplitName
from zootool.images.images import Images
from zootool.images.load import load_images

__all__ = ["SPLITS", "Images", "SplitName", "load_images"]
