"""One method learning one edit under one seed: trained, picked on validation, and measured on test networks once."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dng.bench.editing.edits import EDITS, Edit
from dng.bench.editing.material import NUM_EXAMPLES, Material
from dng.bench.editing.methods import LABELS, Method, RenderedEditor, build_method
from dng.bench.editing.results import Answer, Measured, Pictures, References
from dng.bench.editing.settings import MethodSettings
from dng.bench.pictures import to_pictures
from dng.data import EndlessBatches, Loader
from dng.models.heads import count_parameters
from dng.models.views import to_unit_range
from dng.runs.on_zoo import training_loaders
from dng.runs.tasks import describe_rows, mean_over, source_images
from dng.training.seed import seeded
from dng.training.train import train
from zootool.errors import NumericalError
from zootool.graph import GraphBatch
from zootool.progress import Reporter, silent

BATCH_SIZE = 128
"""Networks that are read at a time where nothing is learned."""


@dataclass(frozen=True, eq=False)
class Contest:
    """What a method is given: the networks, its settings, the edit, a seed, and a folder of its own."""

    material: Material
    name: str
    settings: MethodSettings
    edit: str
    seed: int
    run_dir: Path
    report: Reporter = silent


class Editing:
    """The training: the mean squared error against the edited source images."""

    def __init__(self, model: Method, validation: Loader, edit: Edit) -> None:
        self.model = model
        self.validation = validation
        self.edit = edit

    def loss(self, batch: GraphBatch) -> Tensor:
        """The model's error on a batch."""
        return self.model.loss(batch, target_images(batch, self.edit))

    def validate(self) -> float:
        """The error on the validation split."""
        return mean_over((batch for batch in self.validation), self.loss)

    def describe(self, batch: GraphBatch) -> str:
        """The rows of the batch in the zoo's table."""
        return describe_rows(batch)


def learn(contest: Contest) -> Answer:
    """Train a method, or go on where that was stopped, and measure what validation picked."""
    material, settings = contest.material, contest.settings
    config = replace(settings.training, seed=contest.seed)
    networks = material.networks(settings.copies)
    loaders = training_loaders(networks, config, material.place, images=True)
    with seeded(config.seed, "editing"):
        model = build_method(settings.config, material)
    if isinstance(model, RenderedEditor):
        to_measure = networks.select(split="train").loader(BATCH_SIZE, targets=())
        model.editor.fit(batch for batch in to_measure)
    task = Editing(model.to(material.place.device), loaders["validation"], EDITS[contest.edit])
    stage = f"{LABELS[contest.name]} learns to {contest.edit}, seed {contest.seed}"
    batches = EndlessBatches(loaders["train"])
    started = time.perf_counter()
    result = train(task, batches, config, contest.run_dir, stage, contest.report)
    seconds = time.perf_counter() - started
    model.eval()
    test = measure(model.reconstruct, material, contest.edit, config.batch_size)
    return Answer(test, result.best_score, result.best_step, count_parameters(model), seconds)


def measure_references(material: Material, edit: str) -> References:
    """What needs no training: the networks as they are, and what the edit makes of their renderings."""
    canvas = material.canvas
    no_edit = measure(canvas.render, material, edit)
    edited = measure(lambda graph: edited_images(canvas.render(graph), EDITS[edit]), material, edit)
    first = next(iter(material.test_loader(NUM_EXAMPLES)))
    originals, targets = source_images(first), target_images(first, EDITS[edit])
    rows = tuple(first.rows.tolist())
    return References(no_edit, edited, Pictures.of(originals), Pictures.of(targets), rows)


@torch.no_grad()
def measure(
    to_images: Callable[[GraphBatch], Tensor], material: Material, edit: str, batch_size: int = BATCH_SIZE
) -> Measured:
    """How far the images that `to_images` makes of the test networks are from the edited source images.

    Raises NumericalError where that isn't finite.
    """
    shown: list[Tensor] = []

    def error(batch: GraphBatch) -> Tensor:
        images = to_images(batch)
        shown.append(images[: NUM_EXAMPLES - sum(map(len, shown))])
        return (images - target_images(batch, EDITS[edit])).square().mean()

    mse = mean_over((batch for batch in material.test_loader(batch_size)), error)
    if not math.isfinite(mse):
        raise NumericalError(
            f"test networks render no finite images: their error is {mse}", hint="leave out what diverged: zoo subset"
        )
    return Measured(mse, Pictures.of(torch.cat(shown)))


def target_images(batch: GraphBatch, edit: Edit) -> Float[Tensor, "batch channels height width"]:
    """The edited source images, in [-1, 1]."""
    return edited_images(source_images(batch), edit)


def edited_images(
    images: Float[Tensor, "batch channels height width"], edit: Edit
) -> Float[Tensor, "batch channels height width"]:
    """What an edit of pixels makes of images in [-1, 1]."""
    pixels = torch.from_numpy(edit(to_pictures(images)))
    return to_unit_range(pixels.to(images.device))
