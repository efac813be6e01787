"""INR classification in two stages: learn codes without labels, then a classifier of the frozen codes (section 8.1).

INR2JLS learns them from images, INR2ARRAY from what the INRs render; the preset says which. The test split is read
once, by the classifier that validation picked. The preset's ablation exchanges a part of INR2JLS for another, as in the
paper's Tables 3, 4, 6 and 7.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from dng.bench.certainty import largest_share
from dng.bench.table import updates_of
from dng.data import Loader, Zoo
from dng.models.heads import count_parameters
from dng.models.model import Representation
from dng.runs.codes import FOLDER, CodeClassification, Latents, predict_codes, write_classifier_spec
from dng.runs.on_zoo import (
    HERE,
    Place,
    build_reader,
    fit_reader,
    fit_representation,
    prepare_representation,
    require_splits,
)
from dng.runs.tasks import Prediction, Target, by_row, read_target
from dng.runs.two_stage import ClassificationPreset, TwoStagePreset
from dng.training.claim import read_json
from dng.training.seed import derived_seed, seeded
from dng.training.train import train
from zootool.errors import BadDataError, UsageError, printable
from zootool.files import write_atomic, write_json_atomic
from zootool.progress import Reporter, silent
from zootool.records import from_plain

SPLITS = ("train", "validation", "test")
RESULTS = "results.json"

Control = Literal["none", "shuffled-labels"]


@dataclass(frozen=True)
class ClassificationResult:
    """What the benchmark measured; accuracies are fractions, `seconds` are those of this call.

    `validation_mse` is the reconstruction's, of the source images by INR2JLS and of the networks' renderings by
    INR2ARRAY; None where nothing is reconstructed. `num_parameters` counts the decoder as well. `updates` says how
    long each stage learned, `num_tested` on how many networks the accuracy is measured, and `largest_class` what share
    of these the most frequent class has; older runs don't know.
    """

    test_accuracy: float
    validation_accuracy: float
    validation_mse: float | None
    num_networks: int
    num_classes: int
    num_parameters: int
    zoo_id: str
    preset: str
    ablation: str
    seed: int
    control: str
    seconds: float
    skipped: bool
    model: str = "inr2jls"
    updates: str = ""
    num_tested: int = 0
    largest_class: float | None = None

    @property
    def chance(self) -> str:
        """What takes no knowledge of weights, in words: the most frequent test class, or one class among all."""
        if self.largest_class is None:
            return f"one of {self.num_classes} classes is {1 / self.num_classes:.1%}"
        return f"the most frequent class alone gives {self.largest_class:.1%}"


@dataclass(frozen=True)
class _Outcome:
    predictions: Tensor
    truth: Tensor
    validation_accuracy: float
    validation_mse: float | None
    num_parameters: int
    updates: str


def run_inr_classification(
    zoo: Zoo,
    preset_name: str,
    preset: TwoStagePreset,
    out: Path,
    control: Control = "none",
    place: Place = HERE,
    report: Reporter = silent,
) -> ClassificationResult:
    """Run the benchmark on `zoo` and leave models, metrics and results.json in `out`; finished parts are kept.

    The preset says which method: see `dng.runs.two_stage.two_stage_preset`.
    `control="shuffled-labels"` permutes the labels over the networks: accuracy must then fall to chance. Raises
    BadDataError where the zoo lacks labels or a split, RefusedError for networks that INR2ARRAY can't take, UsageError
    where `out` holds another run.
    """
    identity: dict[str, Any] = {
        "zoo_id": zoo.id,
        "model": preset.model,
        "preset": preset_name,
        "ablation": preset.ablation,
        "seed": preset.seed,
        "control": control,
    }
    done = read_result(out)
    if done is not None:
        _check_same(done, identity, out)
        return done
    started = time.perf_counter()
    labels = _labels(zoo, control, preset.seed).to(place.device)
    if isinstance(preset, ClassificationPreset) and preset.ablation == "encoder-only":
        outcome = _run_directly(zoo, preset, labels, out, place, report)
    else:
        outcome = _run_on_codes(zoo, preset, labels, out, place, report)
    _write_predictions(out, zoo, outcome)
    result = ClassificationResult(
        test_accuracy=(outcome.predictions == outcome.truth).float().mean().item(),
        validation_accuracy=outcome.validation_accuracy,
        validation_mse=outcome.validation_mse,
        num_networks=len(zoo),
        num_classes=_num_classes(labels),
        num_parameters=outcome.num_parameters,
        seconds=time.perf_counter() - started,
        skipped=False,
        updates=outcome.updates,
        num_tested=len(outcome.truth),
        largest_class=largest_share(outcome.truth.tolist()),
        **identity,
    )
    write_json_atomic(out / RESULTS, asdict(result))
    return result


def read_result(out: Path) -> ClassificationResult | None:
    """The finished result in `out`, marked as skipped, or None. Raises UsageError for that of another benchmark."""
    path = out / RESULTS
    if not path.exists():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or "test_accuracy" not in found:
        page = f"its own page is {out / 'report.html'}" if (out / "report.html").exists() else "give another folder"
        raise UsageError(f"{printable(out)} holds the run of another benchmark", hint=page)
    return replace(from_plain(ClassificationResult, found, str(path)), skipped=True)


def _check_same(done: ClassificationResult, identity: dict[str, Any], out: Path) -> None:
    for key, value in identity.items():
        if getattr(done, key) != value:
            raise UsageError(
                f"{out} holds a result with {key}={getattr(done, key)}, this run has {key}={value}",
                hint="choose another --out, or remove that folder",
            )


def _labels(zoo: Zoo, control: Control, seed: int) -> Int64[Tensor, " rows"]:
    """The label of every row of the store that belongs to `zoo`."""
    nets = zoo.nets
    if "label" not in nets or nets["label"].isna().any():
        raise BadDataError(
            f"{zoo.info.name} ({zoo.info.kind} networks) has networks without a label",
            hint="classification needs INRs of labelled images, as `zoo build siren` makes them; "
            "classifiers go to `zoo bench generalization`",
        )
    require_splits(zoo, SPLITS)
    target = read_target(zoo, "label")
    if not target.is_class:
        raise BadDataError("the labels aren't classes but fractions", hint="see the table with `zoo.nets`")
    labels = target.by_row[torch.from_numpy(zoo.rows)]
    if control == "shuffled-labels":
        generator = torch.Generator().manual_seed(derived_seed(seed, "shuffled labels"))
        labels = labels[torch.randperm(len(labels), generator=generator)]
    return by_row(zoo, labels)


def _num_classes(labels: Tensor) -> int:
    return int(labels.max()) + 1


def _run_on_codes(
    zoo: Zoo, preset: TwoStagePreset, labels: Tensor, out: Path, place: Place, report: Reporter
) -> _Outcome:
    model, validation_mse = _train_representation(zoo, preset, out, place, report)
    splits = {name: _latents(model, zoo, name, labels, place) for name in SPLITS}
    config = preset.classifier_training(splits["train"].batches_per_epoch)
    code_shape = tuple(splits["train"].first().shape[1:])
    spec = preset.code_classifier(code_shape, _num_classes(labels))
    write_classifier_spec(out / FOLDER, spec)
    with seeded(config.seed, "classifier"):
        classifier = spec.build().to(place.device)
    task = CodeClassification(classifier, splits["validation"], config.batch_size)
    batches = splits["train"].endless(config.batch_size, config.seed)
    result = train(task, batches, config, out / FOLDER, "training the classifier", report)
    predictions, truth = predict_codes(classifier, splits["test"], config.batch_size)
    num_parameters = sum(p.numel() for p in model.parameters()) + count_parameters(classifier)
    updates = updates_of(preset.reconstruction, config)
    return _Outcome(predictions, truth, result.best_score, validation_mse, num_parameters, updates)


def _run_directly(
    zoo: Zoo, preset: ClassificationPreset, labels: Tensor, out: Path, place: Place, report: Reporter
) -> _Outcome:
    settings, target = preset.encoder_only, Target("label", labels, _num_classes(labels))
    model = build_reader(zoo, target, settings)
    result = fit_reader(
        model, zoo, target, settings.training, out / model.kind,
        place=place, report=report, stage="training the encoder",
    )  # fmt: skip
    loader = zoo.select(split="test").loader(settings.training.batch_size, device=place.device, targets=())
    predictions, truth = Prediction(model, loader, labels).predict(loader)
    updates = updates_of(settings.training)
    return _Outcome(predictions, truth, result.best_score, None, count_parameters(model), updates)


def _train_representation(
    zoo: Zoo, preset: TwoStagePreset, out: Path, place: Place, report: Reporter
) -> tuple[Representation, float]:
    model, loaders = prepare_representation(zoo, preset, place)
    result = fit_representation(model, loaders, preset.reconstruction, out / model.kind, place, report)
    return model, result.best_score


def _latents(model: Representation, zoo: Zoo, split: str, labels: Tensor, place: Place) -> Latents:
    selected = zoo.select(split=split)

    def loader(batch_size: int, shuffle: bool, seed: int) -> Loader:
        return selected.loader(batch_size, shuffle=shuffle, seed=seed, device=place.device, targets=())

    return Latents(model, loader, lambda batch: labels[batch.rows], len(selected))


def _write_predictions(out: Path, zoo: Zoo, outcome: _Outcome) -> None:
    selected = zoo.select(split="test")
    # Loaders give networks of other node counts one after another, tables are in the zoo's order.
    places = np.argsort(selected.loader(1, targets=()).order(0).positions)
    table = selected.nets[["net_id"]]
    table["label"] = outcome.truth.cpu().numpy()[places]
    table["prediction"] = outcome.predictions.cpu().numpy()[places]
    write_atomic(out / "predictions.parquet", lambda sink: table.to_parquet(sink, index=False))
