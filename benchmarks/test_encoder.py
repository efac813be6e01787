"""What INR2JLS costs: as we compute it against the formulas as they stand, in turn within one process.

The networks are MNIST INRs, 2-32-32-1, the model has the paper's widths. As written, every Fourier feature is
computed and multiplied, and the latent generator's first layer runs on every pair of a spatial vector and a memory.
`pytest benchmarks/test_encoder.py --benchmark-only -s` prints the table.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dng.bench.efficiency.cases import generate_as_written
from dng.config import EncoderConfig
from dng.flops import count_flops
from dng.graph import DynamicGraph
from dng.inr2jls import INR2JLS, INR2JLSConfig
from dng.seed import seeded
from dng.tensor_bytes import peak_tensor_bytes
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (32, 32), 1)
BATCH = 64
ROUNDS = 5
THREADS = len(os.sched_getaffinity(0))


class AsWritten(INR2JLS):
    """The same model without short cuts."""

    def encode(self, graph: DynamicGraph) -> Tensor:
        return generate_as_written(self.generator, self.encoder(graph).flatten(1))

    def loss(self, graph: DynamicGraph, images: Tensor) -> Tensor:
        return (self(graph) - self.target_views(images)).square().mean()


def test_encoding_networks(benchmark: Any) -> None:
    fast, written = models()
    graph = networks()
    with torch.no_grad():
        compare(benchmark, "encode", lambda: fast.encode(graph), lambda: written.encode(graph))
        for name, model in (("as computed", fast), ("as written", written)):
            flops = count_flops(lambda model=model: model.encode(graph)) / BATCH
            print(f"| FLOPs of encoding one network, {name} | {flops / 1e9:.3f} G |")


def test_a_training_step(benchmark: Any) -> None:
    fast, written = models()
    graph, images = networks(), torch.zeros(BATCH, 1, 28, 28)

    def step(model: INR2JLS) -> None:
        model.zero_grad()
        model.loss(graph, images).backward()

    compare(benchmark, "training step", lambda: step(fast), lambda: step(written))
    peaks = {name: peak_tensor_bytes(lambda model=model: step(model)) for name, model in
             (("as computed", fast), ("as written", written))}  # fmt: skip
    print(f"| peak memory of a training step | {peaks['as computed'] / peaks['as written']:.2f} of as written |")


def models() -> tuple[INR2JLS, INR2JLS]:
    config = INR2JLSConfig(28, 1)
    with seeded(0):
        fast = INR2JLS(SIREN, config)
    written = AsWritten(SIREN, replace(config, encoder=EncoderConfig(expansion_range=0.0)))
    written.decoder[1] = torch.nn.ReLU()
    written.load_state_dict(fast.state_dict())
    return fast, written


def networks() -> DynamicGraph:
    with seeded(1):
        edges = tuple(torch.rand(BATCH, t.num_nodes, t.num_sources, 1) - 0.5 for t in SIREN.timestamps)
        nodes = tuple(torch.rand(BATCH, t.num_nodes, 1) - 0.5 for t in SIREN.timestamps)
    return DynamicGraph((SIREN,), edges, nodes)


def compare(benchmark: Any, name: str, fast: Callable[[], object], written: Callable[[], object]) -> None:
    """Time both in turn and print the median of the rounds' ratios."""
    torch.set_num_threads(THREADS)
    fast(), written()
    pairs = [(seconds(fast), seconds(written)) for _ in range(ROUNDS)]
    ratio = statistics.median(slow / quick for quick, slow in pairs)
    median = statistics.median(quick for quick, _ in pairs)
    print(f"\n| {name}, {BATCH} networks, {THREADS} threads | {median * 1e3:.0f} ms | {ratio:.1f}x faster |")
    benchmark.extra_info["ratio"] = ratio
    benchmark.pedantic(fast, rounds=ROUNDS)


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
