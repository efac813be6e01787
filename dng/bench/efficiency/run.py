"""The efficiency benchmark: every model once as the paper writes it and once as we compute it, in one run."""

from collections.abc import Sequence

import torch
from torch import nn

from dng.bench.efficiency.cases import AS_WRITTEN, Case, Form
from dng.bench.efficiency.measure import latency, peak_bytes
from dng.bench.efficiency.results import Cost, EfficiencyResult, Measurement
from dng.bench.flops import count_flops
from dng.models.heads import count_parameters
from dng.training.seed import seeded
from zootool.errors import MissingError, UsageError
from zootool.graph import GraphBatch
from zootool.progress import Reporter, silent


def run_efficiency(
    cases: Sequence[Case], device: str = "cpu", batch_size: int = 64, num_runs: int = 30, report: Reporter = silent
) -> EfficiencyResult:
    """Measure `cases` alone and in batches of `batch_size`.

    Raises UsageError for a device that torch doesn't know, MissingError for one that isn't there.
    """
    place = _device(device)
    todo = [(case, form) for case in cases for form in case.forms]
    measurements = []
    for done, (case, form) in enumerate(todo):
        report("measuring", done, len(todo))
        measurements.append(_measure(case, form, place, batch_size, num_runs))
    report("measuring", len(todo), len(todo))
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"
    return EfficiencyResult(name, torch.get_num_threads(), torch.__version__, batch_size, tuple(measurements))


def _measure(case: Case, form: Form, device: torch.device, batch_size: int, num_runs: int) -> Measurement:
    with seeded(0, "efficiency"):
        model = case.build(form == AS_WRITTEN).to(device).eval()
    single, batch = (_on(device, case.networks(count)) for count in (1, batch_size))
    per_network, once = flops_per_network_and_once(model, single)
    costs = [Cost(len(g), peak_bytes(model, g), latency(model, g, num_runs)) for g in (single, batch)]
    return Measurement(case.name, form, count_parameters(model), per_network, once, *costs)


@torch.no_grad()
def flops_per_network_and_once(model: nn.Module, single: GraphBatch) -> tuple[int, int]:
    """The FLOPs of a network, and those that a fresh model's first network costs besides."""
    first, later = count_flops(lambda: model(single)), count_flops(lambda: model(single))
    return later, first - later


def _on(device: torch.device, graph: GraphBatch) -> GraphBatch:
    return graph.to(device)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is no device", hint="give cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"the benchmark doesn't measure on {name!r}", hint="give cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingError(f"there is no CUDA device {name!r} here", hint="see what there is with `zoo doctor`")
    return device
