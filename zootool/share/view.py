"""view.html: a zoo on one page that needs no network and asks for none.

What comes from the store is JSON in a block that is never run, and becomes text nodes, never markup. The page's
Content-Security-Policy allows its own style and script by their digests, images inside it, and nothing else.
"""

import base64
import json
from hashlib import sha256
from importlib.resources import files
from typing import Any

import numpy as np

from zootool.architecture import Timestamp
from zootool.columns.values import numbers
from zootool.errors import UsageError, printable
from zootool.share.sample import is_number, sample_networks
from zootool.share.summary import METRICS, Summary, describe, histogram, num_parameters
from zootool.share.terms import SOURCE_TERMS
from zootool.store.schema import assumed_lines
from zootool.zoo.zoo import Zoo

MAX_PAGE_BYTES = 3_000_000

_MAX_IMAGE_BYTES = 1_800_000
_BINS = 32
_MAX_ARCHITECTURES = 12
_MAX_NOTES = 20
_MAX_NODES = 14
"""Nodes drawn per timestamp; of more, some evenly spaced ones are."""

_MAX_TIMESTAMPS = 24
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def view_page(zoo: Zoo, *, size: int = 160, seed: int = 0) -> bytes:
    """The page of a zoo, with a sample of about `size` networks; under 3 MB.

    Raises UsageError for a sample that is too large for that.
    """
    text = json.dumps(_data(zoo, size, seed), separators=(",", ":"), allow_nan=False).translate(_ESCAPES)
    parts = {name: _resource(f"page.{name}") for name in ("css", "js")}
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_digest(parts['css'])}'; script-src '{_digest(parts['js'])}'"
    )
    page = _resource("page.html")
    for name, content in (("POLICY", policy), ("STYLE", parts["css"]), ("SCRIPT", parts["js"]), ("DATA", text)):
        page = page.replace(f"%{name}%", content, 1)
    content = page.encode("utf-8")
    if len(content) >= MAX_PAGE_BYTES:
        raise UsageError(f"the page would have {len(content):,} bytes", hint=f"show fewer than {size} networks")
    return content


