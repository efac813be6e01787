"""One network's dynamic graph as a drawing that steps through its timestamps: some nodes of each, edges between."""

from typing import Any

import numpy as np

from zootool.architecture import Architecture, Timestamp
from zootool.zoo.zoo import Zoo

MAX_NODES = 14
"""Nodes drawn per timestamp; of more, some evenly spaced ones are."""

_MAX_TIMESTAMPS = 24


def steps_of(zoo: Zoo, place: int) -> list[dict[str, Any]]:
    """A step per timestamp: its words, its drawn nodes with their bias, and its edges (source, target, weight).

    Weights are scaled to -1..1 by the step's largest; an edge of several weights has their mean.
    """
    batch = zoo.graph(place)
    architecture = zoo.architecture_of(place)
    inputs = _drawn(architecture.num_inputs)
    steps: list[dict[str, Any]] = [
        {
            "text": f"{architecture.num_inputs} input nodes",
            "total": architecture.num_inputs,
            "nodes": inputs,
            "edges": [],
        }
    ]
    before = inputs
    for t, timestamp in enumerate(architecture.timestamps[:_MAX_TIMESTAMPS]):
        after = _drawn(timestamp.num_nodes)
        weights = batch.edges[t][0].numpy()
        steps.append(
            {
                "text": _words(architecture, timestamp),
                "total": timestamp.num_nodes,
                "nodes": after,
                "edges": _edges(weights, before, after),
            }
        )
        before = after
    return steps


def _drawn(count: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, MAX_NODES)).astype(np.int64)).tolist()


def _edges(weights: np.ndarray, sources: list[int], targets: list[int]) -> list[list[float]]:
    if weights.shape[2] == 0 or weights.shape[1] <= max(sources, default=0):
        return []
    means = np.nan_to_num(weights.mean(axis=2), posinf=0.0, neginf=0.0)[np.ix_(targets, sources)]
    largest = float(np.abs(means).max(initial=0.0)) or 1.0
    return [[j, i, round(float(means[i, j]) / largest, 3)] for i in range(len(targets)) for j in range(len(sources))]


def _words(architecture: Architecture, timestamp: Timestamp) -> str:
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
