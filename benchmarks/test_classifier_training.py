"""How fast classifiers are trained: the CPU kernel and the stacked transformers against a loop over single networks.

The loop is what one would write in torch: a module, torch.optim, one network after the other, with as many threads as
suit it. All contenders train the same hyper-parameters on the same images, in turn in every round of one process, so
that what slows the machine down slows all of them; a ratio is the median over the rounds. `pytest benchmarks
--benchmark-only -s` prints the tables.
"""

import os
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.contenders import Run, rate
from tests.zootool.nets.modules import Cnn, SimpleVit
from zootool.build.classifier.classifier_data import Checkpoint, ClassifierData, Labelled, levels_of
from zootool.build.classifier.cnn_training import image_data, train_cnn
from zootool.build.classifier.draws import CnnRun, draw_run
from zootool.build.classifier.vit_training import train_vits
from zootool.build.classifiers import MAX_STACKED
from zootool.build.recipe import CnnRecipe, VitRecipe, load_recipe_of

THREADS = len(os.sched_getaffinity(0))
ROUNDS = 3
EPOCHS = 4
NUM_RUNS = 12
SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1)}
NUM_IMAGES = {"digits": 1297, "mnist": 1024}
OPTIMISERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}


@pytest.mark.parametrize(("dataset", "batch_size"), [("digits", None), ("digits", 512), ("mnist", 64), ("mnist", 512)])
def test_small_cnns_against_a_loop(benchmark: Any, dataset: str, batch_size: int | None) -> None:
    """`small-cnn`, networks x epochs per second; None is the recipe's own batch size."""
    parts = {} if batch_size is None else {"batch_size": batch_size}
    recipe = load_recipe_of(CnnRecipe, "small-cnn", dataset, parts)
    assert_trains_modules(recipe, dataset)
    contenders = {"CPU kernel": kernel(recipe, dataset), **loops(lambda: cnn_loop(recipe, dataset))}
    compare(benchmark, f"small-cnn, {dataset}, batches of {recipe.batch_size}", contenders)


def test_wild_park_against_a_loop(benchmark: Any) -> None:
    """Architectures that differ, on 8 x 8 pixels."""
    recipe = load_recipe_of(CnnRecipe, "wild-park", "digits")
    assert_trains_modules(recipe, "digits")
    contenders = {"CPU kernel": kernel(recipe, "digits"), **loops(lambda: cnn_loop(recipe, "digits"))}
    compare(benchmark, "wild-park, digits", contenders)


def test_vits_against_a_loop(benchmark: Any) -> None:
    """`simple-vit` on digits."""
    recipe = load_recipe_of(VitRecipe, "simple-vit", "digits")
    assert_trains_vits(recipe)
    contenders = {"stacked torch": stacks(recipe), **loops(lambda: vit_loop(recipe))}
    compare(benchmark, "simple-vit, digits", contenders)


def compare(benchmark: Any, title: str, contenders: dict[str, Run]) -> None:
    """Print networks x epochs per second of all, and by what factor the first is faster than each."""
    ours = next(iter(contenders))
    for contender in contenders.values():
        contender()
    rounds = [{name: rate(contender) for name, contender in contenders.items()} for _ in range(ROUNDS)]
    print(f"\nload before: {os.getloadavg()[0]:.1f}\n| {title}, {THREADS} processors | networks x epochs/s | factor |")
    print("| --- | --- | --- |")
    for name in contenders:
        ratio = statistics.median(round_[ours] / round_[name] for round_ in rounds)
        print(f"| {name} | {statistics.median(round_[name] for round_ in rounds):,.1f} | {ratio:.1f} |")
        benchmark.extra_info[name] = ratio
    benchmark.pedantic(contenders[ours], rounds=ROUNDS)


def assert_trains_modules(recipe: CnnRecipe, dataset: str) -> None:
    """What the kernel trains are the loop's modules: with its weights they have the loss that it says, and a new one.

    A network of these recipes may diverge; of the first four, two don't.
    """
    train = images(dataset)
    data = image_data(train, levels_of(recipe.target))
    training = recipe.model_copy(update={"checkpoints": (0, 1)})
    num_compared = 0
    for run in (draw_run(recipe, number, SHAPES[dataset], 10) for number in range(4)):
        before, after = train_cnn(run, training, data, data)
        if not after.diverged:
            assert (before.parameters != after.parameters).any()
            assert_has_loss(Cnn(run.config), after, train, recipe.target)
            num_compared += 1
    assert num_compared >= 2


def assert_trains_vits(recipe: VitRecipe) -> None:
    """What a stack trains are the loop's modules: with its weights they have the loss that it says."""
    train, config = images("digits"), recipe.config(1, 10)
    found = train_vits([0, 1], 1, recipe, ClassifierData(train, train, 10))
    assert len(found) == 2
    assert (found[0].parameters != found[1].parameters).any()
    for trained in found:
        assert_has_loss(SimpleVit(config), trained, train, recipe.target)


