"""INR classification: train INR2JLS on images and weights, then a classifier on its frozen latents (section 8.1).

The test split is read once, by the classifier that validation picked.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from dng.bench.data import EndlessBatches, LabelledGraphs, Loader, Zoo, to_graphs
from dng.bench.latents import Latents, LoaderFactory
from dng.bench.presets import ClassificationPreset
from dng.heads import LatentClassifier, count_parameters
from dng.inr2jls import INR2JLS
from dng.runs import write_model_spec
from dng.seed import derived_seed, seeded
from dng.train import TrainConfig, train
from dng.views import to_unit_range
from zootool.errors import BadDataError, UsageError
from zootool.files import write_atomic, write_json_atomic
from zootool.progress import Reporter, silent

SPLITS = ("train", "validation", "test")
RESULTS = "results.json"

Control = Literal["none", "shuffled-labels"]


@dataclass(frozen=True)
class ClassificationResult:
    """What the benchmark measured; accuracies are fractions, `seconds` are those of this call."""

    test_accuracy: float
    validation_accuracy: float
    validation_mse: float
    num_networks: int
    num_classes: int
    num_parameters: int
    zoo_id: str
    preset: str
    seed: int
    control: str
    seconds: float
    skipped: bool


class Reconstruction:
    """The first training: the views of the source image from the weights, by mean squared error in [-1, 1]."""

    def __init__(self, model: INR2JLS, validation: Loader) -> None:
        self.model = model
        self.validation = validation

    def loss(self, batch: LabelledGraphs) -> Tensor:
        """The mean squared error over views, channels and pixels."""
        return (self.model(batch.graph) - self._targets(batch)).square().mean()

    def validate(self) -> float:
        """The mean squared error on the validation split."""
        total, count = 0.0, 0
        for batch in map(to_graphs, self.validation):
            total += self.loss(batch).item() * batch.graph.batch_size
            count += batch.graph.batch_size
        return total / count

    def describe(self, batch: LabelledGraphs) -> str:
        """The rows of the batch in the zoo's table."""
        return f"the networks in rows {batch.rows.tolist()}"

    def _targets(self, batch: LabelledGraphs) -> Tensor:
        if batch.images is None:
            raise BadDataError("the loader gave no source images", hint="give the image set with `--data`")
        return self.model.target_views(to_unit_range(batch.images))


class Classification:
    """The second training: labels from frozen latents, by cross-entropy on every view."""

    def __init__(self, model: LatentClassifier, validation: Latents, batch_size: int) -> None:
        self.model = model
        self.validation = validation
        self.batch_size = batch_size

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of a batch of latents and labels."""
        return self.model.loss(*batch)

    def validate(self) -> float:
        """Accuracy on the validation split."""
        predictions, labels = predict(self.model, self.validation, self.batch_size)
        return (predictions == labels).float().mean().item()

    def describe(self, batch: tuple[Tensor, Tensor]) -> str:
        """The batch's size."""
        return f"a batch of {len(batch[0])} latents"


def run_inr_classification(
    zoo: Zoo,
    preset_name: str,
    preset: ClassificationPreset,
    out: Path,
    control: Control = "none",
    report: Reporter = silent,
) -> ClassificationResult:
    """Run the benchmark on `zoo` and leave models, metrics and results.json in `out`; finished parts are kept.

    `control="shuffled-labels"` permutes the labels over the networks: accuracy must then fall to chance.
    """
    done = read_result(out)
    if done is not None:
        return _same_run(done, zoo, preset_name, preset.reconstruction.seed, control, out)
    started = time.perf_counter()
    seed = preset.reconstruction.seed
    labels = _labels(zoo, control, seed)
    model, validation_mse = _train_inr2jls(zoo, preset, out / "inr2jls", report)
    splits = {name: _latents(model, zoo, name, labels) for name in SPLITS}
    num_classes = int(labels.max()) + 1
    classifier, validation_accuracy = _train_classifier(model, splits, preset, num_classes, out / "classifier", report)
    predictions, truth = predict(classifier, splits["test"], preset.classification.batch_size)
    _write_predictions(out, zoo, predictions, truth)
    result = ClassificationResult(
        test_accuracy=(predictions == truth).float().mean().item(),
        validation_accuracy=validation_accuracy,
        validation_mse=validation_mse,
        num_networks=len(zoo),
        num_classes=num_classes,
        num_parameters=count_parameters(model) + count_parameters(classifier),
        zoo_id=zoo.id,
        preset=preset_name,
        seed=seed,
        control=control,
        seconds=time.perf_counter() - started,
        skipped=False,
    )
    write_json_atomic(out / RESULTS, asdict(result))
    return result