def _data(zoo: Zoo, size: int, seed: int) -> dict[str, Any]:
    summary = Summary(zoo.store)
    columns, records = sample_networks(zoo, size, _MAX_IMAGE_BYTES, seed)
    metric = next(iter(summary.spreads), None)
    # The network that is drawn in steps has the sample's median metric.
    ranked = sorted((r[metric], i) for i, r in enumerate(records) if metric and is_number(r.get(metric)))
    typical = records[ranked[len(ranked) // 2][1] if ranked else 0]
    return {
        "name": printable(zoo.info.name, 120),
        "lead": f"{len(zoo):,} trained networks as data, {zoo.store.manifest.num_bytes / 1e6:,.1f} MB",
        "facts": _facts(summary),
        "columns": columns,
        "records": records,
        "metric": metric,
        "distributions": _distributions(zoo, summary),
        "steps": _steps(zoo, int(np.searchsorted(zoo.rows, typical["row"]))),
        "stepped": str(typical.get("net_id", typical["row"])),
    }


def _facts(summary: Summary) -> list[list[str]]:
    info = summary.store.info
    rows = [["id", summary.store.zoo_id], ["format", info.format_version], ["kind", info.kind]]
    for architecture, count in summary.architecture_counts[:_MAX_ARCHITECTURES]:
        each = f"{count:,} networks, {num_parameters(architecture):,} parameters each"
        rows.append(["architecture", f"{describe(architecture)}: {each}"])
    if (more := len(summary.architecture_counts) - _MAX_ARCHITECTURES) > 0:
        rows.append(["architecture", f"and {more:,} more"])
    if summary.splits:
        rows.append(["splits", ", ".join(f"{name} {count:,}" for name, count in summary.splits.items())])
    rows += [["note", str(text)] for text in info.provenance.get("notes", [])[:_MAX_NOTES]]
    rows += [["assumed", text] for text in assumed_lines(info.assumptions)]
    if summary.omega_0:
        rows.append(["omega_0", ", ".join(f"{value:g}" for value in summary.omega_0)])
    rows.append(["output offset", ", ".join(f"{value:g}" for value in summary.output_offsets)])
    for source in info.sources:
        rows.append(["images", f"{source.name}; their terms: {source.terms or 'not stated'}"])
        if source.grid:
            rows.append(["grid", source.grid])
        if source.target:
            low, high = source.target
            rows.append(["target", f"pixel values 0 and 255 stand for {low:g} and {high:g}"])
    if stated := info.provenance.get(SOURCE_TERMS):
        rows.append(["images", f"unnamed; their terms: {stated}"])
    for name, spread in summary.spreads.items():
        rows.append([name, f"median {spread.median:.4g}, from {spread.smallest:.4g} to {spread.largest:.4g}"])
    rows += [["licence", info.licence or "not stated"], ["citation", info.citation or "not stated"]]
    if info.parent:
        rows.append(["parent", info.parent])
    return [[name, printable(value, 300)] for name, value in rows]


def _distributions(zoo: Zoo, summary: Summary) -> list[dict[str, Any]]:
    """A histogram of every metric over all networks, not the sample alone."""
    found = []
    for name in (metric for metric in METRICS if metric in summary.spreads):
        values = numbers(zoo.nets.to_arrow([name])[name])
        assert values is not None, "spreads are those of numbers"
        finite = values[np.isfinite(values)]
        if len(finite):
            high = float(np.quantile(finite, 0.99) if name == "loss" else finite.max())
            found.append({"name": name} | histogram(finite, _BINS, float(finite.min()), high))
    return found


def _steps(zoo: Zoo, place: int) -> list[dict[str, Any]]:
    """One network's dynamic graph, a step per timestamp: words, drawn nodes, edges as (source, target, weight).

    Weights are scaled to -1..1 by the step's largest; an edge of several weights has their mean.
    """
    batch, architecture = zoo.graph(place), zoo.architecture_of(place)
    count = architecture.num_inputs
    nodes = _drawn(count)
    steps: list[dict[str, Any]] = [{"text": f"{count} input nodes", "total": count, "nodes": nodes, "edges": []}]
    for t, timestamp in enumerate(architecture.timestamps[:_MAX_TIMESTAMPS]):
        before, nodes, count = nodes, _drawn(timestamp.num_nodes), timestamp.num_nodes
        edges = _edges(batch.edges[t][0].numpy(), before, nodes)
        steps.append({"text": _words(timestamp), "total": count, "nodes": nodes, "edges": edges})
    return steps


def _drawn(count: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, _MAX_NODES)).astype(np.int64)).tolist()


def _edges(weights: np.ndarray, sources: list[int], targets: list[int]) -> list[list[float]]:
    if weights.shape[2] == 0 or weights.shape[1] <= max(sources, default=0):
        return []
    means = np.nan_to_num(weights.mean(axis=2), posinf=0.0, neginf=0.0)[np.ix_(targets, sources)]
    largest = float(np.abs(means).max(initial=0.0)) or 1.0
    return [[j, i, round(float(means[i, j]) / largest, 3)] for i in range(len(targets)) for j in range(len(sources))]


def _words(timestamp: Timestamp) -> str:
    parts = [f"{timestamp.kind.replace('_', ' ')}, {timestamp.num_nodes} nodes"]
    if timestamp.edges_per_pair:
        count = timestamp.num_nodes * timestamp.num_sources * timestamp.edges_per_pair
        each = f", {timestamp.edges_per_pair} per pair" if timestamp.edges_per_pair > 1 else ""
        parts.append(f"{count:,} edges{each}")
    activation = timestamp.activation
    if activation.name != "none":
        parts.append(activation.name + (f" with omega_0 {activation.omega_0:g}" if activation.omega_0 else ""))
    if timestamp.norm is not None:
        parts.append(f"{timestamp.norm.kind} norm")
    if timestamp.residuals:
        parts.append(f"{len(timestamp.residuals)} residual")
    return "; ".join(parts)


def _resource(name: str) -> str:
    return files("zootool.share").joinpath("page", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")
