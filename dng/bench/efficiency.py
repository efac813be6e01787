"""What our models and published methods cost: parameters, FLOPs, memory, latency (paper, section 9.4, Tables 5, 8).

Each of our models is measured once as the paper writes it and once as we compute it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.bench.costs import Latency, count_flops, latency, peak_bytes
from dng.bench.page import Table
from dng.bench.published_numbers import PUBLISHED_GFLOP
from dng.encoder.config import INR_ENCODER, VIT_ENCODER, EncoderConfig
from dng.methods.dynamic_graph import DNG, DNGConfig
from dng.methods.inr2array import INR2Array, LatentTransformer
from dng.methods.registry import METHODS, ZooKind
from dng.models.heads import LatentClassifier, count_parameters
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.models.latent_generator import LatentGenerator
from dng.training.seed import derived_seed, seeded
from dng.zoo_data import SimpleVitConfig, simple_vit_architecture, siren_architecture
from zootool.architecture import Architecture
from zootool.errors import MissingError, UsageError
from zootool.graph import GraphBatch, residuals_of
from zootool.progress import Reporter, silent

Form = Literal["as written", "as computed", "as written and computed"]
"""What is counted and timed: the formulas as they stand, what takes their place here, or formulas that nothing does."""

AS_WRITTEN: Form = "as written"
AS_COMPUTED: Form = "as computed"
BOTH: Form = "as written and computed"

NUM_CLASSES = 10
_WEIGHT_BOUND = 0.5

_NOTE_FLOPS = (
    "GFLOP: twice the multiply-adds of the matrix products, in 1e9. As written: the formulas as they stand, which is "
    "what was published. As computed: what gives the same results here (fast paths of our models; neural graphs on "
    "dense layers, without what no output reads, and not counted as written). Computing also composes weights with "
    "weights, once until they change: at most {once:.2f} GFLOP, not counted here."
)
_NOTE_ALONE = (
    "MB: 1e6 bytes that are alive at once, weights and inputs included. ms: the median of the forward passes ± half "
    "the distance of their quartiles."
)
_NOTE_BATCH = "ms are per network, MB for the whole batch."


@dataclass(frozen=True)
class CostCase:
    """A model and the networks that it reads. `as_written` takes no short cuts: see `build`.

    `build(False)` is the model as it is used. `build(True)` gives the same results from the formulas as they stand:
    every Fourier feature (no polynomials) and the latent generator's first layer on every pair of a spatial vector
    and a memory. Where there is no fast path, both are the same: the formulas where `is_as_written`, else what takes
    their place here alone.
    """

    name: str
    architecture: Architecture
    build: Callable[[bool], nn.Module]
    has_fast_path: bool = True
    is_as_written: bool = True

    @property
    def forms(self) -> tuple[Form, ...]:
        """What is measured of the case."""
        if self.has_fast_path:
            return AS_WRITTEN, AS_COMPUTED
        return (BOTH,) if self.is_as_written else (AS_COMPUTED,)

    def networks(self, count: int) -> GraphBatch:
        """`count` networks with weights and biases as large as trained ones: uniform in +-0.5."""
        generator = torch.Generator().manual_seed(derived_seed("efficiency", count))

        def draw(*shape: int) -> Tensor:
            return (2 * torch.rand(shape, generator=generator) - 1) * _WEIGHT_BOUND

        timestamps = self.architecture.timestamps
        edges = tuple(draw(count, t.num_nodes, t.num_sources, t.edges_per_pair) for t in timestamps)
        nodes = tuple(draw(count, t.num_nodes, 1) * t.has_bias for t in timestamps)
        return GraphBatch((self.architecture,), edges, nodes, residuals=residuals_of(self.architecture))


@dataclass(frozen=True)
class Cost:
    """What one forward pass of `batch_size` networks costs in bytes and seconds."""

    batch_size: int
    peak_bytes: int
    latency: Latency

    def cells(self) -> tuple[str, str]:
        """Megabytes, and milliseconds per network."""
        found, per_network = self.latency, 1e3 / self.batch_size
        spread = (found.upper_quartile - found.lower_quartile) / 2
        return f"{self.peak_bytes / 1e6:.1f}", f"{found.seconds * per_network:.2f} ± {spread * per_network:.2f}"


@dataclass(frozen=True)
class Measurement:
    """The cost of one model in one form: exact FLOPs, and what was measured for one network and for a batch.

    `flops_once` are those of weights with weights, which the first network costs besides.
    """

    name: str
    form: Form
    num_parameters: int
    flops_per_network: int
    flops_once: int
    single: Cost
    batch: Cost


@dataclass(frozen=True)
class EfficiencyResult:
    """All measurements of one run, and where they were made."""

    device: str
    num_threads: int
    torch_version: str
    batch_size: int
    measurements: tuple[Measurement, ...]

    def tables(self) -> tuple[Table, Table, Table]:
        """FLOPs by form, beside the published ones; what a network costs by itself, as in the paper, and in a batch."""
        place = self.device if self.device != "cpu" else f"the CPU with {self.num_threads} threads"
        once = max(m.flops_once for m in self.measurements) / 1e9
        header = ("model", "parameters", "GFLOP as written", "published (as written)", "GFLOP as computed")
        names = dict.fromkeys(m.name for m in self.measurements)
        alone = tuple((m.name, m.form, *m.single.cells()) for m in self.measurements)
        together = tuple((m.name, m.form, *m.batch.cells()) for m in self.measurements)
        columns = ("model", "form", "MB", "ms")
        return (
            Table("FLOPs of one network", header, tuple(map(self._flops, names)), _NOTE_FLOPS.format(once=once)),
            Table(f"One network, on {place}", columns, alone, _NOTE_ALONE),
            Table(f"A batch of {self.batch_size} networks, on {place}", columns, together, _NOTE_BATCH),
        )

    def _flops(self, name: str) -> tuple[str, ...]:
        found = [m for m in self.measurements if m.name == name]
        written, computed = (
            next((f"{m.flops_per_network / 1e9:.3f}" for m in found if m.form in (form, BOTH)), "-")
            for form in (AS_WRITTEN, AS_COMPUTED)
        )
        return name, f"{found[0].num_parameters:,}", written, PUBLISHED_GFLOP.get(name, "-"), computed


def run_efficiency(
    cases: Sequence[CostCase], device: str = "cpu", batch_size: int = 64, num_runs: int = 30, report: Reporter = silent
) -> EfficiencyResult:
    """Measure `cases` alone and in batches of `batch_size`.

    Raises UsageError for a device that torch doesn't know, MissingError for one that isn't there.
    """
    place = _device(device)
    todo = [(case, form) for case in cases for form in case.forms]
    measurements = []
    for done, (case, form) in enumerate(todo):
        report("measuring", done, len(todo))
        with seeded(0, "efficiency"):
            model = case.build(form == AS_WRITTEN).to(place).eval()
        single, batch = (case.networks(count).to(place) for count in (1, batch_size))
        flops = flops_per_network_and_once(model, single)
        costs = [Cost(len(x), peak_bytes(model, x), latency(model, x, num_runs)) for x in (single, batch)]
        measurements.append(Measurement(case.name, form, count_parameters(model), *flops, *costs))
    report("measuring", len(todo), len(todo))
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"
    return EfficiencyResult(name, torch.get_num_threads(), torch.__version__, batch_size, tuple(measurements))


@torch.no_grad()
def flops_per_network_and_once(model: nn.Module, single: GraphBatch) -> tuple[int, int]:
    """The FLOPs of a network, and those that a fresh model's first network costs besides."""
    first, later = count_flops(lambda: model(single)), count_flops(lambda: model(single))
    return later, first - later


