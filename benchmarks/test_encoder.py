"""What INR2JLS costs: as we compute it against the formulas as they stand, in turn within one process.

The networks are MNIST INRs, 2-32-32-1, the model has the paper's widths. As written, every Fourier feature is
computed and multiplied, and the latent generator's first layer runs on every pair of a spatial vector and a memory.
`pytest benchmarks/test_encoder.py --benchmark-only -s` prints the table.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders import ROUNDS, amounting_to, compare, median_ratio
from dng.bench.costs import count_flops, peak_tensor_bytes
from dng.bench.efficiency import generate_as_written
from dng.encoder.config import EncoderConfig
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.training.seed import seeded
from zootool.graph import GraphBatch
from zootool.nets.siren import siren_architecture

SIREN = siren_architecture(2, (32, 32), 1)
BATCH = 64
THREADS = len(os.sched_getaffinity(0))


class AsWritten(INR2JLS):
    """The same model without short cuts."""

    def encode(self, graph: GraphBatch) -> Tensor:
        return generate_as_written(self.generator, self.encoder(graph).flatten(1))

    def loss(self, graph: GraphBatch, images: Tensor) -> Tensor:
        return (self(graph) - self.target_views(images)).square().mean()


def test_encoding_networks(benchmark: Any) -> None:
    fast, written = models()
    graph = networks()
    with torch.no_grad():
        torch.testing.assert_close(fast.encode(graph), written.encode(graph), rtol=1e-4, atol=1e-5)
        compare_two(benchmark, "encode", lambda: fast.encode(graph), lambda: written.encode(graph))
        for name, model in (("as computed", fast), ("as written", written)):
            flops = count_flops(lambda model=model: model.encode(graph)) / BATCH
            print(f"| FLOPs of encoding one network, {name} | {flops / 1e9:.3f} G |")


def test_a_training_step(benchmark: Any) -> None:
    fast, written = models()
    graph, images = networks(), torch.zeros(BATCH, 1, 28, 28)

    def step(model: INR2JLS) -> None:
        model.zero_grad()
        model.loss(graph, images).backward()

    assert_equal_gradients(fast, written, step)
    compare_two(benchmark, "training step", lambda: step(fast), lambda: step(written))
    peaks = {name: peak_tensor_bytes(lambda model=model: step(model)) for name, model in
             (("as computed", fast), ("as written", written))}  # fmt: skip
    print(f"| peak memory of a training step | {peaks['as computed'] / peaks['as written']:.2f} of as written |")


def assert_equal_gradients(fast: INR2JLS, written: INR2JLS, step: Callable[[INR2JLS], None]) -> None:
    """Both steps give the same gradients, up to what float32 rounds away."""
    step(fast), step(written)
    for (name, ours), theirs in zip(fast.named_parameters(), written.parameters(), strict=True):
        assert ours.grad is not None, name
        assert theirs.grad is not None, name
        error = (ours.grad - theirs.grad).norm() / theirs.grad.norm().clamp_min(1e-12)
        assert error < 1e-3, f"{name}: {error:.1e}"


def models() -> tuple[INR2JLS, INR2JLS]:
    config = INR2JLSConfig(28, 1)
    with seeded(0):
        fast = INR2JLS(SIREN, config)
    written = AsWritten(SIREN, replace(config, encoder=EncoderConfig(expansion_range=0.0)))
    written.decoder[1] = torch.nn.ReLU()
    written.load_state_dict(fast.state_dict())
    return fast, written


def networks() -> GraphBatch:
    with seeded(1):
        edges = tuple(torch.rand(BATCH, t.num_nodes, t.num_sources, 1) - 0.5 for t in SIREN.timestamps)
        nodes = tuple(torch.rand(BATCH, t.num_nodes, 1) - 0.5 for t in SIREN.timestamps)
    return GraphBatch((SIREN,), edges, nodes)


def compare_two(benchmark: Any, name: str, fast: Callable[[], object], written: Callable[[], object]) -> None:
    """Time both in turn and print the median of the rounds' ratios."""
    torch.set_num_threads(THREADS)
    fast(), written()
    rates = compare(
        f"{name}, {BATCH} networks, {THREADS} threads",
        "networks/s",
        {"as computed": amounting_to(BATCH, fast), "as written": amounting_to(BATCH, written)},
        "as written",
    )
    benchmark.extra_info["ratio"] = median_ratio(rates["as computed"], rates["as written"])
    benchmark.pedantic(fast, rounds=ROUNDS)
