"""The editing benchmark: methods change what SIRENs show by changing their weights.

What a run leaves besides what every benchmark does:

    METHOD.settings.json      what a method is and how it learns, written first
    EDIT/references.json      what edits are compared with
    EDIT/seed-SEED/METHOD/    a training (see `dng.training.loop`); METHOD.json beside it: its answer
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from dng.bench.certainty import over_seeds, spread
from dng.bench.comparison import SPLITS, updates_of
from dng.bench.editing_methods import (
    LABELS,
    NUM_EXAMPLES,
    PREDICTORS,
    PRESETS,
    EditableZoo,
    RenderedEditor,
    build_method,
    editable,
    method_settings,
)
from dng.bench.edits import EDITS, Edit, check_channels
from dng.bench.figures import from_pixels, gallery
from dng.bench.harness import SETTINGS, Benchmark, Case, called
from dng.bench.page import Drawing, Page, Section, Table
from dng.bench.pictures import Pictures, to_pictures
from dng.methods.registry import METHODS
from dng.models.heads import count_parameters
from dng.models.inr2jls import INR2JLS
from dng.models.views import to_unit_range
from dng.runs.on_zoo import HERE, Place, training_loaders
from dng.runs.tasks import describe_rows, mean_over, source_images
from dng.training.loop import train
from dng.training.seed import seeded
from dng.zoo_data import EndlessBatches, Loader, Zoo
from zootool.errors import NumericalError
from zootool.graph import GraphBatch
from zootool.progress import Reporter

BATCH_SIZE = 128
"""Networks that are read at a time where nothing is learned."""

_NO_EDIT, _EDITED = "no edit", "edit of the rendering"

Images = Float[Tensor, "batch channels height width"]


@dataclass(frozen=True)
class Measured:
    """The mean squared error in [-1, 1] over all pixels of the test networks, and pictures of the first of them."""

    mse: float
    examples: Pictures


@dataclass(frozen=True)
class References:
    """What edits are compared with: the SIRENs as they are, and pictures of their renderings edited as such.

    `originals` and `targets` are the source images of the examples and what the edit makes of them, `rows` the
    examples' rows in the zoo's table.
    """

    no_edit: Measured
    edited_rendering: Measured
    originals: Pictures
    targets: Pictures
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """What a method reached under one seed: on test, and on validation at the step that was picked.

    `seconds` are those of the call that finished it.
    """

    test: Measured
    validation_mse: float
    best_step: int
    num_parameters: int
    seconds: float


@dataclass(frozen=True)
class MethodResult:
    """A method's errors, seed by seed."""

    method: str
    test_mse: tuple[float, ...]
    validation_mse: tuple[float, ...]
    best_steps: tuple[int, ...]
    num_parameters: int
    seconds: float
    updates: str = ""


@dataclass(frozen=True)
class EditResult:
    """All methods on one edit, and the test errors of doing nothing and of editing the renderings."""

    edit: str
    no_edit: float
    edited_rendering: float
    methods: tuple[MethodResult, ...]

    def method(self, name: str) -> MethodResult:
        """The result of the method `name`."""
        return next(found for found in self.methods if found.method == name)


@dataclass(frozen=True)
class EditingResult:
    """What the benchmark measured on one zoo; `networks` counts those of each split, copies aside."""

    zoo_id: str
    zoo_name: str
    preset: str
    seeds: int
    networks: dict[str, int]
    edits: tuple[EditResult, ...]
    skipped: bool = False


