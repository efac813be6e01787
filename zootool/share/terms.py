"""Under which terms a zoo is passed on: the licence of the weights, and the terms of the images behind them."""

import re
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from zootool.catalog import load_catalog
from zootool.errors import UsageError, printable
from zootool.files import canonical_json
from zootool.store.manifest import entry_of, manifest_bytes, parse_manifest
from zootool.store.reader import Store
from zootool.store.schema import IMAGES, MANIFEST_JSON, ZOO_JSON, ImageSource, ZooInfo, parse_info

DEFAULT_LICENCE = "CC-BY-4.0"
"""Of the weights of a zoo that was built here, where its owner says nothing else."""

SOURCE_TERMS = "source_terms"
"""The key of `provenance` that holds the terms where zoo.json names no image set."""

_UNKNOWN = re.compile(r"^\s*(unknown|none|other\b.*unknown)", re.IGNORECASE)
_PLAIN = re.compile(r"[\w .,:;()/+'&-]{1,200}")


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
        if text is not None and not _PLAIN.fullmatch(text):
            raise UsageError(f"the terms {printable(text, 60)!r} aren't a line of plain text", hint="write CC-BY-4.0")
    sources = tuple(_with_terms(source, given) for source in info.sources)
    provenance = info.provenance if sources else _stating_terms(info, given)
    stated = {str(source.terms) for source in sources} or {str(provenance[SOURCE_TERMS])}
    if given.source_terms is not None and given.source_terms not in stated:
        said = " and ".join(printable(terms) for terms in sorted(stated))
        raise UsageError(
            f"the images of {printable(info.name, 80)} are under {said}", hint="publish it without --source-terms"
        )
    return replace(info, licence=_licence(info, given), sources=sources, provenance=provenance)


def check_images(store: Store) -> None:
    """Raise UsageError where a store carries source images whose terms don't allow passing them on."""
    if not any(path.startswith(f"{IMAGES}/") for path in store.manifest.files):
        return
    known = load_catalog().image_sets
    for source in store.info.sources or (ImageSource("unnamed images"),):
        image_set = known.get(source.name)
        if image_set is None or not image_set.redistributable:
            terms = source.terms or (image_set.source_terms if image_set else "unknown terms")
            raise UsageError(
                f"{printable(store.info.name, 80)} carries images of {printable(source.name)}, "
                f"whose terms don't allow passing them on ({printable(terms)})",
                hint="convert it again without --with-images, then publish that",
            )


def with_terms(store: Store, given: GivenTerms) -> tuple[Store, dict[str, bytes]]:
    """The store with its terms settled, and the files that it has other than on the disk.

    A store that has all its terms is itself. Else it is a new version, which names the store as its parent and shares
    every file with it but zoo.json and the manifest.
    """
    info = settle_terms(store.info, given)
    if info == store.info:
        return store, {}
    content = canonical_json(replace(info, parent=store.zoo_id).to_dict())
    manifest = manifest_bytes(dict(store.manifest.files) | {ZOO_JSON: entry_of(content)})
    version = copy(store)
    version.info = parse_info(content, ZOO_JSON)
    version.manifest = parse_manifest(manifest, MANIFEST_JSON)
    return version, {ZOO_JSON: content, MANIFEST_JSON: manifest}


def _licence(info: ZooInfo, given: GivenTerms) -> str:
    said = info.licence if info.licence and not _UNKNOWN.match(info.licence) else None
    if said and given.licence and said != given.licence:
        raise UsageError(
            f"{printable(info.name, 80)} is under {printable(said)}, not {given.licence}",
            hint="publish it without --licence",
        )
    licence = said or given.licence or (DEFAULT_LICENCE if _is_built_here(info.provenance) else None)
    if licence is None:
        raise UsageError(
            f"{printable(info.name, 80)} was collected elsewhere, and nothing says under which licence",
            hint="look it up where it comes from, then give it: zoo publish ... --licence CC-BY-4.0",
        )
    return licence


def _is_built_here(provenance: Any) -> bool:
    """Whether zootool trained all of a zoo's networks, those that were appended or merged included."""
    if not isinstance(provenance, dict):
        return False
    merged, appended = provenance.get("merged", []), provenance.get("appended", [])
    if not isinstance(merged, list) or not isinstance(appended, list):
        return False
    parts = [part.get("provenance") if isinstance(part, dict) else None for part in (*merged, *appended)]
    return (bool(merged) or provenance.get("tool") == "zootool") and all(map(_is_built_here, parts))


def _stating_terms(info: ZooInfo, given: GivenTerms) -> dict[str, Any]:
    """The provenance of a zoo that names no image set, with the terms of its images."""
    if info.provenance.get(SOURCE_TERMS):
        return info.provenance
    if given.source_terms is None:
        raise _no_terms(f"{printable(info.name, 80)} doesn't say which images its networks come from")
    return info.provenance | {SOURCE_TERMS: given.source_terms}


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
