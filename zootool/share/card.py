"""README.md of a zoo: the head that hubs read, then what the store says about itself. Computed, never typed."""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from typing import Any

import yaml

from zootool.catalog import load_catalog
from zootool.errors import printable
from zootool.files import canonical_json
from zootool.share.croissant import Publication, croissant
from zootool.share.summary import Summary, describe, num_parameters
from zootool.store.reader import Store
from zootool.store.schema import NETS_PARQUET, assumed_lines

# The hub's identifiers of licences; others go by a name of their own.
_HUB_LICENCES = {
    "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-4.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0",
    "cdla-permissive-2.0", "gpl-3.0", "isc", "lgpl-3.0", "mit", "mpl-2.0", "odbl", "odc-by", "pddl", "unlicense",
}  # fmt: skip
_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~])")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9.]+")
_MAX_ROWS = 20
_MAX_WORDS = 100

_READING = """```python
import zootool

zoo = zootool.open_zoo("path or URL of this folder")
zoo.nets.to_pandas()
zoo.state_dict(0)
```
"""


def derived_files(store: Store, publication: Publication | None = None) -> dict[str, bytes]:
    """README.md and croissant.json of a store, by name.

    README.md is YAML between dashes, then Markdown in which no text of the store is markup.
    """
    summary = Summary(store)
    head = yaml.safe_dump(_head(summary), sort_keys=False, allow_unicode=False, width=100)
    card = f"---\n{head}---\n\n" + "\n".join(_body(summary)) + "\n"
    return {"README.md": card.encode(), "croissant.json": croissant(summary, publication or Publication())}


def _markdown(text: object, limit: int = 400) -> str:
    """Text from a store as Markdown that shows it as it is."""
    return _SPECIAL.sub(r"\\\1", html.escape(printable(text, limit), quote=False))


def _head(summary: Summary) -> dict[str, Any]:
    info = summary.store.info
    licence = (info.licence or "").lower()
    known = licence in _HUB_LICENCES
    return {
        "license": licence if known else "other",
        **({} if known or not licence else {"license_name": _NOT_IN_A_NAME.sub("-", licence)[:80].strip("-")}),
        "pretty_name": printable(info.name, 80),
        "size_categories": [next((name for limit, name in _SIZES if len(summary.store) < limit), "n>1T")],
        "tags": ["model-zoo", "weight-space-learning", "neural-network-weights", printable(info.kind, 40)],
        "source_datasets": [printable(source.name, 80) for source in info.sources],
        "configs": [{"config_name": "nets", "data_files": NETS_PARQUET}],
    }


def _body(summary: Summary) -> Iterator[str]:
    store, info = summary.store, summary.store.info
    yield f"# {_markdown(info.name)}\n"
    yield (
        f"{len(store):,} trained networks ({_markdown(info.kind)}) as data: {store.manifest.num_bytes / 1e6:,.1f} MB, "
        f"zoo format {_markdown(info.format_version)}.\n"
    )
    yield f"Id: `{store.zoo_id}`\n"
    if info.parent:
        yield f"Made from the version {_markdown(info.parent, 64)}.\n"
    yield "## Reading it\n"
    yield _READING
    yield from _counts(summary)
    yield from _conventions(summary)
    yield from _metrics(summary)
    yield from _terms(summary)


def _counts(summary: Summary) -> Iterator[str]:
    yield "## Networks\n"
    yield "| architecture | networks | parameters each |\n| --- | --- | --- |"
    for architecture, count in summary.architecture_counts[:_MAX_ROWS]:
        yield f"| {_markdown(describe(architecture))} | {count:,} | {num_parameters(architecture):,} |"
    if (more := len(summary.architecture_counts) - _MAX_ROWS) > 0:
        yield f"| and {more:,} more | | |"
    yield ""
    if summary.splits:
        yield f"Splits: {_listed(f'{_markdown(name)} {count:,}' for name, count in summary.splits.items())}.\n"
    if summary.num_labels is not None:
        yield f"Labels: {summary.num_labels:,} different ones.\n"
    if summary.num_nonfinite:
        yield f"Networks with parameters that are NaN or infinite: {summary.num_nonfinite:,} (column `is_finite`).\n"
    yield f"Columns: {_listed(_markdown(name, 80) for name in summary.columns)}.\n"


