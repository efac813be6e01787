"""Rebuilding a sample of a zoo's networks, and comparing what they compute with what was recorded about them."""

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from zootool.errors import FormatError, MissingError, UsageError
from zootool.loader.images import MAX_IMAGES, SOURCE_INDEX, ImageJoin, image_keys
from zootool.progress import Reporter
from zootool.store.reader import Store
from zootool.store.schema import ImageSource
from zootool.store.verify import Verification
from zootool.zoo.accuracy import ACCURACY, check_accuracy
from zootool.zoo.zoo import Zoo

PSNR_TOLERANCE = 0.01
"""Decibels. The fit's last loss was computed in another order of sums, and by other sine and cosine polynomials."""

_PLAIN_GRID = "linspace(-1, 1), ij"


def check_metrics(store: Store, result: Verification, sample: int, seed: int, report: Reporter) -> None:
    """Add the differences between recorded and recomputed metrics of `sample` networks to `result`."""
    classifies = ACCURACY in store.nets.column_names and "psnr" not in store.nets.column_names
    try:
        if classifies:
            chosen, recorded = _sample(store, ACCURACY, [], sample, seed)
            problems = check_accuracy(Zoo(store), chosen, recorded, report)
        else:
            chosen, recorded = _sample(store, "psnr", [SOURCE_INDEX], sample, seed)
            problems = _check_psnr(Zoo(store), chosen, recorded, report)
    except (MissingError, FormatError, UsageError) as error:
        # Not having the images is no fault of the store.
        result.skipped.append(f"{'classifying' if classifies else 'rendering'}: {error.message}")
        return
    result.problems += problems
    result.checked.append(
        f"accuracy of {len(chosen)} rebuilt networks" if classifies else f"PSNR of {len(chosen)} rendered networks"
    )


def render(module: torch.nn.Module, height: int, width: int) -> Float[np.ndarray, "height width channels"]:
    """The image that a network of coordinates computes on the grid linspace(-1, 1) in ij order."""
    axes = [torch.linspace(-1, 1, size) for size in (height, width)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    with torch.no_grad():
        return module(grid).numpy()


def psnr(rendered: np.ndarray, pixels: np.ndarray, target: tuple[float, float]) -> float:
    """Peak signal-to-noise ratio in decibels of an image against uint8 pixels, whose 0..255 stand for `target`."""
    span = target[1] - target[0]
    wanted = pixels / 255 * span + target[0]
    mse = float(np.mean((rendered.astype(np.float64) - wanted) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(span**2 / mse))


def _sample(store: Store, metric: str, also: list[str], size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of networks that have a recorded metric, and the metric."""
    if not {metric, *also} <= set(store.nets.column_names):
        raise MissingError("the table records no PSNR of a source image, and no accuracy")
    column = store.nets.read([metric])[metric]
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise FormatError(f"the column {metric} holds {column.type}, no numbers")
    recorded = column.cast(pa.float64(), safe=False).to_numpy()
    known = np.flatnonzero(np.isfinite(recorded))
    if len(known) == 0:
        raise MissingError(f"no network has a finite {metric}")
    chosen = np.sort(np.random.default_rng(seed).choice(known, min(size, len(known)), replace=False))
    return chosen, recorded[chosen]


def _check_psnr(zoo: Zoo, chosen: np.ndarray, recorded: np.ndarray, report: Reporter) -> list[str]:
    targets = [_target_of(zoo.info.sources[number]) for number in image_keys(zoo.store)[chosen] // MAX_IMAGES]
    images = ImageJoin(zoo.store, chosen).images(torch.arange(len(chosen))).numpy()
    problems = []
    for done, (row, pixels) in enumerate(zip(chosen.tolist(), images, strict=True)):
        report("rendering networks", done, len(chosen))
        try:
            rendered = render(zoo.module(row), *pixels.shape[:2])
        except FormatError as error:
            problems.append(f"network {row} can't render its image: {error.message}")
            continue
        value = psnr(rendered, pixels, targets[done])
        if not abs(value - recorded[done]) <= PSNR_TOLERANCE:
            problems.append(f"network {row} renders its image at {value:.3f} dB, recorded are {recorded[done]:.3f} dB")
    report("rendering networks", len(chosen), len(chosen))
    return problems


def _target_of(source: ImageSource) -> tuple[float, float]:
    if source.grid != _PLAIN_GRID or source.target is None:
        raise MissingError(f"zoo.json doesn't say how images of {source.name} become coordinates and targets")
    return source.target
