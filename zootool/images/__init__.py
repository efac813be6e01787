"""Image sets as `Images`: those of datasets.yaml, one file per format, and folders of one's own.

Imports from fetch and untrusted and what is below them.
"""

from zootool.images.images import Images
from zootool.images.loading import load_images

__all__ = ["Images", "load_images"]
