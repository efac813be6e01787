"""Under which terms a zoo is passed on: the licence of the weights, and the terms of the images behind them."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from zootool.catalog import load_catalog
from zootool.errors import UsageError, printable
from zootool.files import canonical_json, remove_leftovers, temporary_path
from zootool.store.manifest import entry_of, manifest_bytes
from zootool.store.reader import Store, open_store
from zootool.store.schema import IMAGES, MANIFEST_JSON, ZOO_JSON, ImageSource, ZooInfo
from zootool.store.storage import LocalStorage

DEFAULT_LICENCE = "CC-BY-4.0"
"""Of the weights of a zoo that was built here, where its owner says nothing else."""

SOURCE_TERMS = "source_terms"
"""The key of `provenance` that holds the terms where zoo.json names no image set."""

_UNKNOWN = re.compile(r"^\s*(unknown|none|other\b.*unknown)", re.IGNORECASE)
_PLAIN = re.compile(r"^[\w .,:;()/+'&-]{1,200}$")


@dataclass(frozen=True)
class GivenTerms:
    """What the publisher says about a zoo that doesn't say it itself."""

    licence: str | None = None
    source_terms: str | None = None


def settle_terms(info: ZooInfo, given: GivenTerms) -> ZooInfo:
    """`info` with a licence and the terms of every image set.

    Raises UsageError where one is missing, or given against what the zoo says.
    """
    for text in (given.licence, given.source_terms):
        if text is not None and not _PLAIN.match(text):
            raise UsageError(f"the terms {printable(text, 60)!r} aren't a line of plain text", hint="write CC-BY-4.0")
    sources = tuple(_with_terms(source, given) for source in info.sources)
    provenance = info.provenance
    if not sources and not provenance.get(SOURCE_TERMS):
        if given.source_terms is None:
            raise _no_terms(f"{info.name} doesn't say which images its networks come from")
        provenance = provenance | {SOURCE_TERMS: given.source_terms}
    return replace(info, licence=_licence(info, given), sources=sources, provenance=provenance)


def check_images(store: Store) -> None:
    """Raise UsageError where a store carries source images whose terms don't allow passing them on."""
    if not any(path.startswith(f"{IMAGES}/") for path in store.manifest.files):
        return
    known = load_catalog().image_sets
    for source in store.info.sources or (ImageSource("unnamed images"),):
        if source.name not in known or not known[source.name].redistributable:
            raise UsageError(
                f"{store.info.name} carries images of {printable(source.name)}, whose terms don't allow passing them "
                f"on ({printable(source.terms or 'unknown terms')})",
                hint="convert it again without --with-images, then publish that",
            )


@contextmanager
def with_terms(store: Store, given: GivenTerms) -> Iterator[Store]:
    """The store with its terms settled: itself where it has them all, else a new version beside it for the while.

    The new version shares every file but zoo.json, and names the store as its parent.
    """
    info = settle_terms(store.info, given)
    if info == store.info:
        yield store
        return
    if not isinstance(store.storage, LocalStorage):
        raise UsageError(f"{store.storage.name} isn't a folder here", hint=f"zoo pull {store.storage.name} first")
    beside = store.storage.folder.resolve()
    home = beside.with_name(f"{beside.name}-with-terms")
    remove_leftovers(home.parent, home.name)
    folder = temporary_path(home)
    folder.mkdir()
    try:
        write_version(store, replace(info, parent=store.zoo_id), folder)
        yield open_store(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_version(store: Store, info: ZooInfo, folder: Path) -> None:
    """Fill an empty folder with the store's files by hard links (or copies), another zoo.json and its manifest."""
    content = canonical_json(info.to_dict())
    files = dict(store.manifest.files) | {ZOO_JSON: entry_of(content)}
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if path != ZOO_JSON:
            store.storage.link(path, folder / path)
    (folder / ZOO_JSON).write_bytes(content)
    (folder / MANIFEST_JSON).write_bytes(manifest_bytes(files))


def _licence(info: ZooInfo, given: GivenTerms) -> str:
    said = info.licence if info.licence and not _UNKNOWN.match(info.licence) else None
    if said and given.licence and said != given.licence:
        raise UsageError(
            f"{info.name} is under {printable(said)}, not {given.licence}", hint="publish it without --licence"
        )
    built_here = info.provenance.get("tool") == "zootool" and "merged" not in info.provenance
    licence = said or given.licence or (DEFAULT_LICENCE if built_here else None)
    if licence is None:
        raise UsageError(
            f"{info.name} was collected elsewhere, and nothing says under which licence",
            hint="look it up where it comes from, then give it: zoo publish ... --licence CC-BY-4.0",
        )
    return licence


def _with_terms(source: ImageSource, given: GivenTerms) -> ImageSource:
    if source.terms:
        return source
    known = load_catalog().image_sets.get(source.name)
    terms = known.source_terms if known is not None else given.source_terms
    if terms is None:
        raise _no_terms(f"nothing says under which terms the images of {printable(source.name)} are")
    return replace(source, terms=terms)


def _no_terms(problem: str) -> UsageError:
    return UsageError(problem, hint='look them up, then give them: zoo publish ... --source-terms "CC BY 4.0"')