@dataclass(eq=False)
class Editing(Benchmark[EditingResult]):
    """Every edit by every method under every seed; validation picks the weights, the test split is read once.

    Raises UsageError for unknown methods, presets and edits, and for what the zoo's images don't allow; and what
    `editable` raises.
    """

    name: ClassVar[str] = "editing"

    zoo: Zoo
    preset: str
    names: Sequence[str]
    edits: Sequence[str]
    num_seeds: int
    place: Place = HERE

    def __post_init__(self) -> None:
        called("preset", self.preset, dict.fromkeys(PRESETS))
        for name in self.names:
            called("model", name, LABELS)
        for edit in self.edits:
            called("edit", edit, EDITS)
        self.data = editable(self.zoo, self.place)
        for edit in self.edits:
            check_channels(edit, self.data.canvas.channels)
        self.methods = {name: method_settings(name, self.preset, self.data) for name in self.names}

    def settings(self) -> dict[str, dict[str, Any]]:
        return {SETTINGS: {"zoo_id": self.zoo.id, "preset": self.preset}} | {
            f"{name}.{SETTINGS}": asdict(chosen) | {"revision": METHODS[name].revision}
            for name, chosen in self.methods.items()
        }

    def cases(self) -> list[Case]:
        answers = [
            self.case(edit, name, seed)
            for edit in self.edits
            for name in self.methods
            for seed in range(self.num_seeds)
        ]
        return [*answers, *map(self.references_case, self.edits)]

    def case(self, edit: str, name: str, seed: int) -> Case:
        """A training."""
        return Case(f"{edit}/seed-{seed}/{name}.json", Answer, partial(self._learn, edit, name, seed))

    def references_case(self, edit: str) -> Case:
        """What needs no training."""
        return Case(f"{edit}/references.json", References, partial(self._references, edit))

    def _learn(self, edit: str, name: str, seed: int, out: Path, report: Reporter) -> Answer:
        data, chosen = self.data, self.methods[name]
        config, networks = replace(chosen.training, seed=seed), data.networks(chosen.copies)
        loaders = training_loaders(networks, config, data.place, images=True)
        with seeded(config.seed, "editing"):
            model = build_method(name, chosen.config, data)
        if isinstance(model, RenderedEditor):
            model.editor.fit(networks.select(split="train").loader(BATCH_SIZE, targets=()))
        task = EditingTask(model.to(data.place.device), loaders["validation"], EDITS[edit])
        stage = f"{LABELS[name]} learns to {edit}, seed {seed}"
        started = time.perf_counter()
        folder = out / edit / f"seed-{seed}" / name
        result = train(task, EndlessBatches(loaders["train"]), config, folder, stage, report)
        seconds = time.perf_counter() - started
        model.eval()
        test = measure_edits(model.reconstruct, data, edit, config.batch_size)
        return Answer(test, result.best_score, result.best_step, count_parameters(model), seconds)

    def _references(self, edit: str, out: Path, report: Reporter) -> References:
        render, operation = self.data.canvas.render, EDITS[edit]
        no_edit = measure_edits(render, self.data, edit)
        edited = measure_edits(lambda networks: edited_images(render(networks), operation), self.data, edit)
        first = next(iter(self.data.test_loader(NUM_EXAMPLES)))
        originals, targets = Pictures.of(source_images(first)), Pictures.of(target_images(first, operation))
        return References(no_edit, edited, originals, targets, tuple(first.rows.tolist()))

    def result(self, answers: Mapping[str, Any], out: Path) -> EditingResult:
        networks = {split: self.data.count(split) for split in SPLITS}
        edits = tuple(self._edit_result(edit, answers) for edit in self.edits)
        return EditingResult(self.zoo.id, self.zoo.info.name, self.preset, self.num_seeds, networks, edits)

    def _edit_result(self, edit: str, answers: Mapping[str, Any]) -> EditResult:
        references = answers[self.references_case(edit).file]
        methods = []
        for name, chosen in self.methods.items():
            found = [answers[self.case(edit, name, seed).file] for seed in range(self.num_seeds)]
            methods.append(
                MethodResult(
                    method=name,
                    test_mse=tuple(answer.test.mse for answer in found),
                    validation_mse=tuple(answer.validation_mse for answer in found),
                    best_steps=tuple(answer.best_step for answer in found),
                    num_parameters=found[0].num_parameters,
                    seconds=sum(answer.seconds for answer in found),
                    updates=updates_of(chosen.training),
                )
            )
        return EditResult(edit, references.no_edit.mse, references.edited_rendering.mse, tuple(methods))

    def tables(self, result: EditingResult) -> list[Table]:
        return results_tables(result)

    def machine_readable(self, result: EditingResult) -> dict[str, Any]:
        scores = {
            found.edit: {"no-edit": found.no_edit, "edit-of-the-rendering": found.edited_rendering}
            | {method.method: fmean(method.test_mse) for method in found.methods}
            for found in result.edits
        }
        return {"scores": scores, **asdict(result)}

    def page(self, result: EditingResult, out: Path) -> Page:
        counts, methods = result.networks, [method for found in result.edits for method in found.methods]
        sections: list[Section] = []
        for found in result.edits:
            caption = f"{found.edit}: the first test networks"
            examples = Drawing(self.examples(found.edit, out), caption, f"{found.edit}.png")
            sections += _sections(found, result.seeds, examples)
        names = ",".join(dict.fromkeys(method.method for method in methods))
        return Page(
            title=f"Editing INRs: {result.zoo_name}",
            subtitle=f"{counts['train']:,} SIRENs to learn from, {counts['validation']:,} to pick by, "
            f"{counts['test']:,} to be tested on.",
            numbers=tuple(map(_number, result.edits)),
            sections=tuple(sections),
            facts={
                "command": f"zoo bench editing --zoo {result.zoo_name}.zoo --preset {result.preset} --model {names} "
                f"--edit {','.join(found.edit for found in result.edits)} --seeds {result.seeds}",
                "zoo id": result.zoo_id,
                "seconds": f"{sum(method.seconds for method in methods):.0f} in the calls that finished the trainings",
            },
        )

    def examples(self, edit: str, out: Path) -> Figure:
        """The first test networks: originals, targets, what is there without a method, and every method's edits."""
        references = self.references_case(edit).read(out)
        rows: dict[str, Pictures] = {
            "original": references.originals,
            "target": references.targets,
            _NO_EDIT: references.no_edit.examples,
            _EDITED: references.edited_rendering.examples,
        }
        rows |= {LABELS[name]: self.case(edit, name, 0).read(out).test.examples for name in self.methods}
        drawn = {name: [from_pixels(pixels) for pixels in pictures.pixels()] for name, pictures in rows.items()}
        return gallery(drawn, [f"row {row}" for row in references.rows])


