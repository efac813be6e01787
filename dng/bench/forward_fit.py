"""How well message passing on a static and on a dynamic graph fits an MLP's forward pass (paper, section 7).

Each network is trained once per seed and tested once: KIND-SEED/ holds a training (see `dng.training.loop`), and
fit.json behind it what it measured.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dng.bench.certainty import over_seeds
from dng.bench.figures import BLUE, RED, panel
from dng.bench.forward_fit_models import KINDS, ForwardFitModel, Kind, MLPSamples, build_model, sample_mlps
from dng.bench.harness import SETTINGS, Benchmark, Case, called
from dng.bench.page import Drawing, Page, Section, Table
from dng.models.heads import count_parameters
from dng.training.batches import TensorBatches, num_batches
from dng.training.loop import TrainConfig, read_metrics, train
from dng.training.seed import derived_seed, seeded
from zootool.progress import Reporter

_COLOURS: dict[Kind, str] = {
    "dynamic": BLUE,
    "static-each-round": RED,
    "static-last-round": "#ed8936",
    "static-equal-width": "#805ad5",
}


@dataclass(frozen=True)
class ForwardFitSettings:
    """The MLPs' widths n_0..n_L, how many of them with how many inputs each, the networks' widths, the training.

    `dim` is the width of node and edge vectors, `hidden_dim` that of the dynamic network's MLPs; the static network's
    is chosen to have as many parameters. The published text names no validation split: `num_validation` further MLPs
    pick the weights, so that the test split is read once. All was fixed before the first run (method, section 8).
    """

    widths: tuple[int, ...] = (4, 16, 16, 16)
    num_train: int = 1000
    num_validation: int = 200
    num_test: int = 500
    num_inputs: int = 8
    dim: int = 32
    hidden_dim: int = 64
    epochs: int = 40
    batch_size: int = 32
    lr: float = 1e-3

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.widths) - 1

    def build(self, kind: Kind) -> tuple[ForwardFitModel, int]:
        """The network of a kind and its hidden width."""
        return build_model(kind, self.dim, self.hidden_dim, self.num_layers)

    def samples(self, split: str, count: int, seed: int) -> MLPSamples:
        """The MLPs of a split: the same for every network that is compared."""
        generator = torch.Generator().manual_seed(derived_seed(seed, "forward-fit", split))
        return sample_mlps(self.widths, count, self.num_inputs, generator)

    def training(self, seed: int) -> TrainConfig:
        """Adam with cosine decay, validated once per epoch."""
        steps_per_epoch = num_batches(self.num_train, self.batch_size)
        return TrainConfig(
            steps=self.epochs * steps_per_epoch,
            batch_size=self.batch_size,
            lr=self.lr,
            decay="cosine",
            validate_every=steps_per_epoch,
            higher_is_better=False,
            seed=seed,
        )


FORWARD_FIT_PRESETS = {"full": ForwardFitSettings(), "quick": ForwardFitSettings(epochs=12)}


def forward_fit_preset(name: str) -> ForwardFitSettings:
    """The preset called `name`. Raises UsageError."""
    return called("preset", name, FORWARD_FIT_PRESETS)


@dataclass(frozen=True)
class Fit:
    """One trained network: its test MSE at the layers 1..L, and the variance of what it had to fit there.

    The variance is the MSE of the best constant, so their ratio compares layers. `seconds` are those of the call
    that finished the training.
    """

    kind: Kind
    seed: int
    hidden_dim: int
    num_parameters: int
    best_epoch: int
    mse: tuple[float, ...]
    target_variance: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class ForwardFitResult:
    """All trainings of a run, and the settings that they share."""

    preset: str
    settings: ForwardFitSettings
    fits: tuple[Fit, ...]
    skipped: bool = False

    @property
    def num_seeds(self) -> int:
        """How many times each network was trained."""
        return len({fit.seed for fit in self.fits})

    def fits_of(self, kind: Kind) -> tuple[Fit, ...]:
        """The trainings of one network, seed by seed."""
        return tuple(fit for fit in self.fits if fit.kind == kind)

    def mean_mse(self, kind: Kind) -> tuple[float, ...]:
        """The mean over seeds of the test MSE, per layer."""
        return tuple(fmean(values) for values in zip(*(fit.mse for fit in self.fits_of(kind)), strict=True))

    def std_mse(self, kind: Kind) -> tuple[float, ...] | None:
        """The sample standard deviation over seeds, per layer; None for one seed."""
        if self.num_seeds < 2:
            return None
        return tuple(stdev(values) for values in zip(*(fit.mse for fit in self.fits_of(kind)), strict=True))

    def target_variance(self) -> tuple[float, ...]:
        """The mean over seeds of the target's variance, per layer."""
        return tuple(fmean(v) for v in zip(*(fit.target_variance for fit in self.fits_of("dynamic")), strict=True))


