"""What a store's JSON files say: names, versions, records. `docs/format.md` is the prose of this module."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zootool.architecture import ARRAYS, Architecture, ArrayName, signature_of
from zootool.architecture.bounds import (
    MAX_ELEMENTS,
    check_all,
    check_plain,
    check_text,
    check_whole,
    checked_number,
)
from zootool.errors import FormatError, printable
from zootool.records import from_plain, parse_json, to_plain

FORMAT_NAME = "zoo"
FORMAT_MAJOR = 1
FORMAT_MINOR = 0
FORMAT_VERSION = f"{FORMAT_MAJOR}.{FORMAT_MINOR}"

ZOO_JSON = "zoo.json"
ARCHITECTURES_JSON = "architectures.json"
MANIFEST_JSON = "manifest.json"
NETS_PARQUET = "nets.parquet"
ZARR_JSON = "zarr.json"
IMAGES = "images"

DERIVED_FILES = ("README.md", "croissant.json", "view.html")
"""Regenerable from the rest, so outside the manifest and the zoo's id."""

STORE_COLUMNS = (
    "net_id", "architecture", "edge_offset", "node_offset", "extra_offset", "exact_offset", "digest",
)  # fmt: skip
"""The columns of nets.parquet that every store has, in this order, before those of the source."""

OFFSET_COLUMNS: dict[ArrayName, str] = {
    "edges": "edge_offset",
    "nodes": "node_offset",
    "extras": "extra_offset",
    "exact": "exact_offset",
}

MAX_NETWORKS = 1 << 40

_MAX_SOURCES = 10_000
_MAX_SEGMENTS = 1 << 22
_MAX_PROSE = 100_000
"""Of terms, licences and citations, in characters."""

_HEX = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})", re.ASCII)


_PROVENANCE_KINDS: dict[str, type] = {"appended": list, "merged": list, "notes": list, "subset_of": dict}


@dataclass(frozen=True)
class FileEntry:
    """A file's size in bytes and its SHA-256 in lowercase hex, as the manifest has them."""

    size: int
    sha256: str


@dataclass(frozen=True)
class ImageSource:
    """The images that networks were fitted to or trained on, and the conventions that make their weights readable.

    `digest` is the SHA-256 of the image set's shape and pixels, `shape` height, width and channels. `grid` is the
    coordinates' convention in the words of `zootool.nets.rendering.GRIDS`; `target` is what the pixel values 0 and
    255 stand for. `terms` are the images' terms of use, not the weights'.
    """

    name: str
    digest: str | None = None
    shape: tuple[int, ...] = ()
    num_images: int | None = None
    num_classes: int | None = None
    is_partial: bool = False
    grid: str | None = None
    target: tuple[float, float] | None = None
    terms: str | None = None

    def __post_init__(self) -> None:
        check_text("the name of a source", self.name)
        if self.digest is not None and not (isinstance(self.digest, str) and _HEX.fullmatch(self.digest)):
            raise ValueError(f"the digest of a source must be 64 hex digits, got {printable(self.digest, 80)}")
        if not isinstance(self.shape, tuple) or len(self.shape) not in (0, 3):
            raise ValueError("the shape of a source is its height, width and channels, or left out")
        for size in self.shape:
            check_whole("a size of a source", size)
        for name in ("num_images", "num_classes"):
            if getattr(self, name) is not None:
                check_whole(f"{name} of a source", getattr(self, name), 0, MAX_NETWORKS)
        if self.target is not None:
            low, high = (checked_number("a target of a source", value) for value in self.target)
            if low >= high:
                raise ValueError(f"the target of dark pixels, {low:g}, must be below that of bright ones, {high:g}")
        for name in ("grid", "terms"):
            if getattr(self, name) is not None:
                check_text(f"{name} of a source", getattr(self, name), _MAX_PROSE)


@dataclass(frozen=True)
class Segment:
    """`count` networks of one architecture, one behind the other."""

    architecture: str
    count: int

    def __post_init__(self) -> None:
        check_text("the architecture of a segment", self.architecture)
        check_whole("the count of a segment", self.count, 1, MAX_NETWORKS)


