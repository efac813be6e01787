"""The formats in which zoos lie on disk: one reader each, and finding out which one a source is in.
May import images, untrusted, nets, columns and what these may.

To add a format, put one file into this folder: a `Reader` is registered by being in it. Where a network is a file, it
is a `FileReader` (`skeleton.py`), which declares names and columns and how a path becomes a network; the skeleton does
the rest (tests/zootool/formats/test_new_format.py has a small one). A zoo that is published gets its entry in
datasets.yaml, whose `layout` is the reader's NAME. Nothing else is touched.
"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from zootool.errors import FormatError, MissingError, UsageError, did_you_mean, printable
from zootool.formats.skeleton import Reader

_ABOVE = ("preview", "published_zoo", "reading")
"""Modules of this folder that use the readers and are none: they aren't imported to find these."""

_BENCH = "the folder of a `zoo bench` run, which holds results"
_TRAIN = "the folder of a `zoo train` run, which holds a model of networks"
_NETWORKS = "give the networks that it ran on; its results are in report.html and results.json"
_MODEL = "take it as --model of `zoo embed` or `zoo predict`; for its own weights give --format folder"
_NO_SOURCES = (
    (("settings.json", "results.json"), _BENCH, _NETWORKS),
    (("results.json", "predictions.parquet"), _BENCH, _NETWORKS),
    (("train.json", "metrics.jsonl"), _TRAIN, _MODEL),
)
"""Folders that zootool itself leaves and that aren't meant here: files that they have, what they are, the way out."""


def readers() -> dict[str, type[Reader]]:
    """Every reader in this folder by its name, in the order in which they are asked."""
    modules = [
        import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__) if found.name not in _ABOVE
    ]
    found = [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Reader) and kind.__module__ == module.__name__
        if hasattr(kind, "NAME")
    ]
    return {kind.NAME: kind for kind in sorted(found, key=lambda kind: kind.RANK)}


def reader_for(path: Path, name: str | None = None) -> type[Reader]:
    """The reader called `name`, or the first that knows what lies at `path`.

    Raises UsageError for an unknown name, MissingError where there is nothing, FormatError where no reader fits.
    """
    known = readers()
    if name is not None:
        if name not in known:
            raise UsageError(f"there is no format {printable(name, 60)!r}", hint=did_you_mean(name, known))
        return known[name]
    if not path.exists():
        raise MissingError(f"there is nothing at {printable(path)}", hint="give a folder or file of checkpoints")
    if not (path.is_dir() or path.is_file()):
        raise FormatError(f"{printable(path)} is a pipe or a device", hint="give a folder or file of checkpoints")
    for names, what, hint in _NO_SOURCES:
        if all((path / name).is_file() for name in names):
            raise FormatError(f"{printable(path)} is {what}", hint=hint)
    for reader in known.values():
        if reader.detect(path):
            return reader
    raise FormatError(
        f"{printable(path)} is of no format that zootool knows", hint=f"name one by --format: {', '.join(known)}"
    )
