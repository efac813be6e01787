"""What published methods cost beside the DNG-Encoder: all of the same size, on the same networks, in turn.

A training step is a forward and a backward pass. `pytest benchmarks/test_baselines.py --benchmark-only -s` prints the
tables.
"""

import os
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.contenders import amounting_to, compare
from dng.bench.costs import count_flops
from dng.methods.building import build_method
from dng.methods.registry import METHODS
from dng.models.heads import count_parameters
from dng.models.model import Reader
from dng.training.seed import seeded
from zootool.architecture import Architecture
from zootool.graph import GraphBatch
from zootool.nets.cnn import CnnConfig, cnn_architecture
from zootool.nets.siren import siren_architecture

THREADS = len(os.sched_getaffinity(0))
BUDGET = 400_000
BATCH = 16
NETWORKS = {"inr": siren_architecture(2, (32, 32), 1), "small-cnn": cnn_architecture(CnnConfig())}


@pytest.mark.parametrize("kind", NETWORKS)
def test_training_steps(kind: str, benchmark: Any) -> None:
    models, graph = contenders(kind), networks(NETWORKS[kind])
    assert_equal_work(models, graph)
    runs = {name: amounting_to(BATCH, lambda model=model: train(model, graph)) for name, model in models.items()}
    compare(f"training on {kind} networks, {BATCH} a step", "networks/s", runs, "dng")
    benchmark.pedantic(lambda: train(models["dng"], graph))


@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_forward_passes(kind: str, benchmark: Any) -> None:
    models, graph = contenders(kind), networks(NETWORKS[kind])
    assert_equal_work(models, graph)
    runs = {name: amounting_to(BATCH, lambda model=model: model(graph)) for name, model in models.items()}
    compare(f"reading {kind} networks, {BATCH} at a time", "networks/s", runs, "dng")
    for name, model in models.items():
        print(f"| MFLOP of one network, {name} | {count_flops(lambda model=model: model(graph)) / BATCH / 1e6:.1f} |")
    benchmark.pedantic(lambda: models["dng"](graph))


def contenders(kind: str) -> dict[str, Reader]:
    """Every method with a preset for networks of this kind, evaluating: with dropout no two runs are alike."""
    torch.set_num_threads(THREADS)
    names = [name for name, method in METHODS.items() if kind in method.presets and "probes" not in name]
    return {name: build_method(name, [NETWORKS[kind]], 10, BUDGET).eval() for name in names}


def networks(architecture: Architecture) -> GraphBatch:
    with seeded(1):
        edges = tuple(
            (torch.rand(BATCH, t.num_nodes, t.num_sources, t.edges_per_pair) - 0.5) for t in architecture.timestamps
        )
        nodes = tuple(torch.rand(BATCH, t.num_nodes, 1) - 0.5 for t in architecture.timestamps)
    return GraphBatch((architecture,), edges, nodes)


def assert_equal_work(models: dict[str, Reader], graph: GraphBatch) -> None:
    """All have the same size and read each network by itself, so that none gains from its batch."""
    alone = graph.map_weights(lambda tensor: tensor[:1])
    for name, model in models.items():
        assert abs(count_parameters(model) - BUDGET) <= BUDGET / 20, name
        with torch.no_grad():
            torch.testing.assert_close(model(graph)[:1], model(alone), rtol=1e-3, atol=1e-4)


def train(model: nn.Module, graph: GraphBatch) -> None:
    model.zero_grad()
    model(graph).square().mean().backward()