@dataclass(frozen=True)
class SourceInfo:
    """What zoo.json says about where networks come from.

    `sources` are the image sets; the column `source` of nets.parquet counts through them (all zero where the column is
    missing). `recipe` and `provenance` are the building tool's own records, plain JSON of bounded size. `assumptions`
    are what was taken for granted about an architecture, in words, by its signature.
    """

    name: str
    kind: str = "mlp"
    sources: tuple[ImageSource, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None
    citation: str | None = None
    parent: str | None = None
    assumptions: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ZooInfo(SourceInfo):
    """zoo.json: what the zoo is and where it comes from.

    `segments` lie one behind the other in the arrays and in nets.parquet, without gaps, so every offset follows from
    them; `counts`, where they are given, agree with them.
    """

    num_networks: int
    segments: tuple[Segment, ...]
    counts: dict[str, int] = field(default_factory=dict)
    format: str = FORMAT_NAME
    format_version: str = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name in ("name", "kind"):
            check_text(name, getattr(self, name))
        for name in ("licence", "citation", "parent"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name), _MAX_PROSE)
        check_all("segments", self.segments, Segment, _MAX_SEGMENTS)
        check_all("sources", self.sources, ImageSource, _MAX_SOURCES)
        for signature, texts in self.assumptions.items():
            check_text("assumptions", signature)
            for text in texts:
                check_text("assumptions", text, _MAX_PROSE)
        total = sum(segment.count for segment in self.segments)
        if total != self.num_networks or not 0 < total <= MAX_NETWORKS:
            raise ValueError(f"num_networks is {self.num_networks}, but the segments hold {total}")
        for name, count in self.counts.items():
            check_text("a key of counts", name)
            check_whole("counts", count, 0, MAX_ELEMENTS)
        check_plain("recipe", self.recipe)
        check_plain("provenance", self.provenance)
        for name, kind in _PROVENANCE_KINDS.items():
            if not isinstance(self.provenance.get(name, kind()), kind):
                raise ValueError(f"{name} of provenance must be {'a list' if kind is list else 'an object'}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the format's name and version always present."""
        return to_plain(self) | {"format": self.format, "format_version": self.format_version}


def assumed_lines(assumptions: Mapping[str, Sequence[str]], most: int = 16) -> list[str]:
    """Assumptions by signature as lines for people: each text once, with the heads of its architectures' signatures."""
    by_text: dict[str, list[str]] = {}
    for signature, texts in assumptions.items():
        for text in texts:
            by_text.setdefault(text, []).append(signature[:8])
    lines = []
    for text, signatures in by_text.items():
        heads = ", ".join(signatures[:4]) + (f" and {len(signatures) - 4} more" if len(signatures) > 4 else "")
        lines.append(printable(text if len(assumptions) == 1 else f"{text} ({heads})", 500))
    return lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most} more, in zoo.json"]


def parse_info(content: bytes, where: str) -> ZooInfo:
    """zoo.json. Raises FormatError, also for a store of a newer major version."""
    value = parse_json(content, where)
    check_version(value, where)
    return from_plain(ZooInfo, value, where)


def check_version(value: Any, where: str) -> None:
    """Refuse what isn't a store, or one whose major version is newer than this reader."""
    if not isinstance(value, dict) or value.get("format") != FORMAT_NAME:
        raise FormatError(f"{where} doesn't say that this is a zoo", hint="give a folder that `zoo convert` wrote")
    version = value.get("format_version")
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise FormatError(f"{where}: format_version must be like '{FORMAT_VERSION}', got {printable(version, 40)}")
    if int(match[1]) > FORMAT_MAJOR:
        raise FormatError(
            f"{where} is of format {version}, this zootool reads up to {FORMAT_MAJOR}.x", hint="upgrade zootool"
        )


def parse_architectures(content: bytes, where: str) -> dict[str, Architecture]:
    """architectures.json: signature -> Architecture, every signature recomputed. Raises FormatError."""
    value = parse_json(content, where)
    if not isinstance(value, dict):
        raise FormatError(f"{where} must be an object")
    architectures = {}
    for signature, plain in value.items():
        place = f"{where}[{printable(signature, 40)}]"
        architecture = Architecture.from_dict(plain, place)
        if not architecture.slots:
            raise FormatError(f"{place} has no slots")
        if signature_of(plain) != signature:
            raise FormatError(f"{place} is filed under the wrong signature")
        architectures[signature] = architecture
    return architectures


def array_lengths(info: ZooInfo, architectures: Mapping[str, Architecture], where: str) -> dict[ArrayName, int]:
    """How many elements each array holds, from the segments. Raises FormatError for a segment without architecture."""
    totals: dict[ArrayName, int] = dict.fromkeys(ARRAYS, 0)
    for segment in info.segments:
        architecture = architectures.get(segment.architecture)
        if architecture is None:
            raise FormatError(f"{where}: a segment has the architecture {printable(segment.architecture, 40)}, "
                              f"which {ARCHITECTURES_JSON} lacks")  # fmt: skip
        for array in ARRAYS:
            totals[array] += segment.count * architecture.array_length(array)
    lies = [name for name in ARRAYS if info.counts.get(name, totals[name]) != totals[name]]
    if lies:
        raise FormatError(
            f"{where}: counts has {info.counts[lies[0]]} for {lies[0]}, the networks need {totals[lies[0]]}"
        )
    if max(totals.values()) > MAX_ELEMENTS:
        raise FormatError(f"{where}: the arrays would hold {max(totals.values())} elements")
    return totals
