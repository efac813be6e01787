"""zootool: populations of trained networks as data. Build, collect, convert, load, share."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zootool.architecture import Architecture
    from zootool.conversion.convert import convert
    from zootool.images import load_images
    from zootool.nets.trace import architecture_of as architecture_of
    from zootool.zoo import Zoo, open_zoo, verify

_HOMES = {
    "Architecture": "zootool.architecture",
    "Zoo": "zootool.zoo",
    "architecture_of": "zootool.nets.trace",
    "convert": "zootool.conversion.convert",
    "load_images": "zootool.images",
    "open_zoo": "zootool.zoo",
    "verify": "zootool.zoo",
}

__all__ = ["Architecture", "Zoo", "__version__", "convert", "load_images", "open_zoo", "verify"]


def __getattr__(name: str) -> Any:
    # Imported when they are used, so that `import zootool` and `zoo --help` don't wait for torch or pandas.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    from zootool.errors import did_you_mean

    raise AttributeError(f"module 'zootool' has no attribute {name!r}: {did_you_mean(name, __all__)}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
