"""Training a model on a zoo: `zoo train`, and the trainings inside benchmarks.

What a run of `zoo train` leaves besides what `dng.training.train` does: run.json with the zoo, the target and all
settings, and model.json, from which `dng.load` builds the model.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dng.data import EndlessBatches, Loader, Zoo
from dng.models.model import Representation
from dng.models.predictors import AccuracyPredictor, NetworkClassifier, PredictorConfig
from dng.runs.accuracy import AccuracyPrediction
from dng.runs.builders import build_representation
from dng.runs.load import write_model_spec
from dng.runs.presets import EncoderPreset
from dng.runs.targets import Target
from dng.runs.tasks import NetworkClassification, Reconstruction
from dng.runs.two_stage import ClassificationPreset, TwoStagePreset
from dng.training.claim import claim
from dng.training.distributed import ALONE, Ranks, Shard
from dng.training.seed import seeded
from dng.training.symmetries import Symmetries
from dng.training.train import Batches, Task, TrainConfig, TrainResult, finished, train
from zootool.errors import BadDataError, UsageError
from zootool.graph import GraphBatch
from zootool.progress import Reporter, silent

RUN = "run.json"

REPRESENTATION_PARTS = (
    "reconstruction", "encoder", "latent_dim", "hidden_dim", "decoder_dim", "decoding_dim", "code_dim", "ablation"
)  # fmt: skip
"""The settings of a benchmark's preset that training a model of codes depends on."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """Where a training runs: the device of this process, and its place among those that train together."""

    device: torch.device = CPU
    ranks: Ranks = ALONE


HERE = Place()
"""One process on the CPU."""


def train_inr2jls(
    zoo: Zoo, settings: ClassificationPreset, run_dir: Path, place: Place = HERE, report: Reporter = silent
) -> TrainResult:
    """Train INR2JLS, or the ablation of it that `settings` names, on the zoo's INRs and their source images.

    A finished run is left alone. Raises UsageError where `run_dir` holds another run, BadDataError where the zoo has
    no networks to train or validate on, MissingError where the image set isn't here.
    """
    if settings.ablation == "encoder-only":
        raise UsageError(
            "encoder-only reconstructs nothing", hint="run `zoo train encoder --zoo NAME.zoo --target label`"
        )
    parts = {name: asdict(settings)[name] for name in REPRESENTATION_PARTS}
    done = _claim_run(run_dir, "inr2jls", zoo, None, parts, place.ranks)
    if done is not None:
        return done
    model, loaders = prepare_representation(zoo, settings, place)
    return fit_representation(model, loaders, settings.reconstruction, run_dir, place, report)


def train_encoder(
    zoo: Zoo, target: Target, settings: EncoderPreset, run_dir: Path, place: Place = HERE, report: Reporter = silent
) -> TrainResult:
    """Train an encoder with a head to predict the column of `target`, classes or accuracies.

    Validation picks by accuracy or by Kendall's tau. A finished run is left alone. Raises what `train_inr2jls` does.
    """
    done = _claim_run(run_dir, "encoder", zoo, target.name, asdict(settings), place.ranks)
    if done is not None:
        return done
    loaders = training_loaders(zoo, settings.training, place, images=False)
    with seeded(settings.training.seed, "encoder-only"):
        model = _build(first_batch(loaders["validation"]), settings, target)
    write_model_spec(run_dir, model, place.ranks)
    model.to(place.device)
    values = target.by_row.to(place.device)
    task = _task(model, loaders["validation"], lambda batch: values[batch.rows], settings.symmetries)
    return _fit(task, loaders["train"], settings.training, run_dir, "training the encoder", place, report)


def prepare_representation(
    zoo: Zoo, settings: TwoStagePreset, place: Place = HERE
) -> tuple[Representation, dict[str, Loader]]:
    """The model of codes that `settings` describes, with its initial weights, and the loaders to train it on."""
    config = settings.reconstruction
    loaders = training_loaders(zoo, config, place, images=settings.sees_images)
    architecture = first_batch(loaders["validation"]).architecture
    side, _, channels = image_shape(zoo)
    with seeded(config.seed, "representation"):
        model = build_representation([architecture, *zoo.architectures.values()], settings, side, channels)
    return model.to(place.device), loaders