def assert_has_loss(module: nn.Module, trained: Checkpoint, data: Labelled, target: tuple[float, float]) -> None:
    """`module` with the trained weights has the checkpoint's loss and accuracy on `data`."""
    nn.utils.vector_to_parameters(torch.from_numpy(trained.parameters.copy()), module.parameters())
    x = torch.from_numpy(levels_of(target)[data.pixels]).permute(0, 3, 1, 2)
    labels = torch.from_numpy(data.labels)
    with torch.no_grad():
        logits = module(x)
    assert functional.cross_entropy(logits, labels).item() == pytest.approx(trained.test_loss, rel=1e-3)
    assert (logits.argmax(1) == labels).float().mean().item() == pytest.approx(trained.test_accuracy, abs=2e-3)


def kernel(recipe: CnnRecipe, dataset: str) -> Run:
    """The kernel on all processors."""
    train = images(dataset)
    runs = [draw_run(recipe, run, SHAPES[dataset], 10) for run in range(NUM_RUNS)]
    training = recipe.model_copy(update={"checkpoints": (EPOCHS,)})
    levels = levels_of(recipe.target)
    data, none = image_data(train, levels), image_data(Labelled(train.pixels[:1], train.labels[:1]), levels)

    def train_one(run: CnnRun) -> None:
        train_cnn(run, training, data, none)

    def run_all() -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(train_one, runs))
        return EPOCHS * NUM_RUNS

    return run_all


def cnn_loop(recipe: CnnRecipe, dataset: str) -> Run:
    """The same networks by modules, one after the other, with the evaluation that the kernel ends with."""
    train = images(dataset)
    runs = [draw_run(recipe, run, SHAPES[dataset], 10) for run in range(NUM_RUNS)]

    def run_all() -> int:
        for run in runs:
            module = Cnn(run.config)
            optimiser = OPTIMISERS[run.optimiser](module.parameters(), lr=run.lr, weight_decay=run.l2)
            count = round(run.train_fraction * len(train.labels))
            train_epochs(module, optimiser, train, count, recipe.batch_size, recipe.target)
        return EPOCHS * NUM_RUNS

    return run_all


def stacks(recipe: VitRecipe) -> Run:
    """As many stacks as there are processors."""
    train = images("digits")
    data = ClassifierData(train, Labelled(train.pixels[:1], train.labels[:1]), 10)
    runs = [list(range(i * MAX_STACKED, (i + 1) * MAX_STACKED)) for i in range(THREADS)]

    def train_stack(stack: list[int]) -> None:
        train_vits(stack, 1, recipe, data)

    def run_all() -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(train_stack, runs))
        return MAX_STACKED * THREADS

    return run_all


def vit_loop(recipe: VitRecipe) -> Run:
    """A module at a time; without augmentation, which spares the loop some work."""
    train = images("digits")

    def run_all() -> int:
        module = SimpleVit(recipe.config(1, 10))
        optimiser = torch.optim.Adam(module.parameters(), lr=recipe.lr)
        train_epochs(module, optimiser, train, len(train.labels), recipe.batch_size, recipe.target, epochs=1)
        return 1

    return run_all


def train_epochs(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    train: Labelled,
    count: int,
    batch_size: int,
    target: tuple[float, float],
    epochs: int = EPOCHS,
) -> None:
    x = torch.from_numpy(levels_of(target)[train.pixels[:count]]).permute(0, 3, 1, 2).contiguous()
    y = torch.from_numpy(train.labels[:count])
    for _ in range(epochs):
        order = torch.randperm(count)
        for start in range(0, count, batch_size):
            rows = order[start : start + batch_size]
            optimiser.zero_grad()
            functional.cross_entropy(module(x[rows]), y[rows]).backward()
            optimiser.step()
    with torch.no_grad():
        for start in range(0, count, 512):
            functional.cross_entropy(module(x[start : start + 512]), y[start : start + 512])


def loops(make: Callable[[], Run]) -> dict[str, Run]:
    """The loop on one thread and on all."""
    loop = make()
    return {f"loop, {threads} thread{'s' * (threads > 1)}": on_threads(loop, threads) for threads in {1, THREADS}}


def on_threads(contender: Run, threads: int) -> Run:
    def run() -> float:
        torch.set_num_threads(threads)
        return contender()

    return run


def images(dataset: str) -> Labelled:
    rng = np.random.default_rng(0)
    count = NUM_IMAGES[dataset]
    return Labelled(rng.integers(0, 256, (count, *SHAPES[dataset]), dtype=np.uint8), rng.integers(0, 10, count))
