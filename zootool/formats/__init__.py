"""The formats in which zoos lie on disk: one reader each, and finding out which one a source is in.

A reader module has `NAME`, `TITLE`, `detect(path)` and `read(path, options)`. `detect` looks at names and sizes only;
`read` gives a `Collection`, and raises BadDataError's children for what isn't as the format says.
"""

from importlib import import_module
from pathlib import Path
from typing import Protocol

from zootool.errors import FormatError, MissingError, UsageError, did_you_mean, printable
from zootool.formats.collection import Collection
from zootool.formats.options import ReadOptions


class Reader(Protocol):
    """What every module in this folder offers."""

    NAME: str
    TITLE: str

    def detect(self, path: Path) -> bool:
        """Whether what lies at `path` has this format's names."""
        ...

    def read(self, path: Path, options: ReadOptions) -> Collection:
        """The checkpoints at `path`."""
        ...


# Modules in the order in which they are asked: an export has the names of the format that it imitates, so it is first;
# the plain folder takes anything that holds checkpoints, so it is last.
_MODULES = (
    "exported",
    "nfn",
    "nfn_converted",
    "mnist_inrs",
    "fmnist_inrs",
    "wide_inrs",
    "small_cnn_zoo",
    "cnn_wild_park",
    "simple_vit_zoo",
    "hyper_representations",
    "small_transformers",
    "plain_folder",
)

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


def readers() -> dict[str, Reader]:
    """Every reader by its name, in the order in which they are asked."""
    modules = [import_module(f"{__name__}.{name}") for name in _MODULES]
    return {module.NAME: module for module in modules}  # type: ignore[misc]


def reader_for(path: Path, name: str | None = None) -> Reader:
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
