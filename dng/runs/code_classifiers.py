"""The classifier of a benchmark's codes beside its weights, so that a trained run can classify other networks."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dng.methods.inr2array import LatentTransformer, LatentTransformerConfig
from dng.models.heads import CodeClassifier, LatentClassifier
from dng.runs.builders import ClassifierOfCodes, build_code_classifier
from dng.runs.inr2array_presets import INR2ArrayPreset
from dng.runs.two_stage import ClassificationPreset, TwoStagePreset
from dng.training.checkpoint import load_tensors, put_weights
from dng.training.claim import claim, read_json
from zootool.errors import MissingError
from zootool.records import from_plain

FOLDER = "latent-classifier"
_SPEC = "classifier.json"


@dataclass(frozen=True)
class CodeClassifierSpec:
    """What a code classifier is built from: the preset, the shape of one network's code, the number of classes."""

    preset: ClassificationPreset
    code_shape: tuple[int, ...]
    num_classes: int

    def build(self) -> LatentClassifier | CodeClassifier:
        """The classifier with initial weights from the current generators."""
        return build_code_classifier(self.preset, torch.empty(1, *self.code_shape), self.num_classes)


@dataclass(frozen=True)
class LatentTransformerSpec:
    """What the classifier of INR2ARRAY's latent grids is built from; `classifier` tells its file from others."""

    config: LatentTransformerConfig
    code_shape: tuple[int, ...]
    num_classes: int
    classifier: Literal["latent-transformer"] = "latent-transformer"

    def build(self) -> LatentTransformer:
        """The classifier with initial weights from the current generators."""
        return LatentTransformer(self.code_shape[-1], self.num_classes, self.config)


ClassifierSpec = CodeClassifierSpec | LatentTransformerSpec


def spec_of(preset: TwoStagePreset, first_code: Tensor, num_classes: int) -> ClassifierSpec:
    """The spec for codes like `first_code` (1, ...)."""
    code_shape = tuple(first_code.shape[1:])
    if isinstance(preset, INR2ArrayPreset):
        return LatentTransformerSpec(preset.classifier, code_shape, num_classes)
    return CodeClassifierSpec(preset, code_shape, num_classes)


def write_classifier_spec(run_dir: Path, spec: ClassifierSpec) -> None:
    """Write what `load_code_classifier` needs to build the classifier again, before its training starts."""
    claim(run_dir / _SPEC, asdict(spec))


def load_code_classifier(run_dir: Path) -> ClassifierOfCodes:
    """The classifier in a benchmark's folder, in evaluation mode, with the weights that validation picked.

    Raises MissingError where there is none, FormatError where its files don't fit together.
    """
    folder = run_dir / FOLDER
    if not (folder / _SPEC).exists():
        raise MissingError(
            f"{run_dir} holds no classifier",
            hint="give a run of `zoo bench inr-classification` or of `zoo train encoder`",
        )
    classifier = _read_spec(folder / _SPEC).build()
    put_weights(classifier, load_tensors(path := folder / "best.safetensors")[0], path)
    return classifier.eval()


def _read_spec(path: Path) -> ClassifierSpec:
    plain = read_json(path)
    is_transformer = isinstance(plain, dict) and "classifier" in plain
    return from_plain(LatentTransformerSpec if is_transformer else CodeClassifierSpec, plain, str(path))
