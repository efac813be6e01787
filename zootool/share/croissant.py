"""croissant.json: a zoo in the vocabulary of MLCommons Croissant 1.0 with its responsible-AI extension.

Files carry the manifest's own SHA-256; the record set `networks` yields the rows of nets.parquet.
"""

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from zootool.errors import printable
from zootool.share.summary import Summary
from zootool.store.schema import NETS_PARQUET, FileEntry

# Of Croissant 1.0, in its order; terms that aren't spelled out mean cr: and their own name.
_TERMS = (
    "@language @vocab citeAs column conformsTo cr rai data dataType dct examples extract field fileProperty fileObject "
    "fileSet format includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated "
    "replace sc separator source subField transform"
)
_SPELLED: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}
_DATA_TYPES = (
    (pa.types.is_boolean, "sc:Boolean"),
    (pa.types.is_integer, "sc:Integer"),
    (pa.types.is_floating, "sc:Float"),
    (pa.types.is_string, "sc:Text"),
    (pa.types.is_large_string, "sc:Text"),
)
_FORMATS = {".json": "application/json", ".parquet": "application/x-parquet"}


@dataclass(frozen=True)
class Publication:
    """What a store can't know: the URL where others find it, and the day (YYYY-MM-DD) of its publication."""

    url: str | None = None
    day: str | None = None


def croissant(summary: Summary, publication: Publication) -> bytes:
    """The content of croissant.json."""
    info = summary.store.info
    value = {
        "@context": {term: _SPELLED.get(term, f"cr:{term}") for term in _TERMS.split()},
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": printable(info.name, 80),
        "description": f"{len(summary.store)} trained neural networks ({printable(info.kind, 40)}) as a zoo: "
        f"weights, architectures and a table with a row per network.",
        "identifier": summary.store.zoo_id,
        "version": "1.0.0",
        "isLiveDataset": False,
        **({"license": printable(info.licence)} if info.licence else {}),
        **({"url": printable(publication.url, 1000)} if publication.url else {}),
        **({"datePublished": publication.day} if publication.day else {}),
        "citeAs": printable(info.citation or f"{info.name}, zoo {summary.store.zoo_id}", 2000),
        **_responsible_ai(summary),
        "distribution": [_file(path, entry) for path, entry in sorted(summary.store.manifest.files.items())],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "networks",
                "name": "networks",
                "description": "A row per network.",
                "key": {"@id": "networks/net_id"},
                "field": list(filter(None, map(_field, summary.store.nets.schema))),
            }
        ],
    }
    return json.dumps(value, indent=1).encode("ascii")


def _responsible_ai(summary: Summary) -> dict[str, Any]:
    info = summary.store.info
    sources = [f"{source.name}: {source.terms or 'terms not stated'}" for source in info.sources]
    tool = " ".join(str(info.provenance[key]) for key in ("tool", "tool_version") if key in info.provenance)
    limits = [f"made from a part of {source.name}" for source in info.sources if source.is_partial]
    if summary.num_nonfinite:
        limits.append(f"{summary.num_nonfinite} networks have parameters that are not finite")
    return {
        "rai:dataCollection": printable(
            f"Networks trained or collected by {tool or 'a tool that is not stated'}.", 400
        ),
        "rai:dataCollectionType": "Experiments",
        "rai:dataPreprocessingProtocol": printable(json.dumps(info.recipe, sort_keys=True), 4000),
        "rai:dataUseCases": "Learning from the weights of trained networks.",
        "rai:dataReleaseMaintenancePlan": "This version never changes. A later one has another identifier.",
        "rai:dataLimitations": printable("; ".join(limits) or "none recorded in the store", 1000),
        "rai:personalSensitiveInformation": printable(
            "Weights may reproduce the images that they were trained on: " + ("; ".join(sources) or "not stated"), 2000
        ),
    }


def _file(path: str, entry: FileEntry) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{entry.size} B",
        "encodingFormat": _FORMATS.get(PurePosixPath(path).suffix, "application/octet-stream"),
        "sha256": entry.sha256,
    }


def _field(column: pa.Field) -> dict[str, Any] | None:
    """A column of the table; None for bytes, which Croissant has no type for, and for names that can't be shown."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    data_type = next((name for check, name in _DATA_TYPES if check(kind)), None)
    if data_type is None or printable(column.name, 100) != column.name:
        return None
    return {
        "@type": "cr:Field",
        "@id": f"networks/{column.name}",
        "name": f"networks/{column.name}",
        "dataType": data_type,
        "source": {"fileObject": {"@id": NETS_PARQUET}, "extract": {"column": column.name}},
    }
