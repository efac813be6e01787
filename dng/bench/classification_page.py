"""The report of a run of INR classification: one HTML file that holds its pictures in itself."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from dng.bench import figures
from dng.bench.certainty import accuracy_interval, too_few
from dng.bench.inr_classification import ClassificationResult, read_result
from dng.bench.page import Drawing, Page, Section
from dng.bench.pictures import decoded_images
from dng.models.model import Model, Representation
from dng.runs.load import load, model_dir
from dng.runs.on_zoo import first_batch
from dng.training.loop import read_metrics
from dng.zoo_data import Zoo, class_names, conventions, render_network
from zootool.errors import MissingError, UsageError

_GALLERY_COLUMNS = 10


def write_classification_report(zoo: Zoo, run_dir: Path, path: Path) -> None:
    """Write the report of the finished run in `run_dir` to `path`. Raises MissingError where it isn't finished."""
    result = read_result(run_dir)
    if result is None:
        raise MissingError(f"{run_dir} holds no finished run", hint="run `zoo bench inr-classification` first")
    if result.zoo_id != zoo.id:
        raise UsageError(f"{run_dir} was run on the zoo {result.zoo_id[:16]}, not on {zoo.id[:16]}")
    names = class_names(zoo, result.num_classes)
    predictions = pd.read_parquet(run_dir / "predictions.parquet")
    pictures, captions, text = _examples(load(run_dir), zoo.select(split="test"), names, predictions)
    Page(
        title=f"INR classification on {_image_set(zoo)}",
        subtitle=f"{result.num_networks:,} SIRENs, each fitted to one image; {result.model.upper()} and a classifier "
        "on its latents.",
        numbers=_numbers(result, zoo, len(predictions)),
        notes=_notes(result, zoo),
        sections=(
            _section(
                "What the networks know", text, figures.gallery(pictures, captions), "Each column: class as prediction"
            ),
            *_fit_section(zoo),
            _training_section(run_dir),
            _accuracy_section(result, names, predictions),
            _section(
                "The dynamic graph, timestamp by timestamp",
                "The first network as a dynamic graph. Each event adds a layer's nodes (coloured by bias) and the "
                "edges that lead to them (red positive, blue negative weights), and deletes what inference no longer "
                "needs (hollow).",
                figures.dynamic_graph(zoo.graph(0)),
                "Inference as a walk over timestamps",
            ),
        ),
        facts={
            "command": f"zoo bench inr-classification --zoo {zoo.info.name}.zoo "
            f"--model {result.model} --preset {result.preset} --ablation {result.ablation} --seed {result.seed}",
            "initialisation": _initialisation(zoo),
            "zoo id": result.zoo_id,
            "updates": result.updates or "not recorded",
            "seconds": f"{result.seconds:.0f} in the call that finished",
        },
    ).write(path)


def _numbers(result: ClassificationResult, zoo: Zoo, num_tested: int) -> tuple[tuple[str, str], ...]:
    few, found = too_few(num_tested, "test networks"), _psnr(zoo)
    psnr = [(f"{found.mean():.1f} dB", "mean PSNR")] if len(found) else []
    return (
        ("-", f"test accuracy: {few}") if few else (f"{result.test_accuracy:.1%}", "test accuracy"),
        (f"{result.validation_accuracy:.1%}", "validation accuracy"),
        *psnr,
        (f"{result.num_networks:,}", "networks"),
        (f"{result.num_parameters:,}", "parameters"),
    )


def _notes(result: ClassificationResult, zoo: Zoo) -> tuple[str, ...]:
    notes = []
    if _initialisation(zoo) == "shared":
        notes.append(
            "All networks of this zoo started from one shared initialisation. That is a regime of its own, and much "
            "easier than the usual one, where every network starts from its own random weights: don't compare this "
            "accuracy with published ones."
        )
    if result.ablation != "none":
        notes.append(f"This is the ablation {result.ablation!r}, not INR2JLS as published.")
    if result.control != "none":
        notes.append(f"This is a control run ({result.control}): the accuracy should be at chance.")
    if any(source.is_partial for source in zoo.info.sources):
        notes.append("The image set at hand was a part of the published one.")
    return tuple(notes)


def _image_set(zoo: Zoo) -> str:
    return ", ".join(source.name for source in zoo.info.sources) or zoo.info.name


def _initialisation(zoo: Zoo) -> str:
    return str(zoo.info.recipe.get("init", "not recorded"))


