"""The forward-fit experiment: train each network once per seed, test each once.

What a run leaves in its folder:

    settings.json                 the settings, written first
    KIND-SEED/                    a training (see `dng.training.train`), and fit.json behind it: what it measured
    table.md mse.png report.html  the table, the plot, and both on one page
    results.json                  everything that was measured, written last
"""

import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from dng.bench.forward_fit.model import KINDS, ForwardFitModel, Kind, build_model
from dng.bench.forward_fit.report import write_report
from dng.bench.forward_fit.results import RESULTS, Fit, ForwardFitResult, read_result
from dng.bench.forward_fit.samples import MLPSamples, sample_mlps
from dng.bench.forward_fit.settings import ForwardFitSettings
from dng.models.heads import count_parameters
from dng.training.batches import TensorBatches
from dng.training.claim import claim
from dng.training.seed import derived_seed, seeded
from dng.training.train import train
from zootool.files import write_json_atomic
from zootool.progress import Reporter, silent
from zootool.records import from_plain, parse_json


class ForwardFit:
    """The training: the mean over layers of the squared error of the post-activations."""

    def __init__(self, model: ForwardFitModel, training: MLPSamples, validation: MLPSamples, batch_size: int) -> None:
        self.model = model
        self.training = training
        self.validation = validation
        self.batch_size = batch_size

    def loss(self, batch: tuple[Tensor]) -> Tensor:
        """The error on the MLPs in the rows of `batch`."""
        return torch.stack(layer_errors(self.model, self.training.take(batch[0]))).mean()

    def validate(self) -> float:
        """The error on the validation MLPs."""
        return sum(layer_mse(self.model, self.validation, self.batch_size)) / len(self.validation.weights)

    def describe(self, batch: tuple[Tensor]) -> str:
        """The rows of the batch."""
        return f"the MLPs in rows {batch[0].tolist()}"


def layer_errors(model: ForwardFitModel, samples: MLPSamples) -> list[Tensor]:
    """The mean squared error at each of the layers 1..L."""
    predictions = model(samples)
    return [(p - target).square().mean() for p, target in zip(predictions, samples.activations, strict=True)]


@torch.no_grad()
def layer_mse(model: ForwardFitModel, samples: MLPSamples, batch_size: int) -> tuple[float, ...]:
    """`layer_errors` over all of `samples`, a batch at a time."""
    totals = torch.zeros(len(samples.weights), dtype=torch.float64)
    for rows in torch.arange(len(samples)).split(batch_size):
        totals += len(rows) * torch.stack(layer_errors(model, samples.take(rows))).double()
    return tuple((totals / len(samples)).tolist())


def run_forward_fit(
    preset: str, settings: ForwardFitSettings, num_seeds: int, out: Path, report: Reporter = silent
) -> ForwardFitResult:
    """Run the experiment with the seeds 0..num_seeds-1 and leave everything in `out`; finished parts are kept.

    A run of a version that compared fewer networks goes on with those that it lacks. Raises UsageError where `out`
    holds a run with other settings.
    """
    claim(out / "settings.json", {"preset": preset} | asdict(settings))
    done = read_result(out)
    if done is not None and done.is_of(num_seeds):
        return done
    (out / RESULTS).unlink(missing_ok=True)
    fits = [_fit(kind, seed, settings, out, report) for seed in range(num_seeds) for kind in KINDS]
    result = ForwardFitResult(preset, settings, tuple(fits))
    write_report(result, out)
    write_json_atomic(out / RESULTS, asdict(result))
    return result


def _fit(kind: Kind, seed: int, settings: ForwardFitSettings, out: Path, report: Reporter) -> Fit:
    run_dir = out / f"{kind}-{seed}"
    path = run_dir / "fit.json"
    if path.exists():
        return from_plain(Fit, parse_json(path.read_bytes(), str(path)), str(path))
    started = time.perf_counter()
    training, validation, test = (
        _samples(settings, split, count, seed)
        for split, count in (
            ("train", settings.num_train),
            ("validation", settings.num_validation),
            ("test", settings.num_test),
        )
    )
    with seeded(seed, "forward-fit", kind):
        model, hidden_dim = build_model(kind, settings)
    config = settings.training(seed)
    task = ForwardFit(model, training, validation, settings.batch_size)
    batches = TensorBatches((torch.arange(settings.num_train),), settings.batch_size, seed)
    trained = train(task, batches, config, run_dir, f"fitting {KINDS[kind]}, seed {seed}", report)
    model.eval()
    fit = Fit(
        kind=kind,
        seed=seed,
        hidden_dim=hidden_dim,
        num_parameters=count_parameters(model),
        best_epoch=trained.best_step // config.validate_every,
        mse=layer_mse(model, test, settings.batch_size),
        target_variance=tuple(values.var(correction=0).item() for values in test.activations),
        seconds=time.perf_counter() - started,
    )
    write_json_atomic(path, asdict(fit))
    return fit


def _samples(settings: ForwardFitSettings, split: str, count: int, seed: int) -> MLPSamples:
    """The MLPs of a split: the same for every network that is compared."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "forward-fit", split))
    return sample_mlps(settings.widths, count, settings.num_inputs, generator)
