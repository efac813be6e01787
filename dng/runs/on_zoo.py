"""Training a model on a zoo: `zoo train`, and the trainings inside benchmarks.

What a run of `zoo train` leaves besides what `dng.training.loop` does: run.json with the zoo, the target and all
settings, and model.json, from which `dng.load` builds the model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dng.methods.registry import method as method_called
from dng.models.model import Reader, Representation
from dng.runs.load import write_model_spec
from dng.runs.presets import ReaderPreset
from dng.runs.tasks import Prediction, Reconstruction, Target
from dng.runs.two_stage import TwoStagePreset
from dng.training.distributed import ALONE, Ranks, Shard
from dng.training.loop import Batches, TrainConfig, TrainResult, finished, train
from dng.training.same_settings import claim
from dng.training.seed import seeded
from dng.training.symmetries import Symmetries
from dng.zoo_data import EndlessBatches, Loader, Zoo
from zootool.errors import BadDataError, UsageError
from zootool.graph import GraphBatch
from zootool.progress import Reporter, silent

RUN = "run.json"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """Where a training runs: the device of this process, and its place among those that train together."""

    device: torch.device = CPU
    ranks: Ranks = ALONE


HERE = Place()
"""One process on the CPU."""


def train_codes(
    zoo: Zoo, settings: TwoStagePreset, run_dir: Path, place: Place = HERE, report: Reporter = silent
) -> TrainResult:
    """Train the first stage of a method of two: INR2JLS or an ablation of it on images, INR2ARRAY on renderings.

    A finished run is left alone. Raises UsageError where `run_dir` holds another run, BadDataError where the zoo has
    no networks to train or validate on, MissingError where the image set isn't here.
    """
    if settings.ablation == "encoder-only":
        raise UsageError(
            "encoder-only reconstructs nothing", hint="run `zoo train encoder --zoo NAME.zoo --target label`"
        )
    parts = {name: value for name, value in settings.plain().items() if name in settings.parts}
    done = _claim_run(run_dir, settings.model, zoo, None, parts, place.ranks)
    if done is not None:
        return done
    model, loaders = prepare_representation(zoo, settings, place)
    return fit_representation(model, loaders, settings.reconstruction, run_dir, place, report)


def train_reader(
    zoo: Zoo,
    target: Target,
    settings: ReaderPreset,
    run_dir: Path,
    place: Place = HERE,
    report: Reporter = silent,
    method: str = "dng",
) -> TrainResult:
    """Train a method to predict the column of `target`, classes or accuracies.

    Validation picks by accuracy or by Kendall's tau. A finished run is left alone. Raises what `train_codes` does, and
    UsageError for networks that the method can't take.
    """
    # The DNG-Encoder's runs have had another name since before there were other methods.
    kind = "encoder" if method == "dng" else method
    done = _claim_run(run_dir, kind, zoo, target.name, settings.plain(), place.ranks)
    if done is not None:
        return done
    model = build_reader(zoo, target, settings, method)
    return fit_reader(
        model, zoo, target, settings.training, run_dir,
        symmetries=settings.symmetries, place=place, report=report, stage=f"training the {kind}",
    )  # fmt: skip


def build_reader(zoo: Zoo, target: Target, settings: ReaderPreset, method: str = "dng") -> Reader:
    """A method with initial weights for the zoo's networks, of which those to validate on come first."""
    loader = training_loaders(zoo, settings.training, HERE, images=False)["validation"]
    architectures = [first_batch(loader).architecture, *zoo.architectures.values()]
    with seeded(settings.training.seed, "encoder-only" if method == "dng" else method):
        model = method_called(method).reader()(architectures, target.num_outputs, settings.config)
    model.predicts = target.predicts
    return model


def fit_reader(
    model: Reader,
    zoo: Zoo,
    target: Target,
    config: TrainConfig,
    run_dir: Path,
    *,
    symmetries: Symmetries | None = None,
    place: Place = HERE,
    report: Reporter = silent,
    stage: str | None = None,
) -> TrainResult:
    """Train a method that was built for the zoo; it then holds the weights that validation picked, on `place`."""
    loaders = training_loaders(zoo, config, place, images=False)
    model.fit(_training_networks(zoo, config.batch_size))
    write_model_spec(run_dir, model, place.ranks)
    model.to(place.device)
    task = Prediction(model, loaders["validation"], target.by_row.to(place.device), symmetries)
    batches = sharded_batches(loaders["train"], place.ranks)
    return train(task, batches, config, run_dir, stage or f"training {model.method}", report, place.ranks)


def prepare_representation(
    zoo: Zoo, settings: TwoStagePreset, place: Place = HERE
) -> tuple[Representation, dict[str, Loader]]:
    """The model of codes that `settings` describes, with its initial weights, and the loaders to train it on."""
    config = settings.reconstruction
    loaders = training_loaders(zoo, config, place, images=settings.sees_images)
    architecture = first_batch(loaders["validation"]).architecture
    side, _, channels = image_shape(zoo)
    with seeded(config.seed, "representation"):
        model = settings.build([architecture, *zoo.architectures.values()], side, channels)
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
    batches = sharded_batches(loaders["train"], place.ranks)
    task = Reconstruction(model, loaders["validation"])
    return train(task, batches, config, run_dir, f"training {model.kind}", report, place.ranks)


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


def _training_networks(zoo: Zoo, batch_size: int) -> Iterator[GraphBatch]:
    """The training networks, once."""
    yield from zoo.select(split="train").loader(batch_size, targets=())