@dataclass(eq=False)
class ForwardFit(Benchmark[ForwardFitResult]):
    """Every network of `KINDS` under the seeds 0..num_seeds-1."""

    name: ClassVar[str] = "forward-fit"

    preset: str
    chosen: ForwardFitSettings
    num_seeds: int

    def settings(self) -> dict[str, dict[str, Any]]:
        return {SETTINGS: {"preset": self.preset} | asdict(self.chosen)}

    def cases(self) -> list[Case]:
        return [
            Case(f"{kind}-{seed}/fit.json", Fit, partial(self._fit, kind, seed))
            for seed in range(self.num_seeds)
            for kind in KINDS
        ]

    def result(self, answers: Mapping[str, Fit], out: Path) -> ForwardFitResult:
        return ForwardFitResult(self.preset, self.chosen, tuple(answers.values()))

    def _fit(self, kind: Kind, seed: int, out: Path, report: Reporter) -> Fit:
        started, chosen, config = time.perf_counter(), self.chosen, self.chosen.training(seed)
        training, validation, test = (
            chosen.samples(split, count, seed)
            for split, count in (
                ("train", chosen.num_train),
                ("validation", chosen.num_validation),
                ("test", chosen.num_test),
            )
        )
        with seeded(seed, "forward-fit", kind):
            model, hidden_dim = chosen.build(kind)
        task = _Fitting(model, training, validation, chosen.batch_size)
        batches = TensorBatches((torch.arange(chosen.num_train),), chosen.batch_size, seed)
        stage = f"fitting {KINDS[kind]}, seed {seed}"
        trained = train(task, batches, config, out / f"{kind}-{seed}", stage, report)
        model.eval()
        return Fit(
            kind=kind,
            seed=seed,
            hidden_dim=hidden_dim,
            num_parameters=count_parameters(model),
            best_epoch=trained.best_step // config.validate_every,
            mse=layer_mse(model, test, chosen.batch_size),
            target_variance=tuple(values.var(correction=0).item() for values in test.activations),
            seconds=time.perf_counter() - started,
        )

    def tables(self, result: ForwardFitResult) -> list[Table]:
        layers = range(1, result.settings.num_layers + 1)
        variance = (f"{value:.3f}" for value in result.target_variance())
        rows = [_row(result, kind) for kind in KINDS]
        header = ("graph", "width", "parameters", *(f"layer {layer}" for layer in layers))
        rows.append(("variance of the target (MSE of its mean)", "", "", *variance))
        caption = f"Test MSE of every layer's post-activation, {over_seeds(result.num_seeds)}"
        return [Table(caption, header, tuple(rows))]

    def page(self, result: ForwardFitResult, out: Path) -> Page:
        chosen, (table,) = result.settings, self.tables(result)
        text = "Validation error after every epoch, one line per seed. The weights with the lowest one are tested."
        bars = Drawing(_bars(result), "Test MSE per layer", "mse.png")
        curves = Drawing(_curves(result, out), "Validation MSE over the training")
        return Page(
            title="Fitting the forward pass: static against dynamic graph",
            subtitle=f"{chosen.num_train:,} MLPs {'-'.join(map(str, chosen.widths))} to learn from, "
            f"{chosen.num_test:,} to be tested on, {chosen.num_inputs} inputs each; {chosen.epochs} epochs.",
            numbers=_ratios(result),
            sections=(
                Section("Error per layer", _explanation(result), (bars,), table),
                Section("Training", text, (curves,)),
            ),
            facts={
                "command": f"zoo bench forward-fit --preset {result.preset} --seeds {result.num_seeds}",
                "seconds": f"{sum(fit.seconds for fit in result.fits):.0f} in the calls that finished the trainings",
            },
        )