def fit_representation(
    model: Representation,
    loaders: dict[str, Loader],
    config: TrainConfig,
    run_dir: Path,
    place: Place = HERE,
    report: Reporter = silent,
) -> TrainResult:
    """Train what `prepare_representation` gave; the model then holds the weights that validation picked."""
    write_model_spec(run_dir, model, place.ranks)
    task = Reconstruction(model, loaders["validation"])
    return _fit(task, loaders["train"], config, run_dir, f"training {model.kind}", place, report)


def training_loaders(zoo: Zoo, config: TrainConfig, place: Place, images: bool) -> dict[str, Loader]:
    """Loaders of the splits train (shuffled) and validation. Raises BadDataError where one is empty."""
    require_splits(zoo, ("train", "validation"))
    return {
        name: zoo.select(split=name).loader(
            config.batch_size, name == "train", config.seed, device=place.device, images=images, targets=()
        )
        for name in ("train", "validation")
    }


def image_shape(zoo: Zoo) -> tuple[int, int, int]:
    """Height, width and channels of the zoo's images: as zoo.json has it, else of the first image.

    Raises MissingError where neither is there.
    """
    shapes = {source.shape for source in zoo.info.sources}
    if len(shapes) == 1 and len(shape := shapes.pop()) == 3:
        height, width, channels = shape
        return height, width, channels
    images = first_batch(zoo.loader(1, images=True, targets=())).images
    assert images is not None, "the loader was asked for images"
    _, height, width, channels = images.shape
    return height, width, channels


def batches_per_epoch(zoo: Zoo) -> Callable[[int], int]:
    """From a batch size to the batches in which every network of the split train is seen once.

    Networks of different node counts share no batch, so there may be more than their number says. 0 without the split.
    """
    networks = zoo.select(split="train") if "split" in zoo.nets else None
    return lambda batch_size: 0 if networks is None else len(networks.loader(batch_size, shuffle=True, targets=()))


def require_splits(zoo: Zoo, names: tuple[str, ...]) -> None:
    """Raise BadDataError unless the zoo has networks in every one of these splits."""
    known = zoo.nets["split"].to_numpy() if "split" in zoo.nets else np.empty(0)
    missing = [name for name in names if not (known == name).any()]
    if missing:
        raise BadDataError(
            f"the zoo has no networks in the split {' and '.join(missing)}",
            hint="build it with images of each split, as in `--limit 3000,500,500`",
        )


def first_batch(loader: Loader) -> GraphBatch:
    """The first batch of an epoch: what its networks look like."""
    return next(iter(loader))


def sharded_batches(loader: Loader, ranks: Ranks) -> Batches:
    """A loader's epochs without end; of several ranks each gets every world_size-th network of each batch.

    Dealing out the networks of a batch, not those of an epoch, gives the batches that one process would see.
    """
    if ranks.world_size == 1:
        return EndlessBatches(loader)

    def shard(batch: Any) -> Shard:
        mine = batch.map(lambda tensor: tensor[ranks.rank :: ranks.world_size])
        return Shard(mine, len(mine) / len(batch))

    return EndlessBatches(loader, shard)


def _claim_run(
    run_dir: Path, kind: str, zoo: Zoo, target: str | None, settings: dict[str, Any], ranks: Ranks
) -> TrainResult | None:
    wanted = {"training": kind, "zoo": {"id": zoo.id, "name": zoo.info.name}, "target": target, "settings": settings}
    claim(run_dir / RUN, wanted, ranks)
    return finished(run_dir)


def _build(first: GraphBatch, settings: EncoderPreset, target: Target) -> NetworkClassifier | AccuracyPredictor:
    config = PredictorConfig(target.num_outputs, settings.encoder, settings.head_dim, settings.head_dropout)
    kind = NetworkClassifier if target.is_class else AccuracyPredictor
    return kind(first.architecture, config)


def _task(
    model: NetworkClassifier | AccuracyPredictor,
    validation: Loader,
    lookup: Callable[[GraphBatch], Tensor],
    symmetries: Symmetries | None,
) -> Task:
    if isinstance(model, NetworkClassifier):
        return NetworkClassification(model, validation, lookup)
    return AccuracyPrediction(model, validation, lookup, symmetries)


def _fit(
    task: Task, loader: Loader, config: TrainConfig, run_dir: Path, stage: str, place: Place, report: Reporter
) -> TrainResult:
    batches = sharded_batches(loader, place.ranks)
    return train(task, batches, config, run_dir, stage, report, place.ranks)