def efficiency_cases() -> list[CostCase]:
    """INR2JLS without and with its classifier, encoder + MLP classifier, and the predictor of ViTs' accuracy."""
    cases = []
    for side, channels in ((28, 1), (32, 3)):
        siren, images = siren_architecture(2, (32, 32), channels), f"{side}x{side}x{channels}"
        cases += [
            CostCase(f"INR2JLS encode, {images}", siren, _inr2jls(siren, side, has_classifier=False)),
            CostCase(f"INR2JLS + classifier, {images}", siren, _inr2jls(siren, side, has_classifier=True)),
            CostCase(f"DNG-Encoder + MLP classifier, {images}", siren, _classifier(siren)),
        ]
    vit = simple_vit_architecture(SimpleVitConfig())
    return [*cases, CostCase("DNG-Encoder + MLP, SimpleViT", vit, _vit_predictor(vit))]


def rival_cases() -> list[CostCase]:
    """What the published methods cost, at their published sizes: on MNIST INRs, neural graphs on SimpleViTs too.

    Neural graphs aren't as written: dense layers take the place of edge lists, and what no output reads is left out.
    """
    siren, vit = siren_architecture(2, (32, 32), 1), simple_vit_architecture(SimpleVitConfig())

    def rivals(architecture: Architecture, kind: ZooKind, num_outputs: int, networks: str) -> list[CostCase]:
        return [
            CostCase(
                f"{found.title}, {networks}",
                architecture,
                lambda _, found=found: found.reader()(
                    [architecture], num_outputs, found.reader().presets[found.costs[kind]]
                ),
                has_fast_path=False,
                is_as_written=name.startswith("nfn"),
            )
            for name, found in METHODS.items()
            if kind in found.costs
        ]

    inr2array = CostCase(
        "INR2ARRAY + classifier, 28x28x1", siren, lambda _: LatentArrayClassifier(siren), has_fast_path=False
    )
    nfn_hnp, nfn_np, *graphs = rivals(siren, "inr", NUM_CLASSES, "28x28x1")
    return [nfn_hnp, nfn_np, inr2array, *graphs, *rivals(vit, "vit", 1, "SimpleViT")]


