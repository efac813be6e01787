"""Running a store's architectures, and a sample of its networks to compare what they compute with what was recorded."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from zootool.build.classifier.classifier_data import classifier_data, levels_of
from zootool.build.recipe import RECIPE_KINDS, ClassifierRecipe
from zootool.errors import FormatError, IntegrityError, MissingError, UsageError
from zootool.images import load_images
from zootool.loader.batch_images import MAX_IMAGES, SOURCE_INDEX, ImageJoin, image_keys
from zootool.nets.network import Network, fitting_input
from zootool.nets.rendering import GRIDS, indexing_of, psnr, render
from zootool.progress import Reporter
from zootool.store.reader import Store
from zootool.store.verification import Verification
from zootool.validation import validate
from zootool.zoo.zoo import Zoo

ACCURACY = "test_accuracy"

TOLERANCE_IMAGES = 2
"""Images that may change sides: two classes may be as likely as one another up to rounding."""

PSNR_TOLERANCE = 0.01
"""Decibels. The fit's last loss was computed in another order of sums, and by other sine and cosine polynomials."""

UPRIGHT_DECIBELS = 1.0
"""How much better a sample has to fit its images transposed before the recorded grid is called wrong."""

_MAX_RUNS = 1000
_BATCH = 1000


def run_architectures(store: Store, result: Verification, seed: int, report: Reporter) -> None:
    """Run up to 1,000 of a store's architectures on torch's meta device, where size costs nothing.

    What sizes of tensors alone don't tell shows there: architectures that can't be run are added to `result`.
    """
    signatures = sorted(store.architectures)
    if len(signatures) > _MAX_RUNS:
        chosen = np.random.default_rng(seed).choice(len(signatures), _MAX_RUNS, replace=False)
        result.skipped.append(f"running: {_MAX_RUNS} of {len(signatures)} architectures were chosen at random")
        signatures = [signatures[number] for number in sorted(chosen.tolist())]
    shapes = [source.shape for source in store.info.sources if source.shape]
    for done, signature in enumerate(signatures):
        report("running architectures", done, len(signatures))
        architecture = store.architectures[signature]
        try:
            with torch.device("meta"):
                module = Network(architecture).float().eval()
        except FormatError as error:
            # What can be stored without loss needn't be a module.
            result.skipped.append(f"running {signature}: {error.message}")
            continue
        try:
            if fitting_input(module, architecture, shapes) is None:
                result.skipped.append(f"running {signature}: the image size that its flatten needs isn't known")
        except FormatError as error:
            result.problems.append(f"architecture {signature} can't be run: {error.message}")
    report("running architectures", len(signatures), len(signatures))
    several = "1 architecture" if len(signatures) == 1 else f"{len(signatures)} architectures"
    result.checked.append(f"{several} run on shapes alone")


def check_metrics(store: Store, result: Verification, sample: int, seed: int, report: Reporter) -> None:
    """Add the differences between recorded and recomputed metrics of `sample` networks to `result`.

    SIRENs without a recorded PSNR are rendered too: whether they show their source images, and upright.
    """
    columns = store.nets.column_names
    classifies = ACCURACY in columns and "psnr" not in columns
    try:
        if classifies:
            chosen, recorded = _sample(store, ACCURACY, [], sample, seed)
            problems = _check_accuracy(Zoo(store), chosen, recorded, report)
        elif "psnr" in columns or store.info.kind != "siren":
            chosen, recorded = _sample(store, "psnr", [SOURCE_INDEX], sample, seed)
            problems = _check_psnr(_Rendered(store, chosen, report), recorded)
        else:
            chosen, _ = _sample(store, SOURCE_INDEX, [], sample, seed)
            problems = _check_pictures(_Rendered(store, chosen, report))
    except (MissingError, FormatError, UsageError) as error:
        # Not having the images is no fault of the store.
        result.skipped.append(f"{'classifying' if classifies else 'rendering'}: {error.message}")
        return
    except IntegrityError as error:
        result.problems.append(error.message)
        return
    result.problems += problems
    what = "PSNR" if "psnr" in columns else "pictures"
    result.checked.append(
        f"accuracy of {len(chosen)} rebuilt networks" if classifies else f"{what} of {len(chosen)} rendered networks"
    )