class _Fitting:
    """The training: the mean over layers of the squared error of the post-activations."""

    def __init__(self, model: ForwardFitModel, training: MLPSamples, validation: MLPSamples, batch_size: int) -> None:
        self.model, self.training, self.validation, self.batch_size = model, training, validation, batch_size

    def loss(self, batch: tuple[Tensor]) -> Tensor:
        """The error on the MLPs in the rows of `batch`."""
        return torch.stack(_layer_errors(self.model, self.training.take(batch[0]))).mean()

    def validate(self) -> float:
        """The error on the validation MLPs."""
        return sum(layer_mse(self.model, self.validation, self.batch_size)) / len(self.validation.weights)

    def describe(self, batch: tuple[Tensor]) -> str:
        """The rows of the batch."""
        return f"the MLPs in rows {batch[0].tolist()}"


@torch.no_grad()
def layer_mse(model: ForwardFitModel, samples: MLPSamples, batch_size: int) -> tuple[float, ...]:
    """The mean squared error at each of the layers 1..L over all of `samples`, a batch at a time."""
    totals = torch.zeros(len(samples.weights), dtype=torch.float64)
    for rows in torch.arange(len(samples)).split(batch_size):
        totals += len(rows) * torch.stack(_layer_errors(model, samples.take(rows))).double()
    return tuple((totals / len(samples)).tolist())


def _layer_errors(model: ForwardFitModel, samples: MLPSamples) -> list[Tensor]:
    return [(p - target).square().mean() for p, target in zip(model(samples), samples.activations, strict=True)]


def _row(result: ForwardFitResult, kind: Kind) -> tuple[str, ...]:
    means, stds, first = result.mean_mse(kind), result.std_mse(kind), result.fits_of(kind)[0]
    cells = [f"{mean:.3g}" for mean in means]
    if stds is not None:
        cells = [f"{cell} ± {std:.1g}" for cell, std in zip(cells, stds, strict=True)]
    return (KINDS[kind], f"{first.hidden_dim}", f"{first.num_parameters:,}", *cells)


def _bars(result: ForwardFitResult) -> Figure:
    """The test MSE per layer and network, with the standard deviation over seeds."""
    figure, axis = panel("", "test MSE", (8.4, 3.6))
    layers = np.arange(1, result.settings.num_layers + 1)
    width = 0.8 / len(KINDS)
    for index, (kind, label) in enumerate(KINDS.items()):
        places = layers + (index - (len(KINDS) - 1) / 2) * width
        bars = axis.bar(
            places, result.mean_mse(kind), width * 0.94, yerr=result.std_mse(kind), label=label, color=_COLOURS[kind],
            capsize=3,
        )  # fmt: skip
        axis.bar_label(bars, fmt="%.2g", fontsize=6, padding=2)
    axis.set_xticks(layers, [f"layer {layer}" for layer in layers])
    axis.margins(y=0.12)
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _curves(result: ForwardFitResult, out: Path) -> Figure:
    figure, axis = panel("epoch", "validation MSE, mean over layers", (7.2, 3.0))
    for fit in result.fits:
        scores = [line["score"] for line in read_metrics(out / f"{fit.kind}-{fit.seed}")]
        label = KINDS[fit.kind] if fit.seed == 0 else None
        axis.plot(range(1, len(scores) + 1), scores, color=_COLOURS[fit.kind], label=label)
    axis.set_yscale("log")
    axis.legend(frameon=False, fontsize=8)
    return figure


def _explanation(result: ForwardFitResult) -> str:
    first = {kind: result.fits_of(kind)[0] for kind in KINDS}
    ratio = first["static-equal-width"].num_parameters / first["dynamic"].num_parameters
    return (
        "Each network reads an MLP's weights, biases and an input, and predicts every neuron's post-activation. On "
        f"the static graph all nodes are updated in each of {result.settings.num_layers} rounds; on the dynamic graph "
        "each layer once, at its own timestamp. Two static networks have as many parameters as the dynamic one within "
        f"5 % (hidden widths {first['dynamic'].hidden_dim} dynamic, {first['static-each-round'].hidden_dim} static, "
        "which has an update per round, and edge updates besides); the third has the dynamic network's width, and "
        f"{ratio:.1f} times its parameters. The last layer has no ReLU, and targets differ in scale: their variance is "
        "the error of a constant."
    )


def _ratios(result: ForwardFitResult) -> tuple[tuple[str, str], ...]:
    dynamic = result.mean_mse("dynamic")
    controls: Sequence[tuple[Kind, str]] = (("static-each-round", "parameters"), ("static-equal-width", "width"))
    return tuple(
        (f"{b / a:.2f} x", f"static / dynamic MSE at equal {equal}, layer {layer}")
        for kind, equal in controls
        for layer, (a, b) in enumerate(zip(dynamic, result.mean_mse(kind), strict=True), start=1)
    )