class INREncoding(nn.Module):
    """The part of INR2JLS that a new INR goes through: encoder, latent generator and perhaps the classifier."""

    def __init__(self, model: INR2JLS, classifier: LatentClassifier | None, as_written: bool) -> None:
        super().__init__()
        self.encoder, self.generator = model.encoder, model.generator
        self.classifier = classifier
        self.as_written = as_written

    def forward(self, graph: GraphBatch) -> Tensor:
        memory = self.encoder(graph).flatten(1)
        latents = generate_as_written(self.generator, memory) if self.as_written else self.generator(memory)
        return latents if self.classifier is None else self.classifier(latents)


def generate_as_written(
    generator: LatentGenerator, memory: Float[Tensor, "batch memory"]
) -> Float[Tensor, "batch views latent height width"]:
    """The latent maps from the generator's MLP on every concatenation [theta^n, s]."""
    batch, count = len(memory), len(generator.spatial)
    spatial, memories = generator.spatial.expand(batch, -1, -1), memory[:, None].expand(-1, count, -1)
    hidden = torch.relu(generator.hidden(torch.cat([spatial, memories], dim=-1)))
    return generator.out(hidden).unflatten(1, generator.shape).movedim(-1, 2)


class LatentArrayClassifier(nn.Module):
    """INR2ARRAY's encoder and the classifier of its latents: what a new INR goes through."""

    def __init__(self, siren: Architecture) -> None:
        super().__init__()
        self.encoder = INR2Array([siren], INR2Array.presets["inr"]).encoder
        self.classifier = LatentTransformer(INR2Array.presets["inr"].dim, NUM_CLASSES)

    def forward(self, graph: GraphBatch) -> Tensor:
        return self.classifier(self.encoder(graph))


def _inr2jls(siren: Architecture, side: int, has_classifier: bool) -> Callable[[bool], nn.Module]:
    def build(as_written: bool) -> nn.Module:
        model = INR2JLS(siren, INR2JLSConfig(side, siren.node_counts[-1], _encoder(INR_ENCODER, as_written)))
        config = model.config
        classifier = LatentClassifier(config.latent_dim, config.latent_side, NUM_CLASSES) if has_classifier else None
        return INREncoding(model, classifier, as_written)

    return build


def _classifier(siren: Architecture) -> Callable[[bool], nn.Module]:
    encoder = replace(INR_ENCODER, dim=128)
    return lambda as_written: DNG([siren], NUM_CLASSES, DNGConfig(_encoder(encoder, as_written)))


def _vit_predictor(vit: Architecture) -> Callable[[bool], nn.Module]:
    return lambda as_written: DNG([vit], 1, DNGConfig(_encoder(VIT_ENCODER, as_written), 256, 0.2))


def _encoder(config: EncoderConfig, as_written: bool) -> EncoderConfig:
    return replace(config, expansion_range=0.0) if as_written else config


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