def _sample(store: Store, metric: str, also: list[str], size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of networks that have a recorded metric, and the metric."""
    if not {metric, *also} <= set(store.nets.column_names):
        raise MissingError("the table records no PSNR of a source image, and no accuracy")
    recorded = store.nets.read([metric])[metric].cast(pa.float64(), safe=False).to_numpy()
    known = np.flatnonzero(np.isfinite(recorded))
    if len(known) == 0:
        raise MissingError(f"no network has a finite {metric}")
    chosen = np.sort(np.random.default_rng(seed).choice(known, min(size, len(known)), replace=False))
    return chosen, recorded[chosen]


def _check_accuracy(zoo: Zoo, chosen: np.ndarray, recorded: np.ndarray, report: Reporter) -> list[str]:
    """The networks at rows `chosen` that classify another share of the test images than `recorded`, in words.

    Raises MissingError where the recipe or the image set isn't known here.
    """
    plain: dict[str, Any] = zoo.info.recipe
    kind = RECIPE_KINDS.get(str(plain.get("kind")))
    if kind is None or not issubclass(kind, ClassifierRecipe):
        raise MissingError("zoo.json doesn't say how images become inputs")
    recipe = validate(kind, plain, "the recipe in zoo.json")
    if len(zoo.info.sources) != 1:
        raise MissingError(f"the networks were trained on {len(zoo.info.sources)} image sets")
    source = zoo.info.sources[0]
    image_set = load_images(source.name, partial=source.is_partial or None)
    if source.digest is not None and image_set.digest != source.digest:
        raise MissingError(f"the image set {source.name} here isn't the one that the networks were trained on")
    test = classifier_data(image_set, recipe).test
    images = torch.from_numpy(levels_of(recipe.target)[np.moveaxis(test.pixels, -1, 1)])
    problems = []
    for done, row in enumerate(chosen.tolist()):
        report("classifying images", done, len(chosen))
        module = zoo.module(row)
        dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), images.dtype)
        with torch.no_grad():
            guesses = torch.cat([module(part.to(dtype)).argmax(dim=1) for part in images.split(_BATCH)])
        right = int((guesses.numpy() == test.labels).sum())
        if not abs(right - recorded[done] * len(images)) <= TOLERANCE_IMAGES:
            share = right / len(images)
            problems.append(f"network {row} classifies {share:.4f} of the images, recorded are {recorded[done]:.4f}")
    report("classifying images", len(chosen), len(chosen))
    return problems


class _Rendered:
    """PSNR of some networks of a store, as zoo.json says they are rendered, transposed, and of a grey plane."""

    def __init__(self, store: Store, chosen: np.ndarray, report: Reporter) -> None:
        zoo = Zoo(store)
        self.rows = chosen.tolist()
        self.failures: dict[int, str] = {}
        self.grid = ""
        decibels = np.full((len(chosen), 3), np.nan)
        self.upright, self.transposed, self.plane = decibels.T
        sources = [store.info.sources[number] for number in image_keys(store)[chosen] // MAX_IMAGES]
        images = ImageJoin(store, chosen).images(torch.arange(len(chosen))).numpy()
        for done, (row, source, pixels) in enumerate(zip(self.rows, sources, images, strict=True)):
            report("rendering networks", done, len(chosen))
            indexing, target = indexing_of(source.grid), source.target
            if indexing is None or target is None:
                raise MissingError(f"zoo.json doesn't say how images of {source.name} become coordinates and targets")
            self.grid = self.grid or GRIDS[indexing]
            height, width, _ = pixels.shape
            module = zoo.module(row)
            grey = target[0] + (target[1] - target[0]) * pixels.mean() / 255
            try:
                rendered = render(module, height, width, indexing)
                other = render(module, height, width, "xy" if indexing == "ij" else "ij")
            except FormatError as error:
                self.failures[row] = f"network {row} can't render its image: {error.message}"
                continue
            pictures = (rendered, other, np.full(rendered.shape, grey))
            decibels[done] = [psnr(picture, pixels, target) for picture in pictures]
        report("rendering networks", len(chosen), len(chosen))

    def transposition(self) -> list[str]:
        """A problem where the other grid fits the images better."""
        gain = float(np.nanmedian(self.transposed - self.upright)) if len(self.failures) < len(self.rows) else 0.0
        if not gain > UPRIGHT_DECIBELS:
            return []
        return [f"rendered transposed, {len(self.rows)} networks fit their images better by {gain:.1f} dB: "
                f"the grid isn't {self.grid!r}"]  # fmt: skip


def _check_psnr(rendered: _Rendered, recorded: np.ndarray) -> list[str]:
    problems = [
        rendered.failures.get(row, f"network {row} renders its image at {value:.3f} dB, recorded are {wanted:.3f} dB")
        for row, value, wanted in zip(rendered.rows, rendered.upright, recorded, strict=True)
        if not abs(value - wanted) <= PSNR_TOLERANCE
    ]
    return problems + (rendered.transposition() if problems else [])


def _check_pictures(rendered: _Rendered) -> list[str]:
    problems = [*rendered.failures.values(), *rendered.transposition()]
    best = np.maximum(rendered.upright, rendered.transposed)
    lost = int((best <= rendered.plane).sum())
    if 2 * lost > len(rendered.rows):
        problems.append(
            f"{lost} of {len(rendered.rows)} networks render their image worse than a grey plane does: "
            "source_index, or the target of the image set, isn't theirs"
        )
    return problems
