"""Rebuilding a sample of a zoo's networks, and comparing what they compute with what was recorded about them."""

import numpy as np
import pyarrow as pa
import torch

from zootool.errors import FormatError, IntegrityError, MissingError, UsageError
from zootool.loader.images import MAX_IMAGES, SOURCE_INDEX, ImageJoin, image_keys
from zootool.nets.rendering import GRIDS, Indexing, indexing_of, psnr, render
from zootool.progress import Reporter
from zootool.store.reader import Store
from zootool.store.schema import ImageSource
from zootool.store.verify import Verification
from zootool.zoo.accuracy import ACCURACY, check_accuracy
from zootool.zoo.zoo import Zoo

PSNR_TOLERANCE = 0.01
"""Decibels. The fit's last loss was computed in another order of sums, and by other sine and cosine polynomials."""

UPRIGHT_DECIBELS = 1.0
"""How much better a sample has to fit its images transposed before the recorded grid is called wrong."""


def check_metrics(store: Store, result: Verification, sample: int, seed: int, report: Reporter) -> None:
    """Add the differences between recorded and recomputed metrics of `sample` networks to `result`.

    SIRENs without a recorded PSNR are rendered too: whether they show their source images, and upright.
    """
    columns = store.nets.column_names
    classifies = ACCURACY in columns and "psnr" not in columns
    try:
        if classifies:
            chosen, recorded = _sample(store, ACCURACY, [], sample, seed)
            problems = check_accuracy(Zoo(store), chosen, recorded, report)
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
    column = store.nets.read([metric])[metric]
    recorded = column.cast(pa.float64(), safe=False).to_numpy()
    known = np.flatnonzero(np.isfinite(recorded))
    if len(known) == 0:
        raise MissingError(f"no network has a finite {metric}")
    chosen = np.sort(np.random.default_rng(seed).choice(known, min(size, len(known)), replace=False))
    return chosen, recorded[chosen]


class _Rendered:
    """PSNR of some networks of a store, as zoo.json says they are rendered, and transposed."""

    def __init__(self, store: Store, chosen: np.ndarray, report: Reporter) -> None:
        zoo = Zoo(store)
        self.rows = chosen.tolist()
        self.indexing: list[Indexing] = []
        self.failures: dict[int, str] = {}
        self.upright, self.transposed, self.plane = (np.empty(len(chosen)) for _ in range(3))
        sources = [store.info.sources[number] for number in image_keys(store)[chosen] // MAX_IMAGES]
        images = ImageJoin(store, chosen).images(torch.arange(len(chosen))).numpy()
        for done, (row, source, pixels) in enumerate(zip(self.rows, sources, images, strict=True)):
            report("rendering networks", done, len(chosen))
            indexing, target = _conventions_of(source)
            height, width, _ = pixels.shape
            self.indexing.append(indexing)
            module = zoo.module(row)
            try:
                rendered = render(module, height, width, indexing)
                other = render(module, height, width, "xy" if indexing == "ij" else "ij")
            except FormatError as error:
                self.failures[row] = f"network {row} can't render its image: {error.message}"
                self.upright[done] = self.transposed[done] = self.plane[done] = np.nan
                continue
            self.upright[done] = psnr(rendered, pixels, target)
            self.transposed[done] = psnr(other, pixels, target)
            grey = np.full(rendered.shape, target[0] + (target[1] - target[0]) * pixels.mean() / 255)
            self.plane[done] = psnr(grey, pixels, target)
        report("rendering networks", len(chosen), len(chosen))

    def transposition(self) -> list[str]:
        """A problem where the other grid fits the images better."""
        gain = float(np.nanmedian(self.transposed - self.upright)) if len(self.failures) < len(self.rows) else 0.0
        if not gain > UPRIGHT_DECIBELS:
            return []
        known = GRIDS[self.indexing[0]]
        return [f"rendered transposed, {len(self.rows)} networks fit their images better by {gain:.1f} dB: "
                f"the grid isn't {known!r}"]  # fmt: skip


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


def _conventions_of(source: ImageSource) -> tuple[Indexing, tuple[float, float]]:
    indexing = indexing_of(source.grid)
    if indexing is None or source.target is None:
        raise MissingError(f"zoo.json doesn't say how images of {source.name} become coordinates and targets")
    return indexing, source.target
