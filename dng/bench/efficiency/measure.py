"""Latency and peak memory of a model on a device."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from dng.bench.tensor_bytes import peak_tensor_bytes
from zootool.graph import GraphBatch

_NUM_WARMUPS = 3
_MIN_RUNS = 5
_MAX_SECONDS = 8.0


@dataclass(frozen=True)
class Latency:
    """The median seconds of `num_runs` runs behind a warm-up, and the quartiles around it."""

    seconds: float
    lower_quartile: float
    upper_quartile: float
    num_runs: int


@torch.inference_mode()
def latency(model: nn.Module, graph: GraphBatch, num_runs: int) -> Latency:
    """The time of one forward pass. Slow models get fewer runs, at least 5, to stay near 8 s."""
    is_cuda = graph.edges[0].is_cuda
    timed = _seconds_cuda if is_cuda else _seconds_cpu
    warmups = [timed(lambda: model(graph)) for _ in range(_NUM_WARMUPS)]
    affordable = int(_MAX_SECONDS / max(warmups[-1], 1e-9))
    count = min(num_runs, max(_MIN_RUNS, affordable))
    seconds = sorted(timed(lambda: model(graph)) for _ in range(count))
    return Latency(median(seconds), seconds[count // 4], seconds[3 * count // 4], count)


def peak_bytes(model: nn.Module, graph: GraphBatch) -> int:
    """The peak of one forward pass: weights, inputs and everything else that is alive at the same time.

    On the CPU the tensors alive (see `dng.bench.tensor_bytes`); on CUDA torch's own `max_memory_allocated`, which sees
    scratch space inside operations too, less what had been allocated before for other things.
    """
    with torch.inference_mode():
        # The first run also prepares what a model keeps.
        model(graph)
        if graph.edges[0].is_cuda:
            return _peak_bytes_cuda(model, graph)
        return peak_tensor_bytes(lambda: model(graph))


def _peak_bytes_cuda(model: nn.Module, graph: GraphBatch) -> int:
    torch.cuda.synchronize()
    given = sum(
        t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers(), *graph.edges, *graph.nodes)
    )
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model(graph)
    torch.cuda.synchronize()
    return given + torch.cuda.max_memory_allocated() - before


def _seconds_cpu(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _seconds_cuda(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000
