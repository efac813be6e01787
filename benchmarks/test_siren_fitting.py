"""How fast SIRENs are fitted: the CPU kernel against three ways to do it in torch, and against the machine's limit.

The problem is CIFAR's: 2-32-32-3 on 1,024 pixels. All contenders run in turn in every round of one process, so that
what slows the machine down slows all of them; a ratio is the median over the rounds. `pytest benchmarks
--benchmark-only -s` prints the tables.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from torch.func import functional_call, stack_module_state, vmap

from tests.zootool.nets.modules import Siren
from zootool.build.siren.cpu import fit_on_cpu
from zootool.build.siren.lanes import NUM_LANES, load, splat, store
from zootool.build.siren.products import multiply, sine_cosine
from zootool.build.siren.reference import batch_errors, fit_by_batches
from zootool.build.siren.settings import FitSettings, initial_weights

SETTINGS = FitSettings((32, 32), 3)
THREADS = len(os.sched_getaffinity(0))
ROUNDS = 5
ROUND_SECONDS = 1.0

# The contenders' own warnings, torch.compile's above all, are not what is measured here.
pytestmark = pytest.mark.filterwarnings("ignore")

Contender = Callable[[int], None]
"""Makes so many training steps for all its networks."""


def test_the_cpu_kernel_against_torch(benchmark: Any) -> None:
    assert_equal_fits()
    contenders = {
        "CPU kernel": (kernel(4 * THREADS), 4 * THREADS),
        "nn.Module loop": fastest("nn.Module loop", module_loop, (1,)),
        "vmap": fastest("vmap", vmapped, (8, 32, 128)),
        "bmm": fastest("bmm", batched, (8, 32, 128)),
        "bmm + torch.compile": fastest("bmm + torch.compile", compiled, (8, 16, 32, 64)),
    }
    rounds = [
        {name: networks * rate(contender) for name, (contender, networks) in contenders.items()} for _ in range(ROUNDS)
    ]
    lines = []
    for name in contenders:
        rates = [round_[name] for round_ in rounds]
        ratios = [round_["CPU kernel"] / round_[name] for round_ in rounds]
        lines.append(f"| {name} | {statistics.median(rates):,.0f} | {statistics.median(ratios):.1f} |")
        benchmark.extra_info[name] = statistics.median(rates)
    show(f"{THREADS} threads | networks x steps per second | the kernel is faster by", lines)
    benchmark.pedantic(contenders["CPU kernel"][0], args=(20,), rounds=ROUNDS)


def test_the_cpu_kernel_against_the_machines_limit(benchmark: Any) -> None:
    """One thread's time for a step, against its products and sines at the rates that the machine reaches alone."""
    assert_equal_fits()
    assert_limits_are_of_real_work()
    flops, sines = step_work(SETTINGS)
    shares = []
    for _ in range(ROUNDS):
        limit = flops / (product_rate() * 1e9) + sines / (sine_rate() * 1e9)
        # Processor time: other programs slow a long run more than the best of many short ones.
        shares.append(limit * rate(kernel(1), clock=time.process_time))
    lines = [f"| products | {product_rate():.0f} GFLOP/s |", f"| sine and cosine | {sine_rate():.2f} G pairs/s |"]
    lines += [f"| a step at these rates | {limit * 1e6:.0f} us |", f"| reached | {statistics.median(shares):.0%} |"]
    show("one thread | ", lines)
    benchmark.extra_info["share of the limit"] = statistics.median(shares)
    benchmark.pedantic(kernel(1), args=(100,), rounds=ROUNDS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_triton_kernel(benchmark: Any) -> None:
    from zootool.build.siren.cuda import fit_on_cuda

    assert_equal_fits(fit_on_cuda)
    initial, targets = problem(4096)
    settings = replace(SETTINGS, steps=500)
    fit_on_cuda(initial, targets, replace(settings, steps=1))
    benchmark.pedantic(lambda: fit_on_cuda(initial, targets, settings), rounds=3)
    seconds = benchmark.stats.stats.median * 5000 / settings.steps
    show("one GPU | ", [f"| networks of 5,000 steps per second | {len(initial) / seconds:,.0f} |"])


def assert_equal_fits(fit: Callable[..., tuple[np.ndarray, np.ndarray]] = fit_on_cpu) -> None:
    """A kernel and batched torch make the same steps from the same start."""
    initial, targets = problem(4)
    settings = replace(SETTINGS, steps=20)
    (ours, _), (theirs, _) = fit(initial, targets, settings), fit_by_batches(initial, targets, settings)
    assert np.abs(theirs - initial).max() > 5e-4, "twenty steps move the weights"
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def assert_limits_are_of_real_work() -> None:
    """What the machine's limit is measured by are whole products and good sines."""
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(32, 32)).astype(np.float32) for _ in range(2))
    out = np.zeros(1024, np.float32)
    many_products(out, left.ravel(), right.ravel(), 3)
    np.testing.assert_allclose(out.reshape(32, 32), 3 * left @ right, rtol=0, atol=1e-3)
    values, found = np.linspace(-1, 1, 1024).astype(np.float32), np.zeros(2048, np.float32)
    many_sines(values, found, 1)
    angles = 9.5 * np.pi * values.astype(np.float64)
    np.testing.assert_allclose(found, np.concatenate([np.sin(angles), np.cos(angles)]), rtol=0, atol=1e-5)


def kernel(count: int) -> Contender:
    initial, targets = problem(count)
    fit_on_cpu(initial, targets, replace(SETTINGS, steps=1))
    return lambda steps: void(fit_on_cpu(initial, targets, replace(SETTINGS, steps=steps), threads=min(count, THREADS)))


