"""INR classification in two stages: learn codes without labels, then a classifier of the frozen codes (section 8.1).

INR2JLS learns them from images, INR2ARRAY from what the INRs render; the preset says which. The test split is read
once, by the classifier that validation picked. The preset's ablation exchanges a part of INR2JLS for another, as in the
paper's Tables 3, 4, 6 and 7.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from dng.bench.certainty import largest_share
from dng.bench.comparison import SPLITS, updates_of
from dng.bench.harness import RESULTS, Benchmark, Case
from dng.bench.page import Table
from dng.models.heads import count_parameters
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
from dng.training.loop import train
from dng.training.same_settings import claim, read_json
from dng.training.seed import derived_seed, seeded
from dng.zoo_data import Loader, Zoo
from zootool.errors import BadDataError, UsageError, printable
from zootool.files import write_atomic
from zootool.progress import Reporter
from zootool.records import from_plain

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


@dataclass(eq=False)
class INRClassification(Benchmark[ClassificationResult]):
    """One training of both stages; the preset says which method: see `dng.runs.two_stage.two_stage_preset`.

    `control="shuffled-labels"` permutes the labels over the networks: accuracy must then fall to chance. Raises
    BadDataError where the zoo lacks labels or a split, RefusedError for networks that INR2ARRAY can't take, UsageError
    for a folder that holds another run.
    """

    name: ClassVar[str] = "inr-classification"

    zoo: Zoo
    preset_name: str
    preset: TwoStagePreset
    control: Control = "none"
    place: Place = HERE

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this run from others."""
        return {
            "zoo_id": self.zoo.id,
            "model": self.preset.model,
            "preset": self.preset_name,
            "ablation": self.preset.ablation,
            "seed": self.preset.seed,
            "control": self.control,
        }

    def settings(self) -> dict[str, dict[str, Any]]:
        # Until there is a result, the trainings in the folder tell runs apart.
        return {}

    def claim(self, out: Path) -> None:
        if read_result(out) is not None:
            # The first results said no model: there was but one.
            claim(out / RESULTS, self.identity, update=lambda found: {"model": "inr2jls"} | found)

    def cases(self) -> list[Case]:
        return [Case(RESULTS, ClassificationResult, self._train)]

    def result(self, answers: Mapping[str, ClassificationResult], out: Path) -> ClassificationResult:
        return answers[RESULTS]

    def tables(self, result: ClassificationResult) -> list[Table]:
        return []

    def _train(self, out: Path, report: Reporter) -> ClassificationResult:
        started, zoo, labels = time.perf_counter(), self.zoo, _labels(self.zoo, self.control, self.preset.seed)
        target = Target("label", labels.to(self.place.device), int(labels.max()) + 1)
        is_direct = isinstance(self.preset, ClassificationPreset) and self.preset.ablation == "encoder-only"
        learn = self._learn_directly if is_direct else self._learn_on_codes
        predictions, truth, learned = learn(target, out, report)
        write_predictions(out, zoo, predictions, truth)
        return ClassificationResult(
            test_accuracy=(predictions == truth).float().mean().item(),
            num_networks=len(zoo),
            num_classes=target.num_outputs,
            seconds=time.perf_counter() - started,
            skipped=False,
            num_tested=len(truth),
            largest_class=largest_share(truth.tolist()),
            **learned,
            **self.identity,
        )

    def _learn_on_codes(self, target: Target, out: Path, report: Reporter) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Both stages: predictions and labels of the test networks, and what else is known of the training."""
        zoo, preset, place = self.zoo, self.preset, self.place
        model, loaders = prepare_representation(zoo, preset, place)
        first_stage = fit_representation(model, loaders, preset.reconstruction, out / model.kind, place, report)

        def latents(split: str) -> Latents:
            selected = zoo.select(split=split)

            def loader(batch_size: int, shuffle: bool, seed: int) -> Loader:
                return selected.loader(batch_size, shuffle=shuffle, seed=seed, device=place.device, targets=())

            return Latents(model, loader, lambda batch: target.by_row[batch.rows], len(selected))

        splits = {name: latents(name) for name in SPLITS}
        config = preset.classifier_training(splits["train"].batches_per_epoch)
        spec = preset.code_classifier(tuple(splits["train"].first().shape[1:]), target.num_outputs)
        write_classifier_spec(out / FOLDER, spec)
        with seeded(config.seed, "classifier"):
            classifier = spec.build().to(place.device)
        task = CodeClassification(classifier, splits["validation"], config.batch_size)
        batches = splits["train"].endless(config.batch_size, config.seed)
        result = train(task, batches, config, out / FOLDER, "training the classifier", report)
        return *predict_codes(classifier, splits["test"], config.batch_size), {
            "validation_accuracy": result.best_score,
            "validation_mse": first_stage.best_score,
            "num_parameters": sum(p.numel() for p in model.parameters()) + count_parameters(classifier),
            "updates": updates_of(preset.reconstruction, config),
        }

    def _learn_directly(self, target: Target, out: Path, report: Reporter) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """The ablation without codes: encoder and classifier together."""
        assert isinstance(self.preset, ClassificationPreset), "INR2ARRAY has no such ablation"
        zoo, settings, place = self.zoo, self.preset.encoder_only, self.place
        model, stage, config = build_reader(zoo, target, settings), "training the encoder", settings.training
        result = fit_reader(model, zoo, target, config, out / model.kind, place=place, report=report, stage=stage)
        loader = zoo.select(split="test").loader(config.batch_size, device=place.device, targets=())
        return *Prediction(model, loader, target.by_row).predict(loader), {
            "validation_accuracy": result.best_score,
            "validation_mse": None,
            "num_parameters": count_parameters(model),
            "updates": updates_of(config),
        }


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


def write_predictions(out: Path, zoo: Zoo, predictions: Tensor, truth: Tensor) -> None:
    """Write the test networks' predictions and labels, given in the loader's order, as predictions.parquet."""
    selected = zoo.select(split="test")
    # Loaders give networks of other node counts one after another, tables are in the zoo's order.
    places = np.argsort(selected.loader(1, targets=()).order(0).positions)
    table = selected.nets[["net_id"]]
    table["label"] = truth.cpu().numpy()[places]
    table["prediction"] = predictions.cpu().numpy()[places]
    write_atomic(out / "predictions.parquet", lambda sink: table.to_parquet(sink, index=False))