def _conventions(summary: Summary) -> Iterator[str]:
    yield "## Conventions\n"
    if summary.omega_0:
        yield f"- omega_0: {', '.join(f'{value:g}' for value in summary.omega_0)}"
    yield f"- output offset: {', '.join(f'{value:g}' for value in summary.output_offsets)}"
    for source in summary.store.info.sources:
        if source.grid:
            yield f"- grid of {_markdown(source.name)}: {_markdown(source.grid)}"
        if source.target:
            low, high = source.target
            yield f"- target of {_markdown(source.name)}: pixel values 0 and 255 stand for {low:g} and {high:g}"
    for text in assumed_lines(summary.store.info.assumptions):
        yield f"- assumed, since no tensor says it: {_markdown(text, 500)}"
    for key, value in sorted(summary.store.info.recipe.items()):
        yield f"- recipe, {_markdown(key, 80)}: {_markdown(_plain(value))}"
    yield ""


def _metrics(summary: Summary) -> Iterator[str]:
    if not summary.spreads:
        return
    yield "## Metrics\n"
    yield "| column | mean | smallest | median | largest | networks |\n| --- | --- | --- | --- | --- | --- |"
    for name, spread in summary.spreads.items():
        count, *numbers = astuple(spread)
        yield f"| {name} | " + " | ".join(f"{number:.4g}" for number in numbers) + f" | {count:,} |"
    yield ""


def _terms(summary: Summary) -> Iterator[str]:
    info = summary.store.info
    yield "## Terms\n"
    yield f"- licence of the weights: {_markdown(info.licence or 'not stated')}"
    for source in info.sources:
        partial = ", a part of it" if source.is_partial else ""
        terms = _markdown(source.terms or "not stated")
        yield f"- source terms of the images of {_markdown(source.name)}{partial}: {terms}"
    if stated := info.provenance.get("source_terms"):
        yield f"- source terms: {_markdown(stated)}"
    if summary.store.images is not None:
        yield f"- {len(summary.store.images):,} source images are carried along in `images/`"
    yield "\n## Provenance\n"
    for source in info.sources:
        size, digest = " x ".join(map(str, source.shape)), _markdown(source.digest or "unknown")
        yield f"- image set {_markdown(source.name)}: {size}, SHA-256 of its pixels {digest}"
    for key, value in sorted(info.provenance.items()):
        # Notes and files that were left out stand one a line.
        each = value if isinstance(value, list) and all(isinstance(item, str) for item in value) else [value]
        yield from (f"- {_markdown(key, 80)}: {_markdown(_plain(item), 1000)}" for item in each[:_MAX_ROWS])
        if (more := len(each) - _MAX_ROWS) > 0:
            yield f"- {_markdown(key, 80)}: {more:,} more in zoo.json"
    yield "\n## Citation\n"
    own = f"{info.name}: {len(summary.store):,} trained networks ({info.kind}), zoo {summary.store.zoo_id}"
    yield f"- the zoo: {_markdown(info.citation or own, 2000)}"
    known = load_catalog().image_sets
    for name in dict.fromkeys(source.name for source in info.sources if source.name in known):
        yield f"- its images, {_markdown(name)}: {_markdown(known[name].citation, 2000)}"


def _listed(words: Iterable[str]) -> str:
    """The first of some words, and how many more there are."""
    words = list(words)
    more = f" and {len(words) - _MAX_WORDS:,} more" if len(words) > _MAX_WORDS else ""
    return ", ".join(words[:_MAX_WORDS]) + more


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value).decode("ascii")