def module_loop(count: int) -> Contender:
    _, targets = problem(count)
    network = Siren(2, SETTINGS.hidden, SETTINGS.num_channels)
    optimiser = torch.optim.Adam(network.parameters(), lr=SETTINGS.lr)
    coordinates, wanted = torch.from_numpy(SETTINGS.coordinates()), torch.from_numpy(targets[0])

    def run(steps: int) -> None:
        for _ in range(steps):
            optimiser.zero_grad()
            (network(coordinates) - wanted).square().mean().backward()
            optimiser.step()

    return run


def vmapped(count: int) -> Contender:
    _, targets = problem(count)
    network = Siren(2, SETTINGS.hidden, SETTINGS.num_channels)
    parameters, _ = stack_module_state([Siren(2, SETTINGS.hidden, SETTINGS.num_channels) for _ in range(count)])
    coordinates, wanted = torch.from_numpy(SETTINGS.coordinates()), torch.from_numpy(targets)
    optimiser = torch.optim.Adam(parameters.values(), lr=SETTINGS.lr)

    def loss_of(own: dict[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        return (functional_call(network, own, coordinates) - target).square().mean()

    return stepping(lambda: vmap(loss_of)(parameters, wanted).sum(), optimiser)


def batched(count: int, errors: Callable[..., torch.Tensor] = batch_errors) -> Contender:
    initial, targets = problem(count)
    layers = [torch.tensor(piece, requires_grad=True) for piece in SETTINGS.split(initial)]
    coordinates = torch.from_numpy(SETTINGS.coordinates()).expand(count, -1, -1)
    wanted = torch.from_numpy(targets)
    optimiser = torch.optim.Adam(layers, lr=SETTINGS.lr)
    return stepping(lambda: errors(layers, coordinates, wanted, SETTINGS.omega_0).sum(), optimiser)


def compiled(count: int) -> Contender:
    torch.compiler.reset()
    return batched(count, torch.compile(batch_errors, dynamic=False))


def stepping(loss: Callable[[], torch.Tensor], optimiser: torch.optim.Optimizer) -> Contender:
    def run(steps: int) -> None:
        for _ in range(steps):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()

    return run


def fastest(name: str, make: Callable[[int], Contender], counts: tuple[int, ...]) -> tuple[Contender, int]:
    """A torch contender with the number of networks at a time and of threads that suit it best."""
    best_rate, best, best_count, words = 0.0, None, 0, ""
    for count, threads in product(counts, sorted({1, THREADS})):
        contender = on_threads(make(count), threads)
        if (found := count * rate(contender)) > best_rate:
            best_rate, best, best_count = found, contender, count
            words = f"{count} networks at a time on {threads} threads"
    assert best is not None
    print(f"{name}: best with {words}")
    return best, best_count


def on_threads(contender: Contender, threads: int) -> Contender:
    def run(steps: int) -> None:
        torch.set_num_threads(threads)
        contender(steps)

    return run


def rate(contender: Contender, clock: Callable[[], float] = time.perf_counter) -> float:
    """Steps per second, measured for about a second after a first step."""
    contender(1)
    steps, elapsed = 1, 0.0
    while elapsed < ROUND_SECONDS / 2:
        steps *= 2
        started = clock()
        contender(steps)
        elapsed = clock() - started
    return steps / elapsed


def problem(count: int) -> tuple[np.ndarray, np.ndarray]:
    initial = initial_weights(SETTINGS, 0, np.arange(count), np.zeros(count, np.int64))
    shape = (count, SETTINGS.num_pixels, SETTINGS.num_channels)
    return initial, np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def step_work(settings: FitSettings) -> tuple[float, float]:
    """Floating point operations in the matrix products of a step, and pairs of sine and cosine."""
    sizes = [a * b for a, b in pairwise(settings.widths)]
    products = 2 * sum(sizes) + sum(sizes[1:])  # forward, weight gradients; deltas of all layers but the first
    return 2.0 * products * settings.num_pixels, float(sum(settings.hidden) * settings.num_pixels)


def product_rate() -> float:
    """Gflop/s of one thread in 32 x 32 products that lie in the first cache."""
    left, right, out = (np.zeros(1024, np.float32) for _ in range(3))
    many_products(out, left, right, 1)
    return 2 * 32**3 * 3000 / best_time(lambda: many_products(out, left, right, 3000)) / 1e9


def sine_rate() -> float:
    """10^9 pairs of sine and cosine per second of one thread."""
    values, out = np.linspace(-1, 1, 1024).astype(np.float32), np.zeros(2048, np.float32)
    many_sines(values, out, 1)
    return 1024 * 3000 / best_time(lambda: many_sines(values, out, 3000)) / 1e9


@njit
def many_products(out, left, right, times):
    for _ in range(times):
        multiply((out, 0, 32), (out, 0, 32), (left, 0, 32, 1), (right, 0, 32), 32, 32, 32)


@njit
def many_sines(values, out, times):
    for _ in range(times):
        for i in range(0, len(values), NUM_LANES):
            sine, cosine = sine_cosine(load(values, i), splat(np.float32(9.5)), splat(np.float32(0)))
            store(out, i, sine)
            store(out, len(values) + i, cosine)


def best_time(run: Callable[[], None]) -> float:
    times = []
    for _ in range(10):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def show(head: str, lines: list[str]) -> None:
    columns = head.count("|") + 1
    print(f"\n| {head} |\n|{' --- |' * columns}\n" + "\n".join(lines))


def void(_: object) -> None:
    """Nothing."""
