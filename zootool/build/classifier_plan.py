"""What training a zoo of classifiers will take: `--plan`, which trains nothing but a few networks for a moment."""

import time
from dataclasses import dataclass
from math import prod

from zootool.build.builder import available_threads
from zootool.build.classifier.draws import CnnRun, draw_run
from zootool.build.classifier.trained import Labelled
from zootool.build.classifier_work import MAX_STACKED, levels_of
from zootool.build.classifiers import Material, check_fit, material_of
from zootool.build.cnn_recipe import CnnRecipe
from zootool.build.extents import check_runs
from zootool.build.plan import TABLE_BYTES, UNIT_BYTES, BuildPlan, peak_memory
from zootool.build.vit_recipe import VitRecipe
from zootool.images import Images
from zootool.nets.cnn import CnnConfig, cnn_architecture

_CALIBRATED_RUNS = 4
_CALIBRATED_IMAGES = 256


@dataclass(frozen=True)
class _Work:
    """Parameters of all networks together, of all their checkpoints, and the seconds that one processor needs."""

    parameters: int
    stored: int
    seconds: float


def plan_classifiers(
    images: Images, recipe: CnnRecipe | VitRecipe, *, runs: int | None = None, threads: int | None = None
) -> BuildPlan:
    """The plan of `build_classifiers` on this machine, from a calibration of about a second. Writes nothing."""
    count, threads = recipe.runs if runs is None else runs, threads or available_threads()
    check_runs(count)
    material = material_of(images, recipe)
    check_fit(material, recipe, count)
    is_cnn = isinstance(recipe, CnnRecipe)
    work = _cnn_work(material, recipe, count) if isinstance(recipe, CnnRecipe) else _vit_work(material, recipe, count)
    unit_size = recipe.with_unit_size("cpu").unit_size or 1
    num_units = -(-count // unit_size)
    workers = min(threads, count)
    rows = count * (len(recipe.checkpoints) if isinstance(recipe, CnnRecipe) else 1)
    num_bytes = material.train.pixels.nbytes + material.test.pixels.nbytes
    return BuildPlan(
        num_images=len(material.train.labels) + len(material.test.labels),
        num_networks=count,
        num_units=num_units,
        num_parameters=work.parameters // count,
        disk_bytes=4 * work.stored + rows * TABLE_BYTES + num_units * UNIT_BYTES,
        # Of a unit: its checkpoints, stacked and written; the images once more, as the networks see them.
        memory_bytes=peak_memory() + num_bytes + 12 * work.stored * min(unit_size, count) // count,
        seconds=work.seconds / workers,
        networks_per_second=count * workers / work.seconds,
        backend="CPU kernel" if is_cnn else "stacked torch",
        threads=threads,
    )


def _cnn_work(material: Material, recipe: CnnRecipe, count: int) -> _Work:
    runs = [draw_run(recipe, run, material.image_shape, material.num_classes) for run in range(count)]
    parameters = [_num_parameters(run.config) for run in runs]
    checkpoints, epochs = len(recipe.checkpoints), recipe.checkpoints[-1]
    num_train, num_test = len(material.train.labels), len(material.test.labels)
    # Products per image and in all; a step takes three times those of looking at the images once.
    products = [_products(run.config) for run in runs]
    seen = [3 * epochs * run.train_fraction * num_train for run in runs]
    judged = [checkpoints * (run.train_fraction * num_train + num_test) for run in runs]
    total = sum(p * (a + b) for p, a, b in zip(products, seen, judged, strict=True))
    seconds = total / _products_per_second(material, recipe, runs[:_CALIBRATED_RUNS])
    return _Work(sum(parameters), sum(parameters) * checkpoints, seconds)


def _products_per_second(material: Material, recipe: CnnRecipe, runs: list[CnnRun]) -> float:
    from zootool.build.classifier.cnn import CnnTraining, image_data, train_cnn

    levels, done, elapsed = levels_of(recipe.target), 0.0, 0.0
    train, test = image_data(_first(material.train), levels), image_data(_first(material.test), levels)
    train_cnn(runs[0], CnnTraining(recipe.seed, recipe.batch_size, (1,)), train, test)  # compiles
    for run in runs:
        started = time.perf_counter()
        train_cnn(run, CnnTraining(recipe.seed, recipe.batch_size, (2,)), train, test)
        elapsed += time.perf_counter() - started
        seen = run.train_fraction * len(train.labels)
        done += _products(run.config) * (3 * 2 * seen + seen + len(test.labels))
    return done / elapsed


def _vit_work(material: Material, recipe: VitRecipe, count: int) -> _Work:
    from zootool.build.classifier.vit import VitTraining, train_vits

    channels = material.image_shape[2]
    architecture = recipe.architecture(channels, material.num_classes)
    parameters = sum(prod(slot.shape) for slot in architecture.slots)
    training = VitTraining(recipe.seed, recipe.lr, recipe.batch_size, recipe.flip, recipe.crop)
    train, test = _first(material.train), _first(material.test)
    stack = list(range(min(MAX_STACKED, count)))
    config, levels = recipe.config(channels, material.num_classes), levels_of(recipe.target)
    train_vits(stack[:1], 1, config, training, _first(train, 32), test, levels)
    started = time.perf_counter()
    train_vits(stack, 2, config, training, train, test, levels)
    elapsed = (time.perf_counter() - started) / len(stack)
    per_image = elapsed / (2 * len(train.labels) + (len(train.labels) + len(test.labels)) / 3)
    epochs = sum(1 + recipe.epochs[run % len(recipe.epochs)] for run in range(count))
    num_train, num_test = len(material.train.labels), len(material.test.labels)
    seen = epochs * num_train + count * (num_train + num_test) / 3
    return _Work(parameters * count, parameters * count, seen * per_image)


def _first(images: Labelled, count: int = _CALIBRATED_IMAGES) -> Labelled:
    return Labelled(images.pixels[:count], images.labels[:count])


def _num_parameters(config: CnnConfig) -> int:
    return sum(prod(slot.shape) for slot in cnn_architecture(config).slots)


def _products(config: CnnConfig) -> int:
    """Multiplications for one image, in the convolutions."""
    sides = config.sides
    return sum(
        config.channels[i] * config.channels[i + 1] * kernel**2 * prod(sides[i + 1])
        for i, kernel in enumerate(config.kernels)
    )