class EditingTask:
    """The training: the mean squared error against the edited source images."""

    def __init__(self, model: RenderedEditor | INR2JLS, validation: Loader, edit: Edit) -> None:
        self.model, self.validation, self.edit = model, validation, edit

    def loss(self, batch: GraphBatch) -> Tensor:
        """The model's error on a batch."""
        return self.model.loss(batch, target_images(batch, self.edit))

    def validate(self) -> float:
        """The error on the validation split."""
        return mean_over(self.validation, self.loss)

    def describe(self, batch: GraphBatch) -> str:
        """The rows of the batch in the zoo's table."""
        return describe_rows(batch)


@torch.no_grad()
def measure_edits(
    to_images: Callable[[GraphBatch], Tensor], data: EditableZoo, edit: str, batch_size: int = BATCH_SIZE
) -> Measured:
    """How far the images that `to_images` makes of the test networks are from the edited source images.

    Raises NumericalError where that isn't finite.
    """
    shown: list[Tensor] = []

    def error(batch: GraphBatch) -> Tensor:
        images = to_images(batch)
        shown.append(images[: NUM_EXAMPLES - sum(map(len, shown))])
        return (images - target_images(batch, EDITS[edit])).square().mean()

    mse = mean_over(data.test_loader(batch_size), error)
    if not math.isfinite(mse):
        raise NumericalError(
            f"test networks render no finite images: their error is {mse}", hint="leave out what diverged: zoo subset"
        )
    return Measured(mse, Pictures.of(torch.cat(shown)))


def target_images(batch: GraphBatch, edit: Edit) -> Images:
    """The edited source images, in [-1, 1]."""
    return edited_images(source_images(batch), edit)


def edited_images(images: Images, edit: Edit) -> Images:
    """What an edit of pixels makes of images in [-1, 1]."""
    pixels = torch.from_numpy(edit(to_pictures(images)))
    return to_unit_range(pixels.to(images.device))


def results_tables(result: EditingResult) -> list[Table]:
    """For each edit a table of the editors of weights, and where there are any, one of the predictors of images."""
    sections = [section for found in result.edits for section in _sections(found, result.seeds)]
    return [section.table for section in sections if section.table is not None]


def _sections(found: EditResult, seeds: int, *drawings: Drawing) -> list[Section]:
    header = ("method", "parameters", "updates", "test MSE", "of no edit", "validation MSE")
    references = [
        (name, "", "", f"{mse:.4f}", f"{mse / found.no_edit:.3f}" if found.no_edit else "-", "")
        for name, mse in ((_NO_EDIT, found.no_edit), (_EDITED, found.edited_rendering))
    ]
    editors = [_row(method, found) for method in found.methods if method.method not in PREDICTORS]
    predictors = tuple(_row(method, found) for method in found.methods if method.method in PREDICTORS)
    sections = [
        Section(
            f"Editing weights: {found.edit}",
            "A method is given the weights of a SIREN and changes them; what the changed SIREN renders is compared "
            "with the edited source image. Validation picks the step, the test split is read once.",
            drawings,
            Table(
                f"{found.edit}: test MSE of edited SIRENs in [-1, 1], {over_seeds(seeds)}",
                header,
                (*references, *editors),
                "'of no edit' compares with the unedited SIRENs. The edit of the rendering knows the operation, but "
                "not the source image: what remains is the error of the SIRENs themselves.",
            ),
        )
    ]
    if predictors:
        caption = f"{found.edit}: test MSE of edited images predicted from weights, {over_seeds(seeds)}"
        note = "No SIREN is edited: a decoder paints the image, so this is another task than the table above."
        text = "The same pictures from the same weights, but painted by a decoder instead of rendered by a SIREN."
        table = Table(caption, header, predictors, note)
        sections.append(Section(f"Predicting the image: {found.edit}", text, table=table))
    return sections


def _row(method: MethodResult, found: EditResult) -> tuple[str, ...]:
    relative = [mse / found.no_edit for mse in method.test_mse] if found.no_edit else []
    return (
        LABELS[method.method],
        f"{method.num_parameters:,}",
        method.updates,
        spread(method.test_mse, 4),
        spread(relative, 3) if relative else "-",
        spread(method.validation_mse, 4),
    )


def _number(found: EditResult) -> tuple[str, str]:
    editors = [method for method in found.methods if method.method not in PREDICTORS]
    if not editors:
        return f"{found.no_edit:.4f}", f"test MSE of no edit, {found.edit}"
    # By validation: the lowest of several test errors would be too low to be expected again.
    best = min(editors, key=lambda method: fmean(method.validation_mse))
    label = LABELS[best.method] + ", best on validation" * (len(editors) > 1)
    return f"{fmean(best.test_mse):.4f}", f"test MSE, {found.edit}: {label} (no edit {found.no_edit:.4f})"