@torch.no_grad()
def predict(classifier: LatentClassifier, latents: Latents, batch_size: int) -> tuple[Tensor, Tensor]:
    """Predicted classes and labels of a split, both int64 (N,)."""
    classifier.eval()
    pairs = [(classifier.predict(batch), labels) for batch, labels in latents.once(batch_size)]
    predictions, labels = zip(*pairs, strict=True)
    return torch.cat(predictions), torch.cat(labels)


def read_result(out: Path) -> ClassificationResult | None:
    """The finished result in `out`, marked as skipped, or None."""
    path = out / RESULTS
    if not path.exists():
        return None
    return ClassificationResult(**json.loads(path.read_text(encoding="utf-8")) | {"skipped": True})


def _same_run(
    done: ClassificationResult, zoo: Zoo, preset: str, seed: int, control: str, out: Path
) -> ClassificationResult:
    wanted = {"zoo_id": zoo.id, "preset": preset, "seed": seed, "control": control}
    for key, value in wanted.items():
        if getattr(done, key) != value:
            raise UsageError(
                f"{out} holds a result with {key}={getattr(done, key)}, this run has {key}={value}",
                hint="choose another --out, or remove that folder",
            )
    return done


def _labels(zoo: Zoo, control: Control, seed: int) -> Int64[Tensor, " rows"]:
    """The label of every row of the store that belongs to `zoo`."""
    nets = zoo.nets
    if "label" not in nets or nets["label"].isna().any():
        raise BadDataError("the zoo's table has networks without a label", hint="see its columns with `zoo info`")
    missing = [name for name in SPLITS if not (nets["split"] == name).any()]
    if missing:
        raise BadDataError(
            f"the zoo has no networks in the split {' and '.join(missing)}",
            hint="build it with images of each split, as in `--limit 3000,500,500`",
        )
    labels = torch.from_numpy(nets["label"].to_numpy(np.int64, copy=True))
    if control == "shuffled-labels":
        generator = torch.Generator().manual_seed(derived_seed(seed, "shuffled labels"))
        labels = labels[torch.randperm(len(labels), generator=generator)]
    by_row = torch.full((int(zoo.rows.max()) + 1,), -1)
    by_row[torch.from_numpy(zoo.rows)] = labels
    return by_row


def _train_inr2jls(zoo: Zoo, preset: ClassificationPreset, run_dir: Path, report: Reporter) -> tuple[INR2JLS, float]:
    config = preset.reconstruction
    training = zoo.select(split="train").loader(config.batch_size, shuffle=True, seed=config.seed, images=True)
    validation = zoo.select(split="validation").loader(config.batch_size, images=True)
    first = to_graphs(next(iter(validation)))
    if first.images is None:
        raise BadDataError("the loader gave no source images", hint="give the image set with `--data`")
    side, channels = first.images.shape[1], first.images.shape[3]
    with seeded(config.seed, "inr2jls"):
        model = INR2JLS(first.graph.architecture, preset.model_config(side, channels))
    write_model_spec(run_dir, model)
    task = Reconstruction(model, validation)
    result = train(task, EndlessBatches(training), config, run_dir, "training INR2JLS", report)
    return model, result.best_score


def _latents(model: INR2JLS, zoo: Zoo, split: str, labels: Tensor) -> Latents:
    selected = zoo.select(split=split)

    def loader(batch_size: int, shuffle: bool, seed: int) -> Loader:
        return selected.loader(batch_size, shuffle=shuffle, seed=seed)

    factory: LoaderFactory = loader
    return Latents(model, factory, lambda batch: labels[batch.rows], len(selected))


def _train_classifier(
    model: INR2JLS,
    splits: dict[str, Latents],
    preset: ClassificationPreset,
    num_classes: int,
    run_dir: Path,
    report: Reporter,
) -> tuple[LatentClassifier, float]:
    config: TrainConfig = preset.classification
    with seeded(config.seed, "classifier"):
        classifier = LatentClassifier(
            model.config.latent_dim, model.config.latent_side, num_classes, preset.classifier_dim
        )
    task = Classification(classifier, splits["validation"], config.batch_size)
    batches = splits["train"].endless(config.batch_size, config.seed)
    result = train(task, batches, config, run_dir, "training the classifier", report)
    return classifier, result.best_score


def _write_predictions(out: Path, zoo: Zoo, predictions: Tensor, labels: Tensor) -> None:
    table = zoo.select(split="test").nets[["net_id"]]
    table["label"], table["prediction"] = labels.numpy(), predictions.numpy()
    write_atomic(out / "predictions.parquet", lambda sink: table.to_parquet(sink, index=False))
