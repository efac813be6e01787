"""A zoo as people use it: `open_zoo`, its selections, its networks, its loader; and whether it is what it says.

It may import the store and everything below, and the loader.
"""

from zootool.zoo.verify import verify
from zootool.zoo.zoo import Zoo, open_zoo

__all__ = ["Zoo", "open_zoo", "verify"]