@torch.no_grad()
def _examples(
    model: Model, selected: Zoo, names: tuple[str, ...], predictions: pd.DataFrame
) -> tuple[dict[str, list[figures.Picture]], list[str], str]:
    """Pictures of the first test network of each class, their captions, and what they show."""
    _, first = np.unique(predictions["label"].to_numpy(), return_index=True)
    rows = first[:_GALLERY_COLUMNS].tolist()
    # One network at a time: selections, and batches of several, have an order of their own.
    batches = [first_batch(selected.take([row]).loader(1, images=True, targets=())) for row in rows]
    shown_in = [conventions(selected)[row] for row in rows]
    captions = [f"{names[a]} as {names[b]}" for a, b in predictions.iloc[rows][["label", "prediction"]].to_numpy()]
    images = [batch.images[0].numpy() for batch in batches if batch.images is not None]
    drawn = zip(rows, images, shown_in, strict=True)
    pictures = {
        "image": [figures.from_pixels(image) for image in images],
        "SIREN": [(render_network(selected, row, len(image), found) + 1) / 2 for row, image, found in drawn],
    }
    text = "Test networks: the image, and what the SIREN renders."
    if isinstance(model, Representation):
        pairs = zip(batches, shown_in, strict=True)
        decoded = [decoded_images(model, batch, [found])[0].numpy() for batch, found in pairs]
        pictures["decoded"] = [(image.transpose(1, 2, 0) + 1) / 2 for image in decoded]
        text = "Test networks: the image, what the SIREN renders, and what was decoded from the SIREN's weights alone."
    if any(None in (found.indexing, found.target) for found in shown_in):
        text += (
            " The zoo doesn't say which input of a SIREN is the row, or what it computes for black and white: "
            "renderings may be transposed, or too bright or dark."
        )
    return pictures, captions, text


def _psnr(zoo: Zoo) -> np.ndarray:
    """The PSNR of the networks that have a finite one; empty where the zoo records none."""
    if "psnr" not in zoo.nets:
        return np.empty(0)
    psnr = zoo.nets["psnr"].to_numpy(np.float64, na_value=np.nan)
    return psnr[np.isfinite(psnr)]


def _fit_section(zoo: Zoo) -> tuple[Section, ...]:
    psnr = _psnr(zoo)
    if not len(psnr):
        return ()
    low, high = np.percentile(psnr, [5, 95])
    left_out = f" {len(zoo) - len(psnr):,} networks without a finite one are left out." if len(psnr) < len(zoo) else ""
    text = (
        f"Mean {psnr.mean():.1f} dB, 5th percentile {low:.1f} dB, 95th {high:.1f} dB. Targets span 2, so PSNR is "
        f"10 log10(4 / MSE).{left_out}"
    )
    return (_section("How well the SIRENs fit", text, figures.psnr_histogram(psnr), "PSNR over all networks"),)


def _training_section(run_dir: Path) -> Section:
    first_stage, second_stage = read_metrics(model_dir(run_dir)), run_dir / "latent-classifier"
    if not second_stage.exists():
        curve = figures.training_curve(first_stage, "cross-entropy", "accuracy", log=False)
        text = "The encoder and its classifier learn together. Validation picks the weights."
        return _section("Training", text, curve, "Loss (grey) and accuracy (blue)")
    reconstruction = figures.training_curve(first_stage, "MSE", "MSE", log=True)
    classifier = figures.training_curve(read_metrics(second_stage), "cross-entropy", "accuracy", log=False)
    return Section(
        "Training",
        "First the model learns to decode images from weights, without labels; then a classifier learns from the "
        "frozen codes. Validation picks the weights of both.",
        (
            Drawing(reconstruction, "Error of the decoded images"),
            Drawing(classifier, "Classifier: loss (grey) and accuracy (blue)"),
        ),
    )


def _accuracy_section(result: ClassificationResult, names: tuple[str, ...], predictions: pd.DataFrame) -> Section:
    drawn = figures.confusion(predictions["label"].tolist(), predictions["prediction"].tolist(), names)
    low, high = accuracy_interval(result.test_accuracy, len(predictions))
    text = (
        f"{result.test_accuracy:.1%} of {len(predictions):,} test networks (95 % interval {low:.1%} - {high:.1%}); "
        f"{result.chance}. "
        "The test split was read once, by the classifier that validation picked."
    )
    return _section("Accuracy", text, drawn, "Share of each class called each class")


def _section(title: str, text: str, figure: Figure, caption: str) -> Section:
    return Section(title, text, (Drawing(figure, caption),))
